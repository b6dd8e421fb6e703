"""Attention over what is unpacked first: what the other implementations must equal."""

from __future__ import annotations

import torch

from readthrough.kernels.attention import reference
from readthrough.kernels.quantize import Packed, unpack


def attend(q: torch.Tensor, keys: Packed, values: Packed, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.packed_attention.attend_packed`; in fp64 where q is."""
    return reference.attend(q, unpack(keys).to(q.dtype), unpack(values).to(q.dtype), causal=False, scale=scale)
