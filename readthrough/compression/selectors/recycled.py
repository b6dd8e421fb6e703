"""Recycled attention: what a token read in full attended to, the next few read.

Source: Xu, Goyal and Choi, "Recycled Attention: Efficient inference for long-context language models",
arXiv 2411.05787.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from readthrough.compression.base import at_least
from readthrough.compression.selecting import Chosen, Past, TokenSelector, with_sink


class _Full(NamedTuple):
    """Of the last token that read everything: what is read of what was there, and its queries; and for how many tokens
    it was last asked whether another should."""

    start: int
    tokens: torch.Tensor
    q: torch.Tensor
    asked: int


@dataclass(frozen=True)
class RecycledAttention(TokenSelector):
    """The tokens that a token which read everything attended to most (Recycled Attention, arXiv 2411.05787).

    Every so many tokens one reads everything; those behind it read the keys of its largest attention, and all that was
    written since.

    Differs from the paper: a group of query heads shares its keys, by the largest attention of any of them; what is
    written since is read besides the budget.

    Attributes:
        budget_tokens: how many keys are recycled (K).
        every_tokens: after so many tokens the next one reads everything (the stride S).
        similarity: then it does so only where its queries' mean cosine over heads with those of the last that did is
            below this (the paper's dynamic schedule); None for always.
        by: of a group's heads the `largest` attention counts, or the `mean`.
    """

    name = "recycled-attention"

    budget_tokens: int = 4096
    sink_tokens: int = 0
    latest_tokens: int = 1
    every_tokens: int = 10
    similarity: float | None = None
    by: Literal["largest", "mean"] = "largest"

    def __post_init__(self) -> None:
        self.check()
        at_least(self, every_tokens=1)

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """Everything, or what the last that read everything attended to."""
        if memory is not None and past.seen - memory.asked < self.every_tokens:
            return Chosen(memory.start, memory.tokens, memory)
        if memory is not None and self._alike(q, memory.q):
            return Chosen(memory.start, memory.tokens, memory._replace(asked=past.seen))
        sink, count, latest = self.shares(past.seen)
        start = past.seen - latest
        if sink + count >= start:
            return Chosen(0, None, None)
        mass = past.scores(q).softmax(-1)
        mass = mass.amax(1) if self.by == "largest" else mass.mean(1)
        tokens = with_sink(sink, mass[:, sink:start].topk(count, -1).indices + sink)
        return Chosen(0, None, _Full(start, tokens, q, past.seen))

    def _alike(self, q: torch.Tensor, other: torch.Tensor) -> bool:
        return self.similarity is not None and float(torch.cosine_similarity(q, other, -1).mean()) >= self.similarity
