"""Vertical lines and slashes: keys that all queries attend to, and distances that all queries look back.

Source: Jiang et al., "MInference 1.0", arXiv 2407.02490, algorithm 2 (vertical-slash heads).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.scores import slash_blocks, slash_mass, window_mass


@dataclass(frozen=True)
class VerticalSlash(AttentionPattern):
    """Keys that all queries attend to, and distances that all queries look back (MInference, arXiv 2407.02490).

    Both are read off the attention of the last queries. A slash is rounded to the blocks that it crosses.

    Differs from the paper: the heads of a group share a choice; of a prompt that is read in chunks each chunk has its
    own last queries; the sink and the nearest distances are always seen, as in the authors' code.

    Attributes:
        vertical_tokens: how many keys all queries see (1,000 in the paper's usual setting).
        slash_tokens: how many distances all queries look back (6,096 there, which are few blocks where they lie close).
        budget_ratio: in place of both, their share of the context, an eighth of it as keys; None takes both as given.
        window_tokens: how many last queries are looked at (64 in the paper).
    """

    name = "vertical-slash"

    vertical_tokens: int = 1000
    slash_tokens: int = 1024
    budget_ratio: float | None = None
    window_tokens: int = 64

    def __post_init__(self) -> None:
        at_least(self, vertical_tokens=0, slash_tokens=1, window_tokens=1)
        ratios(self, "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By the attention of the last queries."""
        tokens = k.shape[1]
        vertical, slash = self.vertical_tokens, self.slash_tokens
        if self.budget_ratio is not None:
            vertical = round(self.budget_ratio * tokens / 8)
            slash = max(1, round(self.budget_ratio * tokens) - vertical)
        last = q[:, -self.window_tokens :]
        query_blocks, key_blocks = count_blocks(q.shape[1], tokens, BLOCK_TOKENS)
        distances = slash_mass(last, k, scale=scale)
        distances[:, :BLOCK_TOKENS] = torch.inf  # what is near is seen in any case
        slashes = distances.topk(min(slash + BLOCK_TOKENS, tokens), -1).indices
        mask = slash_blocks(slashes, block_tokens=BLOCK_TOKENS, query_blocks=query_blocks, key_blocks=key_blocks)
        mask[:, :, 0] = True  # the sink
        own = torch.arange(key_blocks - query_blocks, key_blocks, device=q.device)[:, None]
        mask &= torch.arange(key_blocks, device=q.device) <= own
        columns = window_mass(last, k, scale=scale, pool_tokens=1).topk(min(vertical, tokens), -1).indices
        return Choice(BlockSelection.from_mask(mask), columns if vertical else None)
