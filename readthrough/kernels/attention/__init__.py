"""Dense attention of one sequence, with its log-sum-exp so that parts of a context can be merged.

`attend` picks the implementation by device; `reference.attend` is what every one must equal.
"""

from __future__ import annotations

import torch

from readthrough.kernels.attention import cpu, cuda, reference
from readthrough.kernels.attention.window import attend_window
from readthrough.kernels.merge import merge_lse

__all__ = ["NEWEST_TOKENS", "TILE_TOKENS", "attend", "attend_newest", "attend_placed", "attend_seen", "attend_window"]

NEWEST_TOKENS = 16
"""How many queries `attend_newest` is made for: up to so many, a mask costs less than a second call and a merge."""

TILE_TOKENS = 16
"""Kernels round differently where the number of keys is no multiple of this."""

PLACED_QUERIES = 64
"""How many queries `attend_placed` takes together: only the keys between the first's own and the last's need a mask."""


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of `q` over all of `k` or, if `causal`, of each query over the keys up to its own.

    Args:
        q: queries `[H, Tq, D]`, any floating dtype.
        k: keys `[Hkv, Tk, D]`; H is a multiple of Hkv, and query head h reads key head `h // (H // Hkv)`.
        v: values `[Hkv, Tk, D]`.
        causal: the queries belong to the last Tq keys, and query i sees the first Tk - Tq + i + 1.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` in q's dtype, and the log-sum-exp of the scaled scores `[H, Tq]` in fp32.

    Raises:
        ValueError: the shapes do not fit together, or there is no key.
    """
    _check(q, k, v, causal)
    causal = causal and q.shape[1] > 1
    if q.device.type == "cpu" and cpu.supports(q):
        return cpu.attend(q, k, v, causal=causal, scale=scale)
    if q.device.type == "cuda" and cuda.supports(q):
        return cuda.attend(q, k, v, causal=causal, scale=scale)
    return reference.attend(q, k, v, causal=causal, scale=scale)


def attend_newest(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tokens: int, scale: float, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of a few newest tokens, the same to the last bit whether they come one by one or together.

    Args:
        q: queries `[H, Tq, D]` of the last Tq of `tokens` tokens.
        k: keys `[Hkv, Tk, D]`; those from `tokens` on are ignored but must be finite. Tk should be a multiple of
            `TILE_TOKENS`: then the result does not depend on how many are ignored (measured with AMX and AVX-512).
        v: values `[Hkv, Tk, D]`, likewise.
        tokens: how many keys there are.
        scale: what the scores are multiplied with.
        first: so many first keys are ignored, too.

    Returns:
        As `attend`.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if not (first >= 0 and first + q.shape[1] <= tokens <= k.shape[1]):
        raise ValueError(f"{tokens - first} tokens do not fit {q.shape[1]} queries and {k.shape[1]} keys")
    if q.device.type == "cpu" and cpu.supports(q):
        _check(q, k, v, False)
        return cpu.attend_newest(q, k, v, tokens=tokens, scale=scale, first=first)
    return attend(q, k[:, first:tokens], v[:, first:tokens], causal=True, scale=scale)


def attend_placed(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, places: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of tokens in the midst of a text, each over the keys up to its own.

    Args:
        q: queries `[H, Tq, D]`, any floating dtype.
        k: keys `[Hkv, Tk, D]`.
        v: values `[Hkv, Tk, D]`.
        places: which key is each query's own, integers `[Tq]`, ascending, on the processor.
        scale: what the scores are multiplied with.

    Returns:
        As `attend`.

    Raises:
        ValueError: the shapes do not fit together, or a place is none.
    """
    _check(q, k, v, False)
    if places.shape != q.shape[1:2] or bool((places.diff() < 0).any()) or places[0] < 0 or places[-1] >= k.shape[1]:
        raise ValueError(f"places {tuple(places.shape)} do not ascend, or do not fit these queries and keys")
    found = []
    for start in range(0, q.shape[1], PLACED_QUERIES):
        at = slice(start, start + PLACED_QUERIES)
        queries, first, end = q[:, at], int(places[start]), int(places[at][-1]) + 1
        parts = [_attend_own(queries, k[:, first:end], v[:, first:end], places[at] - first, scale)]
        if first:
            parts.append(attend(queries, k[:, :first], v[:, :first], causal=False, scale=scale))
        found.append(merge_lse(parts))
    return torch.cat([out for out, _ in found], 1), torch.cat([lse for _, lse in found], 1)


def attend_seen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, seen: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of each query over keys of its own choice: for few keys, or few queries at a time.

    Args:
        q: queries `[H, Tq, D]`, any floating dtype.
        k: keys `[Hkv, Tk, D]`.
        v: values `[Hkv, Tk, D]`.
        seen: which keys each query sees, `[Tq, Tk]`: at least one.
        scale: what the scores are multiplied with.

    Returns:
        As `attend`.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _check(q, k, v, False)
    if seen.shape != (q.shape[1], k.shape[1]):
        raise ValueError(f"what is seen, {tuple(seen.shape)}, does not fit these queries and keys")
    if q.device.type == "cpu" and cpu.supports(q):
        return cpu.attend_seen(q, k, v, seen, scale)
    return reference.attend_seen(q, k, v, seen, scale)


def _attend_own(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, places: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    if q.device.type == "cpu" and cpu.supports(q):
        return cpu.attend_seen(q, k, v, torch.arange(k.shape[1]) <= places[:, None], scale)
    return reference.attend_placed(q, k, v, places, scale)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> None:
    if k.shape != v.shape or q.shape[-1] != k.shape[-1] or q.shape[0] % k.shape[0]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}")
    if k.shape[1] == 0:
        raise ValueError("attention needs at least one key")
    if causal and q.shape[1] > k.shape[1]:
        raise ValueError(f"causal attention needs a key for every query, got {k.shape[1]} for {q.shape[1]}")
