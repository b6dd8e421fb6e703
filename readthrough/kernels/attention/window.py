"""Attention of the newest tokens over a sliding window of keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK_TOKENS = 512


def attend_window(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, window_tokens: int, scale: float
) -> torch.Tensor:
    """Causal attention where each query sees its own key and the `window_tokens - 1` before it.

    Args:
        q: queries `[H, Tq, D]`, the last Tq positions of the Tk.
        k: keys `[Hkv, Tk, D]`, Tk >= Tq.
        v: values `[Hkv, Tk, D]`.
        window_tokens: the width of the window.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` in q's dtype.
    """
    group, past = q.shape[0] // k.shape[0], k.shape[1] - q.shape[1]
    out = torch.empty_like(q)
    for start in range(0, q.shape[1], BLOCK_TOKENS):
        end = min(q.shape[1], start + BLOCK_TOKENS)
        first = max(0, past + start - window_tokens + 1)
        at = torch.arange(past + start, past + end, device=q.device)[:, None]
        key_at = torch.arange(first, past + end, device=q.device)[None]
        seen = (key_at <= at) & (key_at > at - window_tokens)
        keys, values = (x[:, first : past + end].repeat_interleave(group, 0) for x in (k, v))
        block = F.scaled_dot_product_attention(
            q[None, :, start:end], keys[None], values[None], attn_mask=seen, scale=scale
        )
        out[:, start:end] = block[0]
    return out
