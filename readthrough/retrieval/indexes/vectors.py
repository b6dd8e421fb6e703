"""Search by meaning: the cosine of the query's vector with the chunks'."""

from __future__ import annotations

from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.embedding import embed_queries


class VectorIndex:
    """Vector search: exact over up to 50,000 chunks, approximate over more; the scores are exact."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` nearest chunks as (chunk id, cosine).

        Raises:
            MissingExtraError: faiss is not installed.
        """
        chunk_ids = self._corpus.chunk_array(among)
        if not query.strip() or not len(chunk_ids):
            return []
        return self._corpus.nearest(embed_queries(self._corpus.embedder, [query])[0], k, chunk_ids)
