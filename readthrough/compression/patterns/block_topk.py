"""The blocks whose mean key fits a block's mean query best.

Source: Jiang et al., "MInference 1.0", arXiv 2407.02490, algorithm 3 (block-sparse heads).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.scores import pooled_scores, top_blocks


@dataclass(frozen=True)
class BlockTopK(AttentionPattern):
    """The blocks whose mean key fits a block's mean query best (MInference, arXiv 2407.02490).

    Differs from the paper: blocks of 128 tokens instead of 64; the sink and the block before a query's own are always
    seen; the heads of a group share a choice, which `shared=False` undoes.

    Attributes:
        blocks: how many blocks a query sees beside its own (the paper's 100 of 64 tokens are 50).
        budget_ratio: in its place, the share of all blocks; None takes `blocks`.
        shared: whether the query heads of a group see the same blocks: faster, and less exact.
    """

    name = "block-topk"

    blocks: int = 16
    budget_ratio: float | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        at_least(self, blocks=1)
        ratios(self, "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By scores of pooled queries and keys."""
        scores = pooled_scores(q, k, block_tokens=BLOCK_TOKENS, scale=scale, shared=self.shared)
        _, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        count = self.blocks if self.budget_ratio is None else max(1, round(self.budget_ratio * key_blocks))
        return Choice(BlockSelection.from_mask(top_blocks(scores, count=count + 1)))
