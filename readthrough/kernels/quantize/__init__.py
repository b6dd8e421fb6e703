"""Keys and values in 8, 4 or 2 bits.

A group of numbers keeps its smallest and largest as they are, in the input's own dtype, and each number becomes the
nearest of the evenly spaced levels between them (int8, int4, int2); in fp8 a group keeps its largest magnitude, which
becomes e4m3's largest number, 448. Levels are counted from the end that is nearer to 0: so `near + number * step` in
fp32 rounds to both ends exactly. What holds of every scheme but the last clause:

* the error is at most half the distance of two levels, and the rounding of the result to its dtype;
* a group's smallest and largest numbers come back as they were, and so does a group of equal numbers;
* packing what was unpacked gives the same bytes (fp8: but for numbers that are subnormal in fp16).

KIVI (arXiv 2402.02750) packs keys a channel over groups of tokens and values a token over groups of channels. Differs
from the paper: it keeps a zero and a scale, whose rounding adds to the error; the two bounds take the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.kernels.attention.cuda import runs_triton
from readthrough.kernels.quantize import packing

__all__ = ["Packed", "Scheme", "pack", "unpack"]

_BITS = {"fp8": 8, "int8": 8, "int4": 4, "int2": 2}
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LARGEST = 2.0**100
"""Larger numbers are refused: their differences would overflow."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How numbers are packed.

    Attributes:
        form: `int8`, `int4`, `int2` or `fp8` (e4m3).
        axis: what has bounds of its own: each `channel`, over `group` consecutive tokens, or each `token`, over `group`
            consecutive channels.
        group: how many numbers share bounds; None for all channels of a token.

    Raises:
        ValueError: there is no such form or axis, or the group does not fit the axis.
    """

    form: Literal["fp8", "int8", "int4", "int2"]
    axis: Literal["channel", "token"]
    group: int | None = None

    def __post_init__(self) -> None:
        if self.form not in _BITS or self.axis not in ("channel", "token"):
            raise ValueError(f"no scheme {self.form!r} a {self.axis!r}: fp8, int8, int4 or int2 a channel or token")
        if self.group is None and self.axis == "channel":
            raise ValueError("bounds a channel need a group of tokens")
        if self.group is not None and self.group < 1:
            raise ValueError(f"a group must hold at least one number, got {self.group}")

    @property
    def bits(self) -> int:
        """Bits a number, without its share of the bounds."""
        return _BITS[self.form]

    @property
    def group_tokens(self) -> int:
        """How many consecutive tokens belong together: what is packed must be a multiple."""
        return self.group if self.axis == "channel" and self.group else 1


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Packed numbers `[H, T, D]`.

    Attributes:
        scheme: how they are packed.
        codes: uint8 `[H, T, D * bits / 8]`: byte i of a token holds the channels i, i + n, ... of n bytes a token, the
            first in its lowest bits.
        far: of each group's smallest and largest number the one that is farther from 0, or their largest magnitudes in
            fp8, in the dtype of what was packed: `[H, T / group, D]` a channel, `[H, T, D / group]` a token.
        near: the other one, likewise; None in fp8.
    """

    scheme: Scheme
    codes: torch.Tensor
    far: torch.Tensor
    near: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """The bytes of codes and bounds."""
        return self.codes.nbytes + self.far.nbytes + (0 if self.near is None else self.near.nbytes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape `(H, T, D)` of what was packed."""
        heads, tokens, width = self.codes.shape
        return heads, tokens, width * 8 // self.scheme.bits

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what was packed."""
        return self.far.dtype

    def tokens(self, start: int, end: int) -> Packed:
        """The tokens from `start` to `end`, without a copy.

        Raises:
            ValueError: they cut a group, or are not there.
        """
        group = self.scheme.group_tokens
        if not 0 <= start <= end <= self.codes.shape[1] or start % group or end % group:
            raise ValueError(f"tokens {start} to {end} of {self.codes.shape[1]} are no whole groups of {group}")
        rows = slice(start // group, end // group)
        near = None if self.near is None else self.near[:, rows]
        return Packed(self.scheme, self.codes[:, start:end], self.far[:, rows], near)


def pack(x: torch.Tensor, scheme: Scheme) -> Packed:
    """Pack keys or values.

    A tail that is shorter than a group of tokens is the caller's: it stays in full precision until the group is full.

    Args:
        x: `[H, T, D]`, bf16, fp16 or fp32; T may be 0.
        scheme: how.

    Returns:
        The packed numbers, on x's device.

    Raises:
        ValueError: T is no multiple of a group of tokens or D none of a group of channels or of the numbers in a byte,
            or a number is NaN, infinite or beyond 2^100.
    """
    if x.ndim != 3 or x.dtype not in _DTYPES:
        raise ValueError(f"only bf16, fp16 and fp32 [H, T, D] can be packed, got {x.dtype} {tuple(x.shape)}")
    _, tokens, width = x.shape
    channels = width if scheme.axis == "channel" else scheme.group or width
    if not width or width % channels or width % (8 // scheme.bits):
        raise ValueError(f"{width} channels are no whole groups of {channels} in bytes of {8 // scheme.bits} numbers")
    if tokens % scheme.group_tokens:
        raise ValueError(f"{tokens} tokens are no whole groups of {scheme.group_tokens}: keep the last ones unpacked")
    split = (scheme.group_tokens, channels if scheme.axis == "token" else 1)
    low, high = packing.bounds(x, split)
    # of NaN every comparison is false
    if x.numel() and not bool(((low >= -LARGEST) & (high <= LARGEST)).all()):
        raise ValueError("only finite numbers up to 2^100 can be packed")
    if scheme.form == "fp8":
        peak = torch.maximum(high, -low).abs()  # no -0
        return Packed(scheme, packing.fp8_codes(x, peak, split), peak, None)
    swapped = low.abs() > high.abs()
    near, far = torch.where(swapped, high, low), torch.where(swapped, low, high)
    return Packed(scheme, packing.level_codes(x, (near, far), split, scheme.bits), far, near)


def unpack(packed: Packed, out: torch.Tensor | None = None) -> torch.Tensor:
    """The numbers `[H, T, D]` in the dtype of what was packed.

    Args:
        packed: what `pack` gave.
        out: where to write them, of that shape and dtype; by default new memory.

    Raises:
        ValueError: `out` does not fit.
    """
    if out is None:
        out = torch.empty(packed.shape, dtype=packed.dtype, device=packed.codes.device)
    if out.shape != packed.shape or out.dtype != packed.dtype:
        raise ValueError(f"{packed.dtype} {packed.shape} does not go into {out.dtype} {tuple(out.shape)}")
    if packed.dtype != torch.float32 and runs_triton(out):
        from readthrough.kernels.quantize import triton

        triton.unpack(packed, out)
    else:
        packing.from_codes(packed.codes, (packed.far, packed.near), out)
    return out
