"""Attention over packed numbers in Triton, the tokens split among programs. Only for CUDA or the interpreter.

A program unpacks a tile of keys and one of values in registers, rounds them to the queries' dtype, and takes them into
the running softmax of the query heads that read them.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from readthrough.kernels.attention.triton import LOG2_E, fold, merge
from readthrough.kernels.gathered.triton import count_parts
from readthrough.kernels.quantize import Packed
from readthrough.kernels.quantize.triton import numbers_at, source_of


class Memory(NamedTuple):
    """Pointers to queries `[H, Tq, D]` (and their strides) and to results `[splits, H, Tq, ...]`."""

    q: Any
    q_head: Any
    q_token: Any
    out: Any
    lse: Any


class Sizes(NamedTuple):
    """What changes from call to call."""

    queries: Any
    tokens: Any
    split_tokens: Any
    scale: Any


class Shape(NamedTuple):
    """What the kernel is compiled for: `rows` of a group's queries and `tile` tokens at a time."""

    kv_heads: int
    group: int
    width: int
    width_padded: int
    rows: int
    tile: int


def attend(q: torch.Tensor, keys: Packed, values: Packed, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.packed_attention.attend_packed`; 16 bits only."""
    return attend_parts(q, keys, values, scale, count_parts(q, keys.shape[0], keys.shape[1]))


def attend_parts(
    q: torch.Tensor, keys: Packed, values: Packed, scale: float, parts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, split into so many parts."""
    q = q if q.stride(-1) == 1 else q.contiguous()
    heads, queries, width = q.shape
    kv_heads, tokens, _ = keys.shape
    width_padded = triton.next_power_of_2(width)
    group = heads // kv_heads
    rows = min(64, max(16, triton.next_power_of_2(group * queries)))
    shape = Shape(kv_heads, group, width, width_padded, rows, 64 if width_padded <= 128 else 32)
    split_tokens = -(-tokens // (parts * shape.tile)) * shape.tile
    part = q.new_empty(parts, heads, queries, width, dtype=torch.float32 if parts > 1 else q.dtype)
    part_lse = q.new_empty(parts, heads, queries, dtype=torch.float32)
    (key_source, key_layout), (value_source, value_layout) = source_of(keys), source_of(values)
    _attend[(triton.cdiv(group * queries, rows), kv_heads * parts)](
        Memory(q, q.stride(0), q.stride(1), part, part_lse),
        (key_source, value_source),
        Sizes(queries, tokens, split_tokens, scale),
        shape,
        (key_layout, value_layout),
    )
    if parts == 1:
        return part[0], part_lse[0]
    out, lse = q.new_empty(q.shape), part_lse.new_empty(q.shape[:2])
    merge[(heads * queries,)]((part, part_lse, out, lse), heads * queries, parts, width, width_padded)
    return out, lse


@triton.jit
def _attend(memory, sources, sizes, SHAPE: tl.constexpr, LAYOUTS: tl.constexpr):
    kv_head = (tl.program_id(1) % SHAPE.kv_heads).to(tl.int64)
    split = tl.program_id(1) // SHAPE.kv_heads
    row = tl.program_id(0) * SHAPE.rows + tl.arange(0, SHAPE.rows)
    head = kv_head * SHAPE.group + row // sizes.queries
    query = (row % sizes.queries).to(tl.int64)
    live = row < SHAPE.group * sizes.queries
    wide = tl.arange(0, SHAPE.width_padded)
    mask = live[:, None] & (wide < SHAPE.width)[None, :]
    q_at = head * memory.q_head + query * memory.q_token
    queries = tl.load(memory.q + q_at[:, None] + wide[None, :], mask=mask, other=0.0)

    top = tl.full([SHAPE.rows], -float("inf"), tl.float32)
    total = tl.zeros([SHAPE.rows], tl.float32)
    out = tl.zeros([SHAPE.rows, SHAPE.width_padded], tl.float32)
    begin = split * sizes.split_tokens
    end = tl.minimum(begin + sizes.split_tokens, sizes.tokens)
    for start in range(begin, end, SHAPE.tile):
        token = (start + tl.arange(0, SHAPE.tile)).to(tl.int64)
        seen = token < end
        there = seen[:, None] & (wide < SHAPE.width)[None, :]
        keys = numbers_at(sources[0], kv_head, token, wide, there, LAYOUTS[0]).to(queries.dtype)
        values = numbers_at(sources[1], kv_head, token, wide, there, LAYOUTS[1]).to(queries.dtype)
        top, total, out = fold((top, total, out), queries, (keys, values), seen[None, :], sizes.scale)

    result = (split * SHAPE.kv_heads * SHAPE.group + head) * sizes.queries + query
    lse = tl.where(total > 0, (top + tl.log2(tl.maximum(total, 1e-30))) / LOG2_E, -float("inf"))
    tl.store(memory.lse + result, lse, mask=live)
    out = out / tl.where(total > 0, total, 1.0)[:, None]
    at = memory.out + result[:, None] * SHAPE.width + wide[None, :]
    tl.store(at, out.to(memory.out.dtype.element_ty), mask=mask)
