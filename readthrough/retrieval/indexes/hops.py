"""Search in hops: what is found names things, and each name is looked for beside the question.

"Who is the spouse of the director of Big Eyes?" finds Big Eyes; its passage names Tim Burton; and the question with
that name finds the passage about his spouse, which shares no word with the question. No model is called.

Source: iterated retrieval by the entity found in the last hop, as in Baleen (Khattab et al., arXiv 2101.00436) and
HippoRAG (Gutierrez et al., arXiv 2405.14831).

Differs from the papers: names are found by their capitals and no model extracts or writes anything; a passage of the
next hop must hold the name, and is scored by its vector's cosine with the question and the name together. Whole
passages joined to the question found nothing more (docs/log.md): one name at a time does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from readthrough.retrieval.base import Among, Corpus
from readthrough.retrieval.elements import names_in
from readthrough.retrieval.embedding import embed_queries
from readthrough.retrieval.indexes.bm25 import holding
from readthrough.retrieval.indexes.hybrid import HybridIndex, take_turns

# A name of more chunks than this share, and than this many, leads nowhere.
COMMON_RATIO = 0.05
COMMON_LEAST = 30


@dataclass(frozen=True, slots=True)
class Bridge:
    """A name that leads on: the chunk that names it, and the other chunks that hold it, ascending."""

    name: str
    source: int
    holders: np.ndarray


class HopsIndex:
    """Hybrid search, and on from the names in what it finds: for questions that need several passages."""

    def __init__(self, corpus: Corpus, *, hops: int = 1, seeds: int = 5) -> None:
        """`hops` further searches at most, each on from the `seeds` best of the last.

        A second hop finds a little more among the first five of questions about several things, and less of others.
        """
        if hops < 1 or seeds < 1:
            raise ValueError("hops and seeds must be at least 1")
        self._corpus = corpus
        self._first = HybridIndex(corpus)
        self._hops = hops
        self._seeds = seeds

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, 1 / its place): the first search and every hop take turns.

        Where nothing that is found names anything more, these are the chunks of the hybrid index.
        """
        ranked = [[chunk for chunk, _ in self._first.search(query, max(k, self._seeds), among)]]
        chunk_ids = self._corpus.chunk_array(among)
        for _ in range(self._hops):
            found = self.hop(query, ranked[-1][: self._seeds], chunk_ids)
            if not found:
                break
            ranked.append(found)
        return [(chunk, 1 / place) for place, chunk in enumerate(take_turns(ranked, k), start=1)]

    def hop(self, query: str, seeds: Sequence[int], chunk_ids: np.ndarray) -> list[int]:
        """The chunks, of `chunk_ids` (ascending), that the names in some found ones lead to, best first."""
        led = bridges(self._corpus, query, seeds, chunk_ids)
        if not led:
            return []
        asked = list(dict.fromkeys(bridge.name for bridge in led))
        queries = embed_queries(self._corpus.embedder, [f"{query} {name}" for name in asked])
        vectors = dict(zip(asked, queries, strict=True))
        reached = np.unique(np.concatenate([bridge.holders for bridge in led]))
        passages = self._corpus.vectors(reached.tolist())
        scores = np.full(len(reached), -np.inf)
        for bridge in led:
            rows = np.searchsorted(reached, bridge.holders)
            scores[rows] = np.maximum(scores[rows], passages[rows] @ vectors[bridge.name])
        return [int(reached[row]) for row in np.argsort(-scores, kind="stable")]


def bridges(corpus: Corpus, query: str, seeds: Sequence[int], chunk_ids: np.ndarray) -> list[Bridge]:
    """The names in some found chunks that the query does not hold, and some other of `chunk_ids` does."""
    asked = set(_words(query))
    common = max(COMMON_LEAST, COMMON_RATIO * len(chunk_ids))
    found: list[Bridge] = []
    held: dict[str, np.ndarray] = {}
    named = names_in([chunk.text for chunk in corpus.get(seeds)])
    for seed, sentences in zip(seeds, named, strict=True):
        for name in dict.fromkeys(name for inside in sentences for name in inside):
            if asked.issuperset(_words(name)):
                continue
            if name not in held:
                held[name] = holding(corpus, name, chunk_ids)
            others = held[name][held[name] != seed]
            if 0 < len(others) <= common:
                found.append(Bridge(name, seed, others))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
