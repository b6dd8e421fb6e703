"""The blocks that hold most of the attention, estimated from antidiagonals.

Source: Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", arXiv 2503.16428.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.block_sparse import BlockSelection
from readthrough.kernels.scores import antidiagonal_scores, mass_blocks, top_blocks


@dataclass(frozen=True)
class Antidiagonal(AttentionPattern):
    """The blocks that hold a share of the attention, estimated from antidiagonals (XAttention, arXiv 2503.16428).

    Differs from the paper: one share for all heads (the paper also finds one a head by a search); the heads of a group
    share a choice, which `shared=False` undoes.

    Attributes:
        stride: the distance of the antidiagonals (8 or 16 in the paper).
        mass_ratio: the share of the attention that the chosen blocks hold.
        budget_ratio: in its place, the share of all blocks, those of the largest mass; None takes `mass_ratio`.
        shared: whether the query heads of a group see the same blocks: faster, and less exact.
    """

    name = "antidiagonal"

    stride: int = 16
    mass_ratio: float = 0.9
    budget_ratio: float | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        at_least(self, stride=1)
        if BLOCK_TOKENS % self.stride:
            raise ValueError(f"stride must divide {BLOCK_TOKENS}, got {self.stride}")
        ratios(self, "mass_ratio", "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By the mass of antidiagonals."""
        mass = antidiagonal_scores(q, k, block_tokens=BLOCK_TOKENS, stride=self.stride, scale=scale, shared=self.shared)
        if self.budget_ratio is not None:
            count = max(1, round(self.budget_ratio * mass.shape[2]))
            return Choice(BlockSelection.from_mask(top_blocks(mass, count=count + 1)))
        return Choice(BlockSelection.from_mask(mass_blocks(mass, share=self.mass_ratio)))
