"""BM25 over SQLite FTS5: the library's keyword index, scored over the documents of the question alone.

Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019, in Lucene's variant (equation 2 of Kamphuis et al.
2020, https://doi.org/10.1007/978-3-030-45442-5_4):

    score = sum over terms of  ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length))

summed over two analyses of the text: words as they stand and their stems. Stems alone confuse names (Kansas), words
alone miss forms; over 79 questions with known passages, recall at 10 was 0.64 with stems, 0.63 with words, 0.67 with
both. A text is stemmed in its own language, and the query in each that the library holds (see `tongues`).

Differs from the paper: N, df and the mean length are those of the documents asked about, not of the whole store
(FTS5's own bm25() uses the whole table, so a score would depend on what else the library holds); and in a large set
the words that over half of it holds are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from readthrough.retrieval import keywords
from readthrough.retrieval.analysis import SNOWBALL, TOKENIZERS, Analyzer, prepare
from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.runs import ranges

LARGE_SET_CHUNKS = 300
COUNTED_RUNS = 32
RECOUNTED_RATIO = 300
"""FTS5 goes through a term's places in the whole library. Where this holds so many times the chunks that are asked
about, those are counted anew: a question about one document costs the same in a library of any size."""


_Counts = Mapping[str, Mapping[str, Sequence[tuple[int, int]]]]


class BM25Index:
    """Keyword search, exact, in any language that FTS5 or pairs of characters can split into words."""

    def __init__(self, corpus: Corpus, *, k1: float = 1.2, b: float = 0.5) -> None:
        self._corpus = corpus
        self._analyzer = Analyzer()
        self._k1 = k1
        self._b = b
        self._measured: tuple[np.ndarray, np.ndarray] | None = None
        self._counted: tuple[np.ndarray, _Counts | None] | None = None

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, score); only chunks that hold a term of the query."""
        chunk_ids = self._corpus.chunk_array(among)
        if not len(chunk_ids):
            return []
        words = self._telling(self._analyzer.terms(query, "words"), chunk_ids)
        weights = {analysis: Counter(_at(self._analyzer.terms(query, analysis), words)) for analysis in TOKENIZERS}
        weights[SNOWBALL] = Counter()
        for language in keywords.languages(self._corpus.connection()):
            weights[SNOWBALL].update(_at(self._analyzer.stems(query, language), words))
        return self.search_terms(weights, k, chunk_ids)

    def search_terms(
        self, weights: Mapping[str, Mapping[str, float]], k: int, chunk_ids: np.ndarray
    ) -> list[tuple[int, float]]:
        """The `k` best of `chunk_ids` (ascending) for the terms of each analysis by their weights."""
        lengths = self._lengths(chunk_ids)
        norms = self._k1 * (1 - self._b + self._b * lengths / max(float(lengths.mean()), 1.0))
        scores = np.zeros(len(chunk_ids))
        for analysis, terms in weights.items():
            for term, weight in terms.items():
                rows, frequencies = self.postings(analysis, term, chunk_ids)
                if len(rows):
                    idf = np.log1p((len(chunk_ids) - len(rows) + 0.5) / (len(rows) + 0.5))
                    scores[rows] += weight * idf * frequencies / (frequencies + norms[rows])
        best = np.argsort(-scores, kind="stable")[:k]
        return [(int(chunk_ids[row]), float(scores[row])) for row in best if scores[row] > 0]

    def _telling(self, words: Sequence[str], chunk_ids: np.ndarray) -> list[int]:
        """The places in `words` of those worth looking up: in a large set, not those that over half of it holds.

        Their scores are next to nothing and their postings most of the index. Where all are such, all are kept.
        """
        if len(chunk_ids) < LARGE_SET_CHUNKS:
            return list(range(len(words)))
        runs = ranges(chunk_ids)
        common = {word: self._holders(word, chunk_ids, runs) > len(chunk_ids) / 2 for word in set(words)}
        telling = [place for place, word in enumerate(words) if not common[word]]
        return telling or list(range(len(words)))

    def _holders(self, word: str, chunk_ids: np.ndarray, runs: np.ndarray) -> int:
        """How many of `chunk_ids`, whose `runs` are `[R, 2]`, hold a word."""
        where = "FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?"
        execute = self._corpus.connection().execute
        if len(runs) <= COUNTED_RUNS:
            counts = (execute(f"SELECT count(*) {where}", (f'"{word}"', *run)).fetchone()[0] for run in runs.tolist())
            return sum(counts)
        span = (f'"{word}"', int(chunk_ids[0]), int(chunk_ids[-1]))
        found = np.array(execute(f"SELECT rowid {where}", span).fetchall(), dtype=np.int64).reshape(-1)
        return int(np.isin(found, chunk_ids, assume_unique=True).sum())

    def _lengths(self, chunk_ids: np.ndarray) -> np.ndarray:
        """The lengths in terms of the chunks, in their order, float64; kept for the array that was asked with last.

        Of a chunk that was deleted in the meantime, which no term leads to, it is 0.
        """
        measured = self._measured
        if measured is None or measured[0] is not chunk_ids:
            first, last = int(chunk_ids[0]), int(chunk_ids[-1])
            select = "SELECT id, terms FROM chunks WHERE id BETWEEN ? AND ?"
            rows, found = _among(self._corpus.connection().execute(select, (first, last)).fetchall(), chunk_ids)
            lengths = np.zeros(len(chunk_ids))
            lengths[rows] = found
            measured = self._measured = (chunk_ids, lengths)
        return measured[1]

    def postings(self, analysis: str, term: str, chunk_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `chunk_ids` (ascending) the term stands, and how often in each."""
        counts = self._counts(chunk_ids)
        if counts is not None:
            return _among(counts.get(analysis, {}).get(term, []), chunk_ids)
        first, last = int(chunk_ids[0]), int(chunk_ids[-1])
        select = f"SELECT doc, count(*) FROM {analysis}_uses WHERE term = ? AND doc BETWEEN ? AND ? GROUP BY doc"
        return _among(self._corpus.connection().execute(select, (term, first, last)).fetchall(), chunk_ids)

    def _counts(self, chunk_ids: np.ndarray) -> _Counts | None:
        """What is counted anew of few chunks in a large library; kept for the array that was asked with last."""
        counted = self._counted
        if counted is None or counted[0] is not chunk_ids:
            connection = self._corpus.connection()
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM chunks").fetchone()
            few = last > RECOUNTED_RATIO * len(chunk_ids)
            counts = keywords.count(connection, self._analyzer, chunk_ids.tolist()) if few else None
            counted = self._counted = (chunk_ids, counts)
        return counted[1]


def _among(rows: Sequence[tuple[int, int]], chunk_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of rows `(id, number)`, none of an id above the last of `chunk_ids` (ascending): their places in it, the numbers.

    Those of other ids are left out. The numbers are float64.
    """
    found = np.array(rows, dtype=np.int64).reshape(-1, 2)
    places = np.searchsorted(chunk_ids, found[:, 0])
    inside = chunk_ids[places] == found[:, 0]
    return places[inside], found[inside, 1].astype(np.float64)


def _at(terms: Sequence[str], places: Sequence[int]) -> list[str]:
    return [terms[place] for place in places if place < len(terms)]


def holding(corpus: Corpus, phrase: str, chunk_ids: np.ndarray) -> np.ndarray:
    """Those of `chunk_ids` (ascending) that hold a phrase: its words as they stand, one behind the other."""
    words = re.findall(r"\w+", prepare(phrase))
    if not words or not len(chunk_ids):
        return chunk_ids[:0]
    select = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?"
    span = (f'"{" ".join(words)}"', int(chunk_ids[0]), int(chunk_ids[-1]))
    found = np.array(corpus.connection().execute(select, span).fetchall(), dtype=np.int64).reshape(-1)
    inside: np.ndarray = found[np.isin(found, chunk_ids, assume_unique=True)]
    return inside
