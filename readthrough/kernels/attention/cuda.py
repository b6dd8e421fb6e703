"""Attention by torch's CUDA kernels that return the log-sum-exp: flash for 16 bits, memory-efficient for fp32."""

from __future__ import annotations

import torch

_HALF = (torch.bfloat16, torch.float16)


def supports(q: torch.Tensor) -> bool:
    """Whether a kernel takes this dtype and head width."""
    width = q.shape[-1]
    return (q.dtype in _HALF and width % 8 == 0 and width <= 256) or (q.dtype == torch.float32 and width % 4 == 0)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend`. Queries of a group are rows of one matrix where there is no mask."""
    heads, queries, width = q.shape
    kv_heads = k.shape[0]
    group = heads // kv_heads
    if causal:
        rows = q.unsqueeze(0)
        keys, values = (x.repeat_interleave(group, 0).unsqueeze(0) for x in (k, v))
    else:
        rows = q.reshape(1, kv_heads, group * queries, width)
        keys, values = k.unsqueeze(0), v.unsqueeze(0)
    if q.dtype in _HALF:
        result = torch.ops.aten._scaled_dot_product_flash_attention(rows, keys, values, 0.0, causal, False, scale=scale)
    else:
        result = torch.ops.aten._scaled_dot_product_efficient_attention(
            rows, keys, values, None, True, 0.0, causal, scale=scale
        )
    out, lse = result[0], result[1][..., : rows.shape[2]]  # the log-sum-exp comes padded to whole tiles
    return out.reshape(heads, queries, width), lse.reshape(heads, queries)
