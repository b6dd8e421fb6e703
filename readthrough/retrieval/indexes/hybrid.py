"""Keywords and meaning together, fused by rank or by score. Both lists are cut at `depth`.

By rank: reciprocal rank fusion, Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114. Differs
from the paper: the lists may be weighted.

By score: a weighted mean of the scores, each list's brought to 0 (its last) to 1 (its first): the convex combination
of Bruch, Gai and Ingber 2023, https://doi.org/10.1145/3596512. Differs from the paper: a chunk that one list does not
reach has 0 there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.indexes.bm25 import BM25Index
from readthrough.retrieval.indexes.vectors import VectorIndex

Lists = Iterable[tuple[Sequence[tuple[int, float]], float]]
"""Ranked lists of (chunk id, score), each with its weight."""


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

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, fused score)."""
        depth = max(k, self._depth)
        return self._fuse([(part.search(query, depth, among), weight) for part, weight in self._parts])[:k]

    def _fuse(self, lists: Lists) -> list[tuple[int, float]]:
        return fuse(lists, self._rank_offset)


class WeightedHybridIndex(HybridIndex):
    """BM25 and vectors fused by their scores."""

    def _fuse(self, lists: Lists) -> list[tuple[int, float]]:
        return fuse_scores(lists)


def fuse(lists: Lists, rank_offset: int = 60) -> list[tuple[int, float]]:
    """Join ranked lists with their weights: a chunk scores the sum of weight / (rank_offset + rank), rank from 1."""
    scores: dict[int, float] = defaultdict(float)
    for hits, weight in lists:
        for rank, (chunk_id, _) in enumerate(hits, start=1):
            scores[chunk_id] += weight / (rank_offset + rank)
    return _best_first(scores)


def fuse_scores(lists: Lists) -> list[tuple[int, float]]:
    """Join ranked lists with their weights: a chunk scores the weighted mean of its scores, a list's best being 1 and
    its last 0 (a list of equal scores: all 1)."""
    scores: dict[int, float] = defaultdict(float)
    given = list(lists)
    total = sum(weight for _, weight in given) or 1.0
    for hits, weight in given:
        values = [score for _, score in hits]
        low, high = (values[-1], values[0]) if values else (0.0, 0.0)
        for chunk_id, score in hits:
            scores[chunk_id] += weight / total * ((score - low) / (high - low) if high > low else 1.0)
    return _best_first(scores)


def _best_first(scores: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def take_turns(ranked: Sequence[Sequence[int]], most: int) -> list[int]:
    """The first `most` chunks of several rankings, each once: the best of every ranking, then the second best, ..."""
    turns = [chunk for place in zip_longest(*ranked) for chunk in place if chunk is not None]
    return list(dict.fromkeys(turns))[:most]
