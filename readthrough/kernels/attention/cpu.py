"""Attention by torch's CPU flash kernel, which also returns the log-sum-exp."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from readthrough.kernels.merge import merge_lse

SPLIT_ROWS = 32
"""The kernel takes rows so many at a time, or a multiple of them."""

LEAST_ROWS = 4
"""Where fewer rows are left, it multiplies them otherwise and they round differently (measured with AVX-512)."""

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def supports(q: torch.Tensor) -> bool:
    """Whether the kernel takes this dtype."""
    return q.dtype in _DTYPES


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend`."""
    past = k.shape[1] - q.shape[1]
    if not causal:
        return _packed(q, k, v, None, scale)
    if not past:
        return _triangle(q, k, v, scale)
    own = _triangle(q, k[:, past:], v[:, past:], scale)
    return merge_lse([own, _packed(q, k[:, :past], v[:, :past], None, scale)])


def attend_newest(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tokens: int, scale: float, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend_newest`."""
    seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(tokens - q.shape[1])
    seen[:, :first] = False
    return attend_seen(q, k, v, seen, scale)


def attend_seen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each query over the keys that it sees, `[Tq, Tk]`: at least one."""
    mask = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, -torch.inf)
    return _packed(q, k, v, mask.repeat(q.shape[0] // k.shape[0], 1), scale)


def _packed(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every query over every key (less a mask `[G * Tq, Tk]`), the queries of a group as rows of one matrix.

    Each key is read once a group: a decode step is 2-3 times as fast as with a call a head. Idle rows fill the last
    few up, so that each row is computed as if it were among many.
    """
    heads, queries, width = q.shape
    count = heads // k.shape[0] * queries
    rows = q.reshape(1, k.shape[0], count, width)
    left = count % SPLIT_ROWS
    if 0 < left < LEAST_ROWS:
        rows = F.pad(rows, (0, 0, 0, LEAST_ROWS - left))
        mask = None if mask is None else F.pad(mask, (0, 0, 0, LEAST_ROWS - left))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        rows, k[None], v[None], 0.0, False, attn_mask=None if mask is None else mask[None, None], scale=scale
    )
    return out[0, :, :count].reshape(heads, queries, width), lse[0, :, :count].reshape(heads, queries)


def _triangle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As many queries as keys, each over the keys up to its own. Keys are repeated for a group by their strides."""
    heads, queries, width = q.shape
    kv_heads = k.shape[0]
    shape = (kv_heads, heads // kv_heads, queries, width)
    keys, values = (tensor.unsqueeze(1).expand(shape) for tensor in (k, v))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q.view(shape), keys, values, 0.0, True, attn_mask=None, scale=scale
    )
    return out.reshape(heads, queries, width), lse.reshape(heads, queries)
