"""Attention over packed keys and values, which are never unpacked as a whole.

KIVI (arXiv 2402.02750) multiplies with packed numbers in its CUDA kernel. Differs from the paper: on a processor some
tokens at a time are unpacked into its cache, for torch's attention; on a CUDA device a Triton kernel unpacks them in
registers. `reference` is what both must equal.
"""

from __future__ import annotations

import torch

from readthrough.kernels.attention.cuda import runs_triton
from readthrough.kernels.gathered import QUERIES_MAX
from readthrough.kernels.packed_attention import spans
from readthrough.kernels.quantize import Packed

__all__ = ["attend_packed"]


def attend_packed(q: torch.Tensor, keys: Packed, values: Packed, *, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of every query over all of what is packed. Few queries are what it is made for; there may be many.

    On a processor no result depends on how many queries come together, as far as torch's kernel keeps to that.

    Args:
        q: queries `[H, Tq, D]`, in the dtype of what was packed.
        keys: of `[Hkv, Tk, D]`; H is a multiple of Hkv, and query head h reads key head `h // (H // Hkv)`.
        values: of `[Hkv, Tk, D]`; by another scheme, where it has one.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` in q's dtype, and the log-sum-exp of the scaled scores `[H, Tq]` in fp32.

    Raises:
        ValueError: shapes or dtypes do not fit together, or there is no query or no key.
    """
    if keys.shape != values.shape or q.shape[-1] != keys.shape[2] or 0 in keys.shape or q.shape[0] % keys.shape[0]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, keys {keys.shape}, values {values.shape}")
    if not q.dtype == keys.dtype == values.dtype:
        raise ValueError(f"queries of {q.dtype}, but keys were packed from {keys.dtype} and values from {values.dtype}")
    if not q.shape[1]:
        raise ValueError("attention needs at least one query")
    if q.dtype != torch.float32 and q.shape[1] <= QUERIES_MAX and runs_triton(q):
        from readthrough.kernels.packed_attention import triton

        return triton.attend(q, keys, values, scale)
    return spans.attend(q, keys, values, scale)
