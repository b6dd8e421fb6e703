"""The blocks of keys that are critical for a segment of queries.

Source: Lv et al., "CritiPrefill: A Segment-wise Criticality-based Approach for Prefilling Acceleration in LLMs", arXiv
2409.12490, section 3, and the authors' code (66RING/CritiPrefill, 3067f1e).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, blocks_of, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.scores import page_bounds


@dataclass(frozen=True)
class CritiPrefill(AttentionPattern):
    """The blocks of keys that are critical for a segment of queries (CritiPrefill, arXiv 2409.12490).

    The greatest and the least channel values of a segment's queries and of a block's keys are multiplied; the softmax
    over the blocks of earlier segments is blended with that of the layer before. A segment sees itself.

    Differs from the paper: blocks of 128 tokens in place of 32; the last segment is as sparse as the others; of a
    prompt that is read in chunks a segment that is cut is two. As in the authors' code the products are not scaled,
    query heads of a group share the mean, and the first two layers are not blended.

    Attributes:
        segment_tokens: the length of a segment (512 in the paper), whole blocks.
        budget_tokens: how many tokens of earlier segments one sees (2,048 in the authors' code, 1,024 in the paper).
        budget_ratio: in its place, the share of all blocks; None takes `budget_tokens`.
        fused_ratio: the share of the layer before (0.25 in the authors' code); 0 for none.
    """

    name = "critiprefill"

    segment_tokens: int = 512
    budget_tokens: int = 2048
    budget_ratio: float | None = None
    fused_ratio: float = 0.25

    def __post_init__(self) -> None:
        at_least(self, segment_tokens=BLOCK_TOKENS, budget_tokens=1, fused_ratio=0)
        ratios(self, "budget_ratio")
        if self.segment_tokens % BLOCK_TOKENS:
            raise ValueError(f"segment_tokens must be a multiple of {BLOCK_TOKENS}, got {self.segment_tokens}")
        if self.fused_ratio >= 1:
            raise ValueError(f"fused_ratio must be below 1, got {self.fused_ratio}")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By the segments' criticality in this layer alone."""
        return self.choose_at(q, k, layer=0, scale=scale, notes={})

    def choose_at(
        self, q: torch.Tensor, k: torch.Tensor, *, layer: int, scale: float, notes: dict[str, torch.Tensor]
    ) -> Choice:
        """By the segments' criticality, blended with that of the layer before."""
        query_blocks, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        critical = self._criticality(q, k)
        if self.name in notes and layer > 1:
            critical = self.fused_ratio * notes[self.name] + (1 - self.fused_ratio) * critical
        notes[self.name] = critical
        wide = self.segment_tokens // BLOCK_TOKENS
        own = torch.arange(key_blocks - query_blocks, key_blocks, device=q.device)
        at, first = torch.arange(key_blocks, device=q.device), (own // wide * wide)[:, None]
        count = blocks_of(self.budget_tokens)
        if self.budget_ratio is not None:
            count = max(1, round(self.budget_ratio * key_blocks))
        ranked = critical[:, own // wide - int(own[0]) // wide].masked_fill(at >= first, -1)
        best = ranked.topk(min(count, key_blocks), -1).indices
        mask = torch.zeros_like(ranked, dtype=torch.bool).scatter_(2, best, True) & (at < first)
        return Choice(BlockSelection.from_mask(mask | ((at >= first) & (at <= own[:, None]))))

    def _criticality(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Of each segment for the blocks before it, `[Hkv, segments, nk]`; all alike in a segment without any."""
        past = k.shape[1] - q.shape[1]
        head = -past % self.segment_tokens
        parts = [part for part in (q[:, :head], q[:, head:]) if part.shape[1]]
        bounds = [page_bounds(part, self.segment_tokens) for part in parts]
        wide = torch.promote_types(q.dtype, torch.float32)
        ends = torch.stack([torch.cat([bound[end] for bound in bounds], 1) for end in (0, 1)]).to(wide)
        rows = torch.unflatten(ends, 1, (k.shape[0], -1)).mean(0)  # the mean of two products is the product of the mean
        products = [rows @ keys.to(wide).mT[:, None] for keys in page_bounds(k, BLOCK_TOKENS)]
        scores = torch.maximum(*products).mean(1)
        segments = torch.arange(past // self.segment_tokens, past // self.segment_tokens + scores.shape[1])
        first = segments.to(q.device)[:, None] * (self.segment_tokens // BLOCK_TOKENS)
        hidden = torch.arange(scores.shape[2], device=q.device) >= first
        return scores.masked_fill(hidden, torch.finfo(wide).min).softmax(-1)
