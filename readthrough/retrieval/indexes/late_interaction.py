"""Late interaction: every token of the query finds its best match among those of a text.

    score = sum over the query's tokens of the greatest cosine with any of the text's tokens (MaxSim)

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832. Differs from the paper: every text is scored, exactly, with
no first stage that picks candidates; the time grows with the number of texts.
"""

from __future__ import annotations

import numpy as np

from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.embedding import embed_tokens, token_embedder


class LateInteractionIndex:
    """Search by token vectors (MaxSim), exact; needs an embedder that gives them, such as late-interaction."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, MaxSim).

        Raises:
            ConfigError: the library's embedder gives no vectors of tokens.
        """
        chunk_ids = self._corpus.chunk_array(among)
        if not query.strip() or not len(chunk_ids):
            return []
        asked = embed_tokens(token_embedder(self._corpus.embedder), [query], "query")[0]
        found: list[tuple[int, float]] = []
        for batch in self._corpus.token_vectors(chunk_ids):
            scores = maxsim(asked, batch.vectors, batch.counts)
            found += zip(batch.chunk_ids.tolist(), scores.tolist(), strict=True)
            found = sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]
        return found


def maxsim(query: np.ndarray, vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scores `[N]` of N texts: `query` is `[Q, D]`, `vectors` `[sum of counts, D]`, `counts` `[N]`, all above 0."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    best: np.ndarray = np.maximum.reduceat(query @ vectors.T, starts, axis=1)
    scores: np.ndarray = best.sum(axis=0)
    return scores
