"""Dense attention of one sequence, with its log-sum-exp so that parts of a context can be merged.

`attend` picks the implementation by device; `reference.attend` is what every one must equal.
"""

from __future__ import annotations

import torch

from readthrough.kernels.attention import cpu, cuda, reference
from readthrough.kernels.attention.window import attend_window

__all__ = ["attend", "attend_window"]


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of `q` over all of `k` (or, if `causal`, of each query over the keys up to its own).

    Args:
        q: queries `[H, Tq, D]`, any floating dtype.
        k: keys `[Hkv, Tk, D]`; H is a multiple of Hkv, and query head h reads key head `h // (H // Hkv)`.
        v: values `[Hkv, Tk, D]`.
        causal: query i sees keys 0..i; needs Tq == Tk.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` in q's dtype, and the log-sum-exp of the scaled scores `[H, Tq]` in fp32.

    Raises:
        ValueError: the shapes do not fit together, or there is no key.
    """
    _check(q, k, v, causal)
    if q.device.type == "cpu" and cpu.supports(q):
        return cpu.attend(q, k, v, causal=causal, scale=scale)
    if q.device.type == "cuda" and cuda.supports(q):
        return cuda.attend(q, k, v, causal=causal, scale=scale)
    return reference.attend(q, k, v, causal=causal, scale=scale)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> None:
    if k.shape != v.shape or q.shape[-1] != k.shape[-1] or q.shape[0] % k.shape[0]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}")
    if k.shape[1] == 0:
        raise ValueError("attention needs at least one key")
    if causal and q.shape[1] != k.shape[1]:
        raise ValueError(f"causal attention needs as many keys as queries, got {k.shape[1]} and {q.shape[1]}")
