"""A graph of names and passages, and personalised PageRank over its passages for a question.

Source: HippoRAG 2, Gutierrez et al., arXiv 2502.14802, and its authors' code (OSU-NLP-Group/HippoRAG, c617143): names
and passages are nodes, a walk of damping 0.5 begins at the names of the question, each by how few passages hold it,
and with a small weight at the passages that another search finds.

Differs from the paper: no model extracts anything where facts are not given: names are found by their capitals, and
stand together in a sentence. The question's own names are linked, not triples like it, and no model filters them. The
walk begins at the passages that search in hops finds, not at those that vectors find: without that it finds no more
than hybrid search does (docs/log.md). Synonym edges are off: they changed nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.elements import names_in
from readthrough.retrieval.embedding import embed_texts
from readthrough.retrieval.entities import normalise
from readthrough.retrieval.facts import Extract, Fact
from readthrough.retrieval.indexes.hops import HopsIndex
from readthrough.retrieval.passage_graph import PassageGraph, Together
from readthrough.types import Chunk

DEPTH = 100
KEPT_GRAPHS = 4


class EntityGraphIndex:
    """Search in hops, and on over a graph of the names in all passages: for questions that need several passages."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        damping: float = 0.5,
        passage_weight: float = 0.1,
        synonyms_above: float | None = None,
        facts: Mapping[str, Sequence[Extract]] | None = None,
    ) -> None:
        """The graph is made when it is first searched, and again for other documents.

        Args:
            corpus: what is searched.
            damping: how likely a walk goes on rather than back to where it began.
            passage_weight: what the best passage of the search in hops weighs beside a name that one passage holds;
                the second weighs half of it, the third a third.
            synonyms_above: names whose vectors have this cosine are joined; None joins none and embeds none.
            facts: what a model wrote of each document, as `Shelf.facts` gives it; passages of which it wrote nothing
                have their names.
        """
        if not 0 <= damping < 1 or passage_weight <= 0:
            raise ValueError("damping must be at least 0 and below 1, passage_weight above 0")
        self._corpus = corpus
        self._first = HopsIndex(corpus)
        self._damping = damping
        self._passage_weight = passage_weight
        self._synonyms_above = synonyms_above
        self._facts = facts or {}
        self._graph = lru_cache(maxsize=KEPT_GRAPHS)(self._make_graph)

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, share of the walk that passes it)."""
        found = self._first.search(query, DEPTH, among)
        if not found:
            return []
        chunk_ids = self._corpus.chunk_array(among)
        graph = self._graph(chunk_ids.tobytes())
        start = {int(np.searchsorted(chunk_ids, chunk)): self._passage_weight * score for chunk, score in found}
        rank = graph.walk(start, graph.named(query), self._damping)
        best = np.argsort(-rank, kind="stable")[:k]
        return [(int(chunk_ids[row]), float(rank[row])) for row in best if rank[row] > 0]

    def _make_graph(self, chunk_ids: bytes) -> PassageGraph:
        chunks = self._corpus.get(np.frombuffer(chunk_ids, dtype=np.int64).tolist())
        passages: list[Together] = list(names_in([chunk.text for chunk in chunks]))
        for document, extracts in self._facts.items():
            own = [place for place, chunk in enumerate(chunks) if chunk.document == document]
            for place, said in zip(own, said_of([chunks[place] for place in own], extracts), strict=True):
                passages[place] = said or passages[place]
        graph = PassageGraph.of(passages)
        if self._synonyms_above is None or not graph.names:
            return graph
        return graph.with_synonyms(embed_texts(self._corpus.embedder, list(graph.names)), self._synonyms_above)


def said_of(chunks: Sequence[Chunk], extracts: Sequence[Extract]) -> list[list[tuple[str, ...]]]:
    """For each chunk of a document the key elements of the facts that were made from it, normalised, fact by fact."""
    facts: list[Fact] = sorted((fact for each in extracts for fact in each.facts), key=lambda fact: fact.start)
    starts = [fact.start for fact in facts]
    found = []
    for chunk in chunks:
        inside = facts[bisect_left(starts, chunk.start) : bisect_left(starts, chunk.end)]
        groups = (tuple(dict.fromkeys(filter(None, map(normalise, fact.elements)))) for fact in inside)
        found.append([group for group in groups if group])
    return found
