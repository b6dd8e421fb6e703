"""Keywords and meaning together, by reciprocal rank fusion.

Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114. Differs from the paper: the two lists
may be weighted, and each is cut at `depth`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from readthrough.retrieval.base import Corpus
from readthrough.retrieval.indexes.bm25 import BM25Index
from readthrough.retrieval.indexes.vectors import VectorIndex


class HybridIndex:
    """BM25 and vectors fused by rank: the default."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        bm25_weight: float = 1.0,
        vector_weight: float = 1.0,
        rank_offset: int = 60,
        depth: int = 100,
    ) -> None:
        self._parts = ((BM25Index(corpus), bm25_weight), (VectorIndex(corpus), vector_weight))
        self._rank_offset = rank_offset
        self._depth = depth

    def search(self, query: str, k: int, among: Sequence[str] | None = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, fused score)."""
        depth = max(k, self._depth)
        lists = ((part.search(query, depth, among), weight) for part, weight in self._parts)
        return fuse(lists, self._rank_offset)[:k]


def fuse(lists: Iterable[tuple[Sequence[tuple[int, float]], float]], rank_offset: int = 60) -> list[tuple[int, float]]:
    """Join ranked lists with their weights: a chunk scores the sum of weight / (rank_offset + rank), rank from 1."""
    scores: dict[int, float] = defaultdict(float)
    for hits, weight in lists:
        for rank, (chunk_id, _) in enumerate(hits, start=1):
            scores[chunk_id] += weight / (rank_offset + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def take_turns(ranked: Sequence[Sequence[int]], most: int) -> list[int]:
    """The first `most` chunks of several rankings, each once: the best of every ranking, then the second best, ..."""
    turns = [chunk for place in zip_longest(*ranked) for chunk in place if chunk is not None]
    return list(dict.fromkeys(turns))[:most]
