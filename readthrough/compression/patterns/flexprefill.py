"""Vertical lines and slashes, or the blocks that fit a head's queries: as many as hold a share of the attention.

Source: Lai et al., "FlexPrefill: A Context-Aware Sparse Attention Mechanism for Efficient Long-Sequence Inference",
arXiv 2502.20766, algorithms 1 to 4, and the authors' code (ByteDance-Seed/FlexPrefill, a24b27b).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, blocks_of, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.scores import pooled_scores, slash_mass, window_mass


@dataclass(frozen=True)
class FlexPrefill(AttentionPattern):
    """As many blocks as hold a share of each head's attention, of lines or by its queries (arXiv 2502.20766).

    The last block of queries tells. Where pooled queries and keys foresee how its attention spreads over the blocks
    (the square root of the Jensen-Shannon divergence of the two is small), a head is query-aware: it sees the blocks
    of largest estimates, over all of its queries together. Others see vertical lines and slashes of blocks. Each query
    head has its own kind and its own numbers.

    Differs from the paper: of a prompt that is read in chunks each chunk has its own last queries; the least budget
    is kept for query-aware heads too, as in the authors' code.

    Attributes:
        mass_ratio: the share of the attention that the chosen blocks hold (gamma, 0.9 or 0.95 in the paper).
        divergence: below so much a head is query-aware (tau, 0.1 in the paper).
        budget_tokens: at least so many tokens in vertical lines, and as many in slashes (1,024 in the paper).
        budget_ratio: in place of both numbers, the share of all blocks, half of it lines and half slashes; None takes
            them as given.
    """

    name = "flexprefill"

    mass_ratio: float = 0.9
    divergence: float = 0.1
    budget_tokens: int = 1024
    budget_ratio: float | None = None

    def __post_init__(self) -> None:
        at_least(self, divergence=0, budget_tokens=1)
        ratios(self, "mass_ratio", "budget_ratio")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By the attention of the last block of queries."""
        last = q[:, -BLOCK_TOKENS:]
        query_blocks, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        vertical, slash = _line_mass(last, k, scale)
        lines, slashes = _blocks(vertical), _blocks(slash.flip(-1)).flip(-1)
        aware = _divergence(last, k, lines, scale) < self.divergence
        lines[:, 0] = slashes[:, 0] = torch.inf
        line_marks = _largest(lines, self._counts(vertical, aware, key_blocks))
        slash_marks = _largest(slashes, self._counts(slash, aware, key_blocks))
        own = torch.arange(key_blocks - query_blocks, key_blocks, device=q.device)[:, None]
        behind = own - torch.arange(key_blocks, device=q.device)
        mask = line_marks[:, None] | slash_marks[:, behind.clamp(min=0)]
        if bool(aware.any()):
            mask |= self._query_aware(q, k, scale) & aware[:, None, None]
        return Choice(BlockSelection.from_mask(mask & (behind >= 0)))

    def _counts(self, mass: torch.Tensor, aware: torch.Tensor, key_blocks: int) -> torch.Tensor:
        """How many blocks of lines each head sees, of the masses `[H, Tk]` of single ones."""
        if self.budget_ratio is not None:
            half = max(1, round(self.budget_ratio * key_blocks / 2))
            return torch.full_like(aware, half, dtype=torch.long).masked_fill(aware, 1)
        least = blocks_of(self.budget_tokens)
        held = mass.sort(-1, descending=True).values.cumsum(-1)
        tokens = (held <= self.mass_ratio).sum(-1) + 1
        if self.mass_ratio == 1:
            tokens = torch.full_like(tokens, mass.shape[1])
        return (tokens // BLOCK_TOKENS + 1).masked_fill(aware, least).clamp(least, max(least, key_blocks))

    def _query_aware(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
        """The blocks of the largest estimates over all rows, bool `[H, nq, nk]`."""
        estimates = pooled_scores(q, k, block_tokens=BLOCK_TOKENS, scale=scale)
        rows, seen = estimates.shape[1], estimates[0].isfinite().sum()
        shares, order = estimates.softmax(-1).flatten(1).sort(-1, descending=True)
        if self.budget_ratio is not None:
            taken = (torch.arange(shares.shape[1], device=q.device) < (self.budget_ratio * seen).round()).expand_as(
                shares
            )
        elif self.mass_ratio == 1:
            taken = torch.ones_like(shares, dtype=torch.bool)
        else:
            taken = shares.cumsum(-1) <= self.mass_ratio * rows
        return torch.zeros_like(taken).scatter_(1, order, taken).view(estimates.shape)


def _line_mass(last: torch.Tensor, k: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean attention of the last queries to each key and to each distance, `[H, Tk]` both."""
    members = torch.unflatten(last, 0, (k.shape[0], -1)).unbind(1)
    vertical = [window_mass(member, k, scale=scale, pool_tokens=1) for member in members]
    slash = [slash_mass(member, k, scale=scale) for member in members]
    return torch.stack(vertical, 1).flatten(0, 1) / last.shape[1], torch.stack(slash, 1).flatten(0, 1) / last.shape[1]


def _blocks(mass: torch.Tensor) -> torch.Tensor:
    """The mass of blocks of tokens, `[H, nk]`."""
    return torch.unflatten(F.pad(mass, (0, -mass.shape[1] % BLOCK_TOKENS)), 1, (-1, BLOCK_TOKENS)).sum(-1)


def _divergence(last: torch.Tensor, k: torch.Tensor, blocks: torch.Tensor, scale: float) -> torch.Tensor:
    """How far estimated attention to blocks is from the true one, `[H]`."""
    mean = last.mean(1, keepdim=True, dtype=blocks.dtype).to(last.dtype)
    estimated = pooled_scores(mean, k, block_tokens=BLOCK_TOKENS, scale=scale)[:, 0].to(blocks.dtype).softmax(-1)
    middle = ((estimated + blocks) / 2).clamp(min=torch.finfo(blocks.dtype).tiny)
    parts = [torch.special.xlogy(one, one / middle).sum(-1) for one in (estimated, blocks)]
    squared: torch.Tensor = (parts[0] + parts[1]) / 2
    return squared.clamp(min=0).sqrt()


def _largest(blocks: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Marks of the `counts` largest of each head, bool `[H, nk]`."""
    order = blocks.argsort(dim=-1, descending=True, stable=True)
    taken = torch.arange(blocks.shape[1], device=blocks.device) < counts[:, None]
    return torch.zeros_like(taken).scatter_(1, order, taken)
