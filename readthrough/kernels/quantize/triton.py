"""Unpacking as one Triton kernel. Imported only where there is a CUDA device, or the interpreter."""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from readthrough.kernels.quantize import Packed

TOKENS = 32
FP8_FACTOR = tl.constexpr(256 / 448)


class Source(NamedTuple):
    """Pointers to codes and bounds (`near` is `far` in fp8), and their strides in elements, of heads and tokens."""

    codes: Any
    far: Any
    near: Any
    codes_head: Any
    codes_token: Any
    ends_head: Any
    ends_row: Any


class Layout(NamedTuple):
    """What a kernel is compiled for. A group is `group_tokens` x `group_channels`."""

    bytes: int
    bits: int
    group_tokens: int
    group_channels: int
    fp8: bool


class Target(NamedTuple):
    """Pointer to the result `[H, T, D]`, the last dimension contiguous, and its strides."""

    out: Any
    head: Any
    token: Any


def source_of(packed: Packed) -> tuple[Source, Layout]:
    """Packed numbers as `numbers_at` takes them."""
    codes, far = packed.codes, packed.far
    near = far if packed.near is None else packed.near
    if near.stride() != far.stride():
        near, far = near.contiguous(), far.contiguous()
    _, tokens, width = packed.shape
    layout = Layout(
        codes.shape[2], packed.scheme.bits, tokens // far.shape[1], width // far.shape[2], packed.near is None
    )
    return Source(codes, far, near, *codes.stride()[:2], *far.stride()[:2]), layout


def unpack(packed: Packed, out: torch.Tensor) -> None:
    """See `kernels.quantize.unpack`; 16-bit results only."""
    heads, tokens, width = packed.shape
    if not tokens:
        return
    source, layout = source_of(packed)
    result = out if out.stride(2) == 1 else torch.empty(packed.shape, dtype=out.dtype, device=out.device)
    sizes = (TOKENS, width, triton.next_power_of_2(width))
    _unpack[(triton.cdiv(tokens, TOKENS), heads)](source, Target(result, *result.stride()[:2]), tokens, layout, sizes)
    if result is not out:
        out.copy_(result)


@triton.jit
def numbers_at(source, head, token, channel, mask, LAYOUT: tl.constexpr):
    """What stands for the channels `[D]` of the tokens `[T]` (int64) of a head (int64), in fp32 `[T, D]`."""
    codes_at = head * source.codes_head + token[:, None] * source.codes_token + (channel % LAYOUT.bytes)[None, :]
    codes = tl.load(source.codes + codes_at, mask=mask, other=0).to(tl.int32)
    row = head * source.ends_head + token // LAYOUT.group_tokens * source.ends_row
    ends_at = row[:, None] + (channel // LAYOUT.group_channels)[None, :]
    far = tl.load(source.far + ends_at, mask=mask, other=0.0).to(tl.float32)
    if LAYOUT.fp8:
        # the bits of e4m3 are those of a number 2^8 times smaller in fp16, moved by 7
        bits = ((codes & 0x7F) << 7) | ((codes & 0x80) << 8)
        value = bits.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32) * (far * FP8_FACTOR)
    else:
        near = tl.load(source.near + ends_at, mask=mask, other=0.0).to(tl.float32)
        levels: tl.constexpr = (1 << LAYOUT.bits) - 1
        number = (codes >> (channel // LAYOUT.bytes * LAYOUT.bits)[None, :]) & levels
        value = near + number.to(tl.float32) * ((far - near) / levels)
    return value


@triton.jit
def _unpack(source, target, tokens, LAYOUT: tl.constexpr, SIZES: tl.constexpr):
    head = tl.program_id(1).to(tl.int64)
    token = (tl.program_id(0) * SIZES[0] + tl.arange(0, SIZES[0])).to(tl.int64)
    channel = tl.arange(0, SIZES[2])
    mask = (token < tokens)[:, None] & (channel < SIZES[1])[None, :]
    value = numbers_at(source, head, token, channel, mask, LAYOUT)
    out_at = head * target.head + token[:, None] * target.token + channel[None, :]
    tl.store(target.out + out_at, value.to(target.out.dtype.element_ty), mask=mask)
