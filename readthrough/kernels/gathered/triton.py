"""Attention over chosen items of keys on a CUDA device: each head's list is split among programs, then merged."""

from __future__ import annotations

import torch

from readthrough.kernels.attention.triton import Listing, attend

PART_TOKENS_MIN = 256
PROGRAMS_A_PROCESSOR = 2

Pair = tuple[torch.Tensor, torch.Tensor]


def attend_items(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, chosen: tuple[torch.Tensor, torch.Tensor], scale: float
) -> Pair:
    """See `reference.attend_items`; k and v may also be `[Hkv, Tk, D]`, for items of one token."""
    numbers, lengths = chosen
    item_tokens = k.shape[2] if k.dim() == 4 else 1
    parts = count_parts(q, k.shape[0], numbers.shape[1] * item_tokens)
    listing = Listing(numbers.int().unsqueeze(1), lengths.int().unsqueeze(1), item_tokens, q.shape[1], 0, False, parts)
    return attend(q, k, v, listing, scale)


def attend_split(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, parts: int | None, scale: float) -> Pair:
    """See `gathered.attend_split`."""
    tokens = torch.full((k.shape[0], 1), k.shape[1], dtype=torch.int32, device=q.device)
    listing = Listing(None, tokens, 1, q.shape[1], 0, False, parts or count_parts(q, *k.shape[:2]))
    return attend(q, k, v, listing, scale)


def count_parts(q: torch.Tensor, kv_heads: int, tokens: int) -> int:
    """Into how many parts to split `tokens` tokens, to keep q's device busy."""
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count if q.is_cuda else 1
    return max(1, min(PROGRAMS_A_PROCESSOR * processors // kv_heads, tokens // PART_TOKENS_MIN))
