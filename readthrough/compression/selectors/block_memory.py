"""InfLLM: blocks of a text stand in a memory, and are found by a few of their keys.

Source: Xiao et al., "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory",
arXiv 2402.04617, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from readthrough.compression.base import BLOCK_TOKENS, at_least
from readthrough.compression.selecting import Chosen, Past, Prompt, TokenSelector, with_sink

CHUNK_QUERIES = 128


class _Memory(NamedTuple):
    """The attention that each token of the prompt got from those close behind it, `[H, n]`; and the blocks' keys,
    `[H, blocks, D]`, if they begin at `first`."""

    mass: torch.Tensor
    first: int = 0
    keys: torch.Tensor | None = None


@dataclass(frozen=True)
class InfLLM(TokenSelector):
    """Blocks whose representative keys score highest (InfLLM, arXiv 2402.04617), the first tokens and the latest.

    A block's keys are those of the tokens that got most attention from the tokens of the window behind them; a block's
    score is the sum over all heads of the products with the mean of these. All heads read the same blocks.

    Differs from the paper: prompts are read densely, or by the plan's `select`, and the attention that a token got
    there counts, as a share of all that was read; tokens keep their positions (the paper gives all that is farther away
    than the window one and the same), also where blocks are compared; blocks that lie outside the window stay where
    they are; and of a reply no blocks are made: all of it is read. Prompts are read anew for each reply, since the
    attention of tokens whose KV was kept is not known.

    Attributes:
        budget_tokens: as below (the paper: 128 first ones, 16 blocks, 4096 latest ones).
        representative_tokens: so many keys stand for a block.
    """

    name = "infllm"
    reads_prompts: ClassVar[bool] = True

    budget_tokens: int = 6272
    sink_tokens: int = 128
    latest_tokens: int = 4096
    representative_tokens: int = 4

    def __post_init__(self) -> None:
        self.check()
        at_least(self, representative_tokens=1)
        if self.representative_tokens > BLOCK_TOKENS:
            raise ValueError(
                f"a block has {BLOCK_TOKENS} tokens, got representative_tokens {self.representative_tokens}"
            )

    def read_prompt(self, prompt: Prompt, memory: Any) -> Any:
        """Add what the new tokens pay to those in the window before them, and to themselves."""
        heads, tokens, width = prompt.q.shape
        past = prompt.keys.shape[1] - tokens
        mass = prompt.lse.new_zeros(heads, prompt.keys.shape[1])
        if memory is not None:
            mass[:, :past] = memory.mass
        for at in range(0, tokens, CHUNK_QUERIES):
            q = prompt.q[:, at : at + CHUNK_QUERIES]
            first = max(0, past + at - self.latest_tokens + 1)
            keys = prompt.keys[:, first : past + at + q.shape[1]]
            rows = q.reshape(keys.shape[0], -1, width)
            scores = (rows @ keys.transpose(1, 2)).to(mass.dtype).view(heads, q.shape[1], -1) * prompt.scale
            own = torch.arange(past + at, past + at + q.shape[1], device=q.device)[:, None]
            back = own - torch.arange(first, first + keys.shape[1], device=q.device)
            shares = (scores - prompt.lse[:, at : at + CHUNK_QUERIES, None]).exp()
            shares.masked_fill_((back < 0) | (back >= self.latest_tokens), 0)
            mass[:, first : first + keys.shape[1]] += shares.sum(1)
        return _Memory(mass)

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """By the blocks' keys; what lies between the last block and the latest tokens is read."""
        sink, count, latest = self.shares(past.seen)
        if memory is None:
            raise ValueError("InfLLM has to be shown the prompt")
        many = max(0, min(memory.mass.shape[1], past.seen - latest) - sink) // BLOCK_TOKENS
        count //= BLOCK_TOKENS
        if count >= many:
            return Chosen(0, None, memory)
        if memory.keys is None or memory.first != sink or memory.keys.shape[1] != many:
            memory = memory._replace(first=sink, keys=self._representatives(past, memory.mass, sink, many))
        scores = (memory.keys @ q.transpose(1, 2)).sum((0, 2))
        chosen = scores.topk(count).indices.sort().values
        tokens = (sink + chosen[:, None] * BLOCK_TOKENS + torch.arange(BLOCK_TOKENS, device=q.device)).flatten()
        read = with_sink(sink, tokens.expand(past.runs[0].shape[0], -1))
        return Chosen(sink + many * BLOCK_TOKENS, read, memory)

    def _representatives(self, past: Past, mass: torch.Tensor, first: int, many: int) -> torch.Tensor:
        end = first + many * BLOCK_TOKENS
        best = torch.unflatten(mass[:, first:end], 1, (many, -1)).topk(self.representative_tokens, -1).indices
        keys = torch.unflatten(past.keys()[:, first:end], 1, (many, -1))
        keys = keys.repeat_interleave(mass.shape[0] // keys.shape[0], 0)
        found: torch.Tensor = keys.gather(2, best[..., None].expand(-1, -1, -1, keys.shape[-1])).mean(2)
        return found
