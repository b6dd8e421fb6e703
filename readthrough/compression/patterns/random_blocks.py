"""Blocks by lot: a control for the methods that choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.scores import top_blocks


@dataclass(frozen=True)
class RandomBlocks(AttentionPattern):
    """Blocks by lot, a control: what a method must beat at its budget.

    The sink and the block before a query's own are always seen, as by `block-topk`. What is drawn depends on the seed,
    the layer, the key head and the place in the text, and on nothing else.

    Attributes:
        blocks: how many blocks a query sees beside its own.
        budget_ratio: in its place, the share of all blocks; None takes `blocks`.
        seed: of the lot.
    """

    name = "random"

    blocks: int = 16
    budget_ratio: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, blocks=1, seed=0)
        ratios(self, "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """What the first layer draws."""
        return self.choose_at(q, k, layer=0, scale=scale, notes={})

    def choose_at(
        self, q: torch.Tensor, k: torch.Tensor, *, layer: int, scale: float, notes: dict[str, torch.Tensor]
    ) -> Choice:
        """By lot."""
        query_blocks, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        drawn = torch.zeros(k.shape[0], query_blocks, key_blocks)
        for row in range(query_blocks):
            own = key_blocks - query_blocks + row
            generator = torch.Generator().manual_seed(((self.seed * 1009 + layer) * 1_000_003 + own) % (1 << 63))
            drawn[:, row, : own + 1] = torch.rand(k.shape[0], own + 1, generator=generator)
        count = self.blocks if self.budget_ratio is None else max(1, round(self.budget_ratio * key_blocks))
        return Choice(BlockSelection.from_mask(top_blocks(drawn.to(q.device), count=count + 1)))
