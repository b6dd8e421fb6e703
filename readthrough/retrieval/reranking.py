"""Putting a ranking in a better order, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.retrieval.base import Judge, Reranker


@dataclass(frozen=True, slots=True)
class Budget:
    """What a reranker may look at: the first `candidates` of a ranking, and of these what takes `tokens` of prompts.

    Tokens whose KV is surely kept count a tenth; None is no limit.
    """

    candidates: int = 40
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, got {self.tokens}")


def rerank(
    reranker: Reranker, judge: Judge, query: str, texts: Sequence[str], budget: Budget | None = None
) -> list[int]:
    """The places of `texts`, which stand in the order they were found in, by how well they fit the query.

    What the budget leaves out keeps its order, behind the rest; what scores alike too.
    """
    budget = budget or Budget()
    within = _within(reranker, judge, query, texts[: budget.candidates], budget.tokens)
    scores = reranker.score(judge, query, texts[:within])
    best = sorted(range(within), key=lambda place: -scores[place])
    return [*best, *range(within, len(texts))]


def _within(reranker: Reranker, judge: Judge, query: str, texts: Sequence[str], tokens: int | None) -> int:
    """How many of the texts can be scored for `tokens`: costs grow with their number, so that halving finds it."""
    if tokens is None or reranker.cost(judge, query, texts).read_tokens <= tokens:
        return len(texts)
    most, least = len(texts), 0  # so many are too many, so few are not
    while most - least > 1:
        middle = (most + least) // 2
        if reranker.cost(judge, query, texts[:middle]).read_tokens <= tokens:
            least = middle
        else:
            most = middle
    return least
