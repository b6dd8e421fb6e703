"""Trees of summaries searched as one heap: what a summary is about brings the chunks under it.

Source: RAPTOR's collapsed tree, Sarthi et al., arXiv 2401.18059: summaries and chunks are ranked together by their
vectors. Differs from the paper: what is found is always chunks, so that what is quoted stands in the source; a chunk
scores its own cosine or, where that is more, its mean with the best summary above it.

Trees are grown by a model (`trees/growing.py`), so this has no name among the catalogue's indexes: make it with what
`Grower.grow` returns, or `Shelf.trees.load`, and search it like any other. Searching asks no model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from readthrough.retrieval.base import Among
from readthrough.retrieval.embedding import embed_queries
from readthrough.retrieval.trees.base import Ground, Tree


class TreeIndex:
    """Chunks by their own vectors and those of the summaries above them."""

    def __init__(self, ground: Ground, trees: Mapping[str, Tree]) -> None:
        """`trees` by document; the chunks of a document without one are found by their own vectors."""
        self._ground = ground
        self._trees = trees

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, score)."""
        chunk_ids = self._ground.chunk_array(among)
        if not query.strip() or not len(chunk_ids):
            return []
        vector = embed_queries(self._ground.embedder, [query])[0]
        own = self._ground.vectors(chunk_ids.tolist()) @ vector
        above = np.full(len(chunk_ids), -np.inf, dtype=own.dtype)
        for document, tree in self._trees.items():
            rows = self._rows(document, chunk_ids)
            for positions, score in zip(tree.below, tree.vectors @ vector if tree.nodes else (), strict=True):
                inside = rows[positions]
                inside = inside[inside >= 0]
                above[inside] = np.maximum(above[inside], score)
        scores = np.maximum(own, (own + above) / 2)
        best = np.argsort(-scores, kind="stable")[:k]
        return [(int(chunk_ids[row]), float(scores[row])) for row in best]

    def summaries(self, query: str, k: int, among: Among = None) -> list[tuple[str, int, float]]:
        """The `k` summaries nearest to a query, of those with a chunk in `among`: (document, number, cosine)."""
        chunk_ids = self._ground.chunk_array(among)
        if not query.strip() or not len(chunk_ids):
            return []
        vector = embed_queries(self._ground.embedder, [query])[0]
        found: list[tuple[str, int, float]] = []
        for document, tree in self._trees.items():
            rows = self._rows(document, chunk_ids)
            for place, positions in enumerate(tree.below):
                if (rows[positions] >= 0).any():
                    found.append((document, tree.leaves + place, float(tree.nodes[place].summary.vector @ vector)))
        return sorted(found, key=lambda each: -each[2])[:k]

    def _rows(self, document: str, chunk_ids: np.ndarray) -> np.ndarray:
        """Where each chunk of a document stands in `chunk_ids` (ascending), -1 where it does not."""
        own = np.array(self._ground.chunk_ids(document), dtype=np.int64)
        rows = np.searchsorted(chunk_ids, own)
        inside = rows < len(chunk_ids)
        inside[inside] = chunk_ids[rows[inside]] == own[inside]
        found: np.ndarray = np.where(inside, rows, -1)
        return found
