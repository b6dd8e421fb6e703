"""Attention in plain torch: what the other implementations must equal, and what runs where there is none."""

from __future__ import annotations

import torch

BLOCK_SCORES = 1 << 26
"""The most scores held at once (256 MiB in fp32): queries are taken in blocks."""


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend`. Computes in fp32, in fp64 where the input is fp64."""
    return attend_placed(q, k, v, torch.arange(k.shape[1] - q.shape[1], k.shape[1]) if causal else None, scale)


def attend_placed(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, places: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend_placed`; without places every query sees all keys."""
    group = q.shape[0] // k.shape[0]
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    keys = k.to(wide).repeat_interleave(group, 0)
    values = v.to(wide).repeat_interleave(group, 0)
    out = torch.empty_like(q)
    lse = torch.empty(q.shape[:2], dtype=wide, device=q.device)
    block = max(1, BLOCK_SCORES // (q.shape[0] * k.shape[1]))
    for start in range(0, q.shape[1], block):
        end = min(q.shape[1], start + block)
        scores = q[:, start:end].to(wide) @ keys.transpose(-1, -2) * scale
        if places is not None:
            unseen = torch.arange(k.shape[1]) > places[start:end, None]
            scores = scores.masked_fill(unseen.to(q.device), -torch.inf)
        lse[:, start:end] = scores.logsumexp(-1)
        out[:, start:end] = (scores.softmax(-1) @ values).to(q.dtype)
    return out, lse.to(torch.float64 if wide == torch.float64 else torch.float32)


def attend_seen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.attention.attend_seen`."""
    group = q.shape[0] // k.shape[0]
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    keys, values = (x.to(wide).repeat_interleave(group, 0) for x in (k, v))
    scores = (q.to(wide) @ keys.transpose(-1, -2) * scale).masked_fill(~seen.to(q.device), -torch.inf)
    return (scores.softmax(-1) @ values).to(q.dtype), scores.logsumexp(-1)
