"""Blocks whose distance is a power of two: after d layers a token has heard of 2^d others.

Source: Chen et al., "PowerAttention: Exponentially Scaling of Receptive Fields for Effective Sparse Attention", arXiv
2503.03588, section 3.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, blocks_of, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks


@dataclass(frozen=True)
class PowerAttention(AttentionPattern):
    """Blocks whose distance is a power of two, a sink and a window (PowerAttention, arXiv 2503.03588).

    Differs from the paper: blocks of 128 tokens; distances, sink and window are counted in them; a model that was not
    trained further with the pattern (the paper does both).

    Attributes:
        sink_tokens: how many first tokens are seen.
        window_tokens: how many tokens before a query's own block are seen.
        budget_ratio: in place of `window_tokens`, the share of all blocks that a query sees at the text's end, if sink
            and powers leave any of it to the window; None takes `window_tokens`.
    """

    name = "power-attention"

    sink_tokens: int = 128
    window_tokens: int = 512
    budget_ratio: float | None = None

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, window_tokens=0)
        ratios(self, "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """The same for every head."""
        query_blocks, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        at = torch.arange(key_blocks, device=q.device)
        back = torch.arange(key_blocks - query_blocks, key_blocks, device=q.device)[:, None] - at
        sink, window = blocks_of(self.sink_tokens), blocks_of(self.window_tokens)
        if self.budget_ratio is not None:
            window = _window(round(self.budget_ratio * key_blocks) - sink, key_blocks)
        power = (back & (back - 1)) == 0
        mask = (back >= 0) & (power | (back <= window) | (at < sink))
        return Choice(BlockSelection.from_mask(mask.expand(k.shape[0], -1, -1)))


def _window(budget_blocks: int, key_blocks: int) -> int:
    """The widest window that fits into so many blocks together with the powers of two beyond it."""
    window = 0
    while window < key_blocks and window + 1 + _powers(window + 1, key_blocks) <= budget_blocks:
        window += 1
    return window


def _powers(above: int, below: int) -> int:
    """How many powers of two are above the one and below the other."""
    return max(0, (below - 1).bit_length() - above.bit_length())
