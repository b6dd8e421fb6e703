"""Codes and back in plain torch, on any device.

`split` says how tokens and channels are grouped: (tokens a group, channels a group), one of them 1 unless all are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

CHUNK_NUMBERS = 1 << 17
"""About how many numbers a thread converts at once: what is in fp32 meanwhile stays in a processor's cache."""
FP8_LARGEST = 448.0


def bounds(x: torch.Tensor, split: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest and largest number of each group, `[H, T / tokens, D / channels]`."""
    grouped = _grouped(x, split)
    return grouped.amin((2, 4)), grouped.amax((2, 4))


def level_codes(
    x: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor], split: tuple[int, int], bits: int
) -> torch.Tensor:
    """The numbers of the nearest of the 2^bits levels, packed into bytes `[H, T, D * bits / 8]`."""
    levels, per_byte = (1 << bits) - 1, 8 // bits
    near, far = (_spread(end, _wide(x)) for end in ends)
    reach = (far - near).masked_fill_(far == near, 1)
    codes = torch.empty(*x.shape[:2], x.shape[2] // per_byte, dtype=torch.uint8, device=x.device)
    for tokens, groups in _chunks(x, split[0]):
        grouped = _grouped(x[:, tokens], split).to(near.dtype)
        # multiplied before it is divided: so a tie is a tie, and halves are rounded alike on both ways
        numbers = ((grouped - near[:, groups]) * levels / reach[:, groups]).round_().to(torch.uint8)
        parts = torch.unflatten(numbers.reshape(x[:, tokens].shape), 2, (per_byte, -1))
        total = parts[:, :, 0].clone()
        for place in range(1, per_byte):
            total |= parts[:, :, place] << (bits * place)
        codes[:, tokens] = total
    return codes


def fp8_codes(x: torch.Tensor, peak: torch.Tensor, split: tuple[int, int]) -> torch.Tensor:
    """The numbers as e4m3 of 448 / `peak` times themselves, uint8 `[H, T, D]`."""
    factor = _spread(peak, _wide(x))
    factor = factor.masked_fill(factor == 0, 1)
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    for tokens, groups in _chunks(x, split[0]):
        scaled = _grouped(x[:, tokens], split).to(factor.dtype) * FP8_LARGEST / factor[:, groups]
        # torch rounds fp64 to fp8 by way of fp32 anyway
        codes[:, tokens] = scaled.view(x[:, tokens].shape).float().to(torch.float8_e4m3fn).view(torch.uint8)
    return codes


def from_codes(codes: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor | None], out: torch.Tensor) -> None:
    """Write what `codes` stand for to `out`, `[H, T, D]`.

    Args:
        codes: of `level_codes`, or of `fp8_codes`.
        ends: far and near; or the peak and None.
        out: where to.
    """
    bits, split, wide = 8 * codes.shape[2] // out.shape[2], _split_of(out, ends[0]), _wide(out)
    far, e4m3 = _spread(ends[0], wide), ends[1] is None
    # to add -0 changes nothing, to add 0 would change -0
    near = torch.full_like(far, -0.0) if ends[1] is None else _spread(ends[1], wide)
    step = far * (256 / FP8_LARGEST) if e4m3 else (far - near).div_((1 << bits) - 1)
    # all split at once, and views of the room made once: a slice takes as long as some of the arithmetic
    size = _chunk_tokens(out, split[0])
    pieces = [torch.split(x, size, 1) for x in (out, codes)] + [
        torch.split(x, size // split[0], 1) for x in (near, step)
    ]
    # tensors: a plain number would be converted at every use
    *shifts, mask = torch.tensor([*range(0, 8, bits), (1 << bits) - 1], dtype=torch.uint8, device=out.device)
    room = out.new_empty(0)
    for part, read, low, factor in zip(*pieces, strict=True):
        if part.shape != room.shape:
            room = torch.empty(part.shape, dtype=wide, device=out.device)
            numbers, places = _grouped(room, split), torch.unflatten(room, 2, (8 // bits, -1)).unbind(2)
        for index, place in enumerate(places):
            moved = read >> shifts[index] if index else read
            place.copy_(_from_e4m3(read) if e4m3 else moved if index == len(places) - 1 else moved & mask)
        if split[1] == 1:
            torch.addcmul(low, numbers, factor, out=numbers)
        else:
            # torch vectorises one operand that stays the same within a row, not two
            numbers.mul_(factor).add_(low)
        part.copy_(room)


def _from_e4m3(codes: torch.Tensor) -> torch.Tensor:
    """Numbers of e4m3 over 2^8: moved by 7, their bits are those in fp16. Ten times as fast as torch's conversion."""
    signed = codes.view(torch.int8).to(torch.int16)
    return ((signed << 7) & 0x3F80 | (signed & -0x8000)).view(torch.float16)


def _wide(x: torch.Tensor) -> torch.dtype:
    """What is computed in: levels between fp32 numbers need more than fp32."""
    return torch.float64 if x.dtype == torch.float32 else torch.float32


def _grouped(x: torch.Tensor, split: tuple[int, int]) -> torch.Tensor:
    """`[H, T, D]` as `[H, groups, tokens, groups, channels]`."""
    heads, tokens, width = x.shape
    return x.reshape(heads, tokens // split[0], split[0], width // split[1], split[1])


def _spread(ends: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bounds of groups so that they fit `_grouped`."""
    return ends.to(dtype)[:, :, None, :, None]


def _split_of(x: torch.Tensor, ends: torch.Tensor) -> tuple[int, int]:
    tokens = x.shape[1] // ends.shape[1] if ends.shape[1] else 1
    return tokens, x.shape[2] // ends.shape[2]


def _chunk_tokens(x: torch.Tensor, group: int) -> int:
    """How many tokens of `x`, `[H, T, D]`, to convert at once."""
    heads, tokens, width = x.shape
    groups = max(1, CHUNK_NUMBERS * torch.get_num_threads() // (heads * width * group))
    return min(tokens, groups * group)


def _chunks(x: torch.Tensor, group: int) -> Iterator[tuple[slice, slice]]:
    """Some tokens of `x`, `[H, T, D]`, at a time, and their groups."""
    step = _chunk_tokens(x, group)
    for first in range(0, x.shape[1], max(1, step)):
        last = min(first + step, x.shape[1])
        yield slice(first, last), slice(first // group, last // group)
