"""Keyword search, twice: the query is rewritten with the terms of what the first search found (RM3).

Source: Abdul-Jaleel et al., "UMass at TREC 2004: Novelty and HARD", 2004; Lavrenko and Croft, "Relevance-Based Language
Models", 2001, https://doi.org/10.1145/383952.383972.

Differs from the papers: a text's weight is its BM25 score and not its query likelihood, and terms of more than a tenth
of the chunks are not taken, as Anserini has it. Three texts and 0.3 of the weight in place of ten and a half: the usual
settings lost a sixth of the recall on questions about two things (docs/log.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from readthrough.retrieval import keywords
from readthrough.retrieval.analysis import SNOWBALL, TOKENIZERS, Analyzer
from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.indexes.bm25 import BM25Index
from readthrough.types import Chunk

COMMON_RATIO = 0.1
_LETTERS_MIN, _LETTERS_MAX = 2, 20


class FeedbackIndex:
    """Keyword search with the query rewritten in terms of the text."""

    def __init__(self, corpus: Corpus, *, texts: int = 3, terms: int = 20, query_weight: float = 0.7) -> None:
        """The query keeps `query_weight`; the rest goes to the `terms` most telling terms of the best `texts`."""
        if texts < 1 or terms < 1 or not 0 <= query_weight <= 1:
            raise ValueError("texts and terms must be at least 1, and query_weight from 0 to 1")
        self._corpus = corpus
        self._index = BM25Index(corpus)
        self._analyzer = Analyzer()
        self._texts = texts
        self._terms = terms
        self._query_weight = query_weight

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, score); only chunks that hold a term of the rewritten query."""
        chunk_ids = self._corpus.chunk_array(among)
        found = self._index.search(query, self._texts, among)
        if not found:
            return []
        weights = {analysis: self.rewritten(query, found, analysis, chunk_ids) for analysis in (*TOKENIZERS, SNOWBALL)}
        return self._index.search_terms(weights, k, chunk_ids)

    def rewritten(
        self, query: str, found: Sequence[tuple[int, float]], analysis: str, chunk_ids: np.ndarray
    ) -> dict[str, float]:
        """The terms of a query and of what it found, with their weights, which sum to 1 (by `SNOWBALL`: a language)."""
        asked = self._asked(query, analysis)
        told: dict[str, float] = defaultdict(float)
        for chunk, (_, score) in zip(self._corpus.get([chunk for chunk, _ in found]), found, strict=True):
            for term, share in self._told(chunk, analysis).items():
                told[term] += score * share
        common = COMMON_RATIO * len(chunk_ids)
        telling: dict[str, float] = {}
        for term, weight in sorted(told.items(), key=lambda item: (-item[1], item[0])):
            if len(telling) == self._terms:
                break
            rare = _LETTERS_MIN <= len(term) <= _LETTERS_MAX and self._holders(analysis, term, chunk_ids) <= common
            if rare or term in asked:
                telling[term] = weight
        new = _shares(telling)
        weights = {term: self._query_weight * share for term, share in asked.items()}
        for term, share in new.items():
            weights[term] = weights.get(term, 0.0) + (1 - self._query_weight) * share
        return weights

    def _asked(self, query: str, analysis: str) -> dict[str, float]:
        if analysis != SNOWBALL:
            return _shares(Counter(self._analyzer.terms(query, analysis)))
        shares: dict[str, float] = {}
        for language in keywords.languages(self._corpus.connection()):
            shares.update(_shares(Counter(self._analyzer.stems(query, language))))
        return shares

    def _told(self, chunk: Chunk, analysis: str) -> dict[str, float]:
        language = keywords.language_of_chunk(self._corpus.connection(), chunk.id)
        if analysis == SNOWBALL:
            return {} if language is None else _shares(Counter(self._analyzer.stems(chunk.text, language)))
        return {} if analysis == "stems" and language else _shares(Counter(self._analyzer.terms(chunk.text, analysis)))

    def _holders(self, analysis: str, term: str, chunk_ids: np.ndarray) -> int:
        return len(self._index.postings(analysis, term, chunk_ids)[0])


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {term: count / total for term, count in counts.items()}
