"""Attention over packed numbers a span of tokens at a time, which is unpacked where the last one was."""

from __future__ import annotations

from math import lcm

import torch

from readthrough.kernels.attention import attend as attend_plain
from readthrough.kernels.gathered import QUERIES_MAX, attend_split
from readthrough.kernels.merge import merge_lse
from readthrough.kernels.quantize import Packed, unpack

SPAN_NUMBERS = 1 << 20
"""About how many keys' numbers are unpacked at once: few enough for a processor's caches, enough for torch's kernel."""


def attend(q: torch.Tensor, keys: Packed, values: Packed, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.packed_attention.attend_packed`."""
    heads, tokens, width = keys.shape
    group = lcm(keys.scheme.group_tokens, values.scheme.group_tokens)
    span = min(tokens, max(SPAN_NUMBERS // (heads * width * group), 1) * group)
    k, v = q.new_empty(2, heads, span, width)
    parts = []
    for start in range(0, tokens, span):
        end = min(start + span, tokens)
        pair = [unpack(packed.tokens(start, end), room[:, : end - start]) for packed, room in ((keys, k), (values, v))]
        if q.shape[1] <= QUERIES_MAX:
            parts.append(attend_split(q, *pair, scale=scale))
        else:
            parts.append(attend_plain(q, *pair, causal=False, scale=scale))
    return merge_lse(parts)
