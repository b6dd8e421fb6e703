"""Every chunk scored for a question by the model that reads it: an index of the reading itself.

Nothing is embedded and nothing is built: a chunk's score is how much it raises the question (query likelihood, see
`rerankers/likelihood.py`). The first question reads every chunk. Where the model keeps their KV, each further one
costs its own tokens a chunk: about a fifth, at questions of 20 tokens and chunks of 100.

It needs a model, so it has no name among the catalogue's indexes: make it with one and search it like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from readthrough.errors import UsageError
from readthrough.retrieval.base import Among, Corpus, Judge
from readthrough.retrieval.rerankers.likelihood import LikelihoodReranker
from readthrough.types import Chunk, Cost, Event

MOST_TOKENS = 200_000
"""A novel and a half: some minutes with a small model on two cores."""

STEP_CHUNKS = 256


class ReadingIndex:
    """All chunks by query likelihood, at a cost that is known before and refused where it is too much."""

    def __init__(
        self,
        corpus: Corpus,
        judge: Judge,
        *,
        shown: Callable[[Chunk], str] | None = None,
        most_tokens: int = MOST_TOKENS,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """`shown` is a chunk's text as it stands in prompts (as it is, where left out); `most_tokens` those of all
        prompts of a search; `on_event` hears of each step of 256 chunks."""
        if most_tokens < 1:
            raise ValueError(f"most_tokens must be at least 1, got {most_tokens}")
        self._corpus = corpus
        self._judge = judge
        self._shown = shown or (lambda chunk: chunk.text)
        self._most_tokens = most_tokens
        self._on_event = on_event or (lambda event: None)
        self._reranker = LikelihoodReranker()

    def cost(self, query: str, among: Among = None, kept: bool = False) -> Cost:
        """What a search asks of the model; with `kept` where the KV of every chunk is still there."""
        texts = self._texts(self._corpus.chunk_array(among).tolist())
        cost = self._reranker.cost(self._judge, query, texts)
        held = sum(self._judge.count_tokens(texts)) if kept else 0
        return Cost(cost.calls, cost.prompt_tokens, cached_tokens=held)

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, nats a token by which it raises the query).

        Raises:
            UsageError: the prompts of all chunks have more tokens than `most_tokens`; nothing was asked.
            ModelError: the model gives no logits.
        """
        chunk_ids: list[int] = self._corpus.chunk_array(among).tolist()
        if not query.strip() or not chunk_ids:
            return []
        tokens = self.cost(query, among).prompt_tokens
        if tokens > self._most_tokens:
            raise UsageError(
                f"to score {len(chunk_ids)} chunks for a question takes prompts of {tokens} tokens, "
                f"more than most_tokens = {self._most_tokens}",
                hint="raise most_tokens, ask about fewer documents, or rerank by likelihood what another index finds",
            )
        scores: list[float] = []
        for start in range(0, len(chunk_ids), STEP_CHUNKS):
            step = chunk_ids[start : start + STEP_CHUNKS]
            scores += self._reranker.score(self._judge, query, self._texts(step))
            self._on_event(Event("weigh", len(scores), len(chunk_ids), "passages"))
        ranked = sorted(zip(chunk_ids, scores, strict=True), key=lambda hit: (-hit[1], hit[0]))
        return ranked[:k]

    def _texts(self, chunk_ids: Sequence[int]) -> list[str]:
        return [self._shown(chunk) for chunk in self._corpus.get(chunk_ids)]
