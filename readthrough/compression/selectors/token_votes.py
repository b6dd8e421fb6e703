"""TokenSelect: the tokens that all heads together vote for.

Source: Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic
Token-Level KV Cache Selection", arXiv 2411.02886, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from readthrough.compression.selecting import Chosen, Past, TokenSelector, with_sink


class _Latest(NamedTuple):
    q: torch.Tensor
    tokens: torch.Tensor


@dataclass(frozen=True)
class TokenSelect(TokenSelector):
    """The tokens of the largest attention summed over heads (TokenSelect, arXiv 2411.02886): a soft vote.

    All heads of a layer read the same tokens. While queries stay alike, the choice of the last query that chose is
    used again.

    Differs from the paper: prompts are read densely, or by the plan's `select`, and positions stay as they are. As in
    the authors' code the products that vote are not scaled; there a query head votes with the key head of its number
    modulo that of key heads, here with its own.

    Attributes:
        budget_tokens: as below; in the paper 2048 are chosen besides 128 first and 512 latest ones.
        similarity: the choice is used again where the cosine of the queries of all heads is no less; 1 or more never.
        scaled: the products that vote are scaled as attention's are.
    """

    name = "tokenselect"

    budget_tokens: int = 2688
    sink_tokens: int = 128
    latest_tokens: int = 512
    similarity: float = 0.9
    scaled: bool = False

    def __post_init__(self) -> None:
        self.check()

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """By the vote, or as the token did that chose last."""
        sink, count, latest = self.shares(past.seen)
        start = past.seen - latest
        if sink + count >= start:
            return Chosen(0, None, memory)
        flat = q.flatten().float()
        if memory is None or not self._alike(flat, memory.q):
            votes = past.scores(q)[:, :, sink:start]
            votes = votes if self.scaled else votes / past.scale
            memory = _Latest(flat, votes.softmax(-1).sum((0, 1)).topk(count).indices + sink)
        tokens = memory.tokens.masked_fill(memory.tokens < sink, -1)
        return Chosen(start, with_sink(sink, tokens.expand(past.runs[0].shape[0], -1)), memory)

    def _alike(self, q: torch.Tensor, other: torch.Tensor) -> bool:
        return self.similarity < 1 and float(torch.cosine_similarity(q, other, 0)) >= self.similarity
