"""The blocks that hold a key of large attention, estimated from queries and keys of four bits.

Source: Ji et al., "SALE: Low-bit Estimation for Efficient Sparse Attention in Long-context LLM Prefilling", arXiv
2505.24179, and the authors' code (BirdChristopher/SALE, 39d380c).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.attention import attend
from readthrough.kernels.block_sparse import BlockSelection
from readthrough.kernels.scores import estimated_peaks, top_blocks

LEAST_THRESHOLD = 1e-5
"""Below it everything is seen, as in the authors' code."""


@dataclass(frozen=True)
class SALE(AttentionPattern):
    """The blocks with a key of large attention, estimated at four bits (SALE, arXiv 2505.24179).

    A query's attention to a key is taken relative to the sink and the nearest tokens, which are computed exactly; a
    block is seen where any of its relative scores is above a threshold.

    Differs from the paper: blocks of 128 tokens on both sides in place of 64 queries and 32 keys; the sink is the first
    block, the nearest tokens are a query's own block and the one before; scales a token, not a warp's rows; one
    threshold for all heads (the paper calibrates one each); a block that one head of a group needs is seen by all of
    them, which `shared=False` undoes. The numbers are those of four bits, the products are computed in the model's
    type: it chooses as the paper does, and is no faster for it.

    Attributes:
        threshold: the relative score from which on a block is seen (tau, 0.004 in the authors' example).
        budget_ratio: in its place, the share of all blocks, those of the largest scores; None takes `threshold`.
        shared: whether the query heads of a group see the same blocks.
    """

    name = "sale"

    threshold: float = 0.004
    budget_ratio: float | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        at_least(self, threshold=0)
        ratios(self, "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By the largest relative score of each block."""
        peaks = estimated_peaks(q, k, _near(q, k, scale), block_tokens=BLOCK_TOKENS, scale=scale)
        if self.shared:
            peaks = torch.unflatten(peaks, 0, (k.shape[0], -1)).amax(1)
        if self.budget_ratio is not None:
            count = max(1, round(self.budget_ratio * peaks.shape[2]))
            return Choice(BlockSelection.from_mask(top_blocks(peaks, count=count + 1)))
        least = self.threshold if self.threshold >= LEAST_THRESHOLD else 0.0
        forced = top_blocks(peaks, count=1)
        seen = torch.ones_like(forced[0]).tril(forced.shape[2] - forced.shape[1])
        return Choice(BlockSelection.from_mask((peaks >= torch.tensor(least).log()) & seen | forced))


def _near(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    """The log-sum-exps of each query's scores with the sink, its own block and the one before, `[H, Tq]`."""
    past = k.shape[1] - q.shape[1]
    found = []
    start = past
    while start < k.shape[1]:
        own = start // BLOCK_TOKENS
        end = min((own + 1) * BLOCK_TOKENS, k.shape[1])
        first = max(0, own - 1) * BLOCK_TOKENS
        keys = k[:, first:end]
        if first:
            keys = torch.cat([k[:, :BLOCK_TOKENS], keys], 1)
        found.append(attend(q[:, start - past : end - past], keys, keys, causal=True, scale=scale)[1])
        start = end
    return torch.cat(found, 1)
