"""The Triton kernels of attention over listed keys. Imported only where there is a CUDA device, or the interpreter.

A program takes some rows of a block of queries (the query heads that share a choice of keys lie in one block, so that
a key is read once for all of them) through the keys that are listed for the block, and then through the block itself.
What is listed may be split among several programs, whose parts a second kernel merges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton.compiler import max_shared_mem

LOG2_E = tl.constexpr(1.4426950408889634)

ROW_BYTES = 256
"""The widest row of a tile of full height (128 bf16 numbers). Tiles of wider rows are lower, to take no more memory."""


class Memory(NamedTuple):
    """Pointers. Queries `[H, Tq, D]`, keys and values in items, results `[splits, H, Tq, ...]`, lists `[Hs, nq, n]`."""

    q: Any
    k: Any
    v: Any
    out: Any
    lse: Any
    items: Any
    tokens: Any


class Strides(NamedTuple):
    """In elements; the width of a head is contiguous."""

    q_head: Any
    q_token: Any
    k_head: Any
    k_item: Any
    k_token: Any
    v_head: Any
    v_item: Any
    v_token: Any
    items_row: Any


class Sizes(NamedTuple):
    """What changes from call to call. `first` is the position of query block 0, `past` that of query 0."""

    queries: Any
    keys: Any
    first: Any
    past: Any
    split_tokens: Any
    scale: Any


class Shape(NamedTuple):
    """What a kernel is compiled for. `item_tokens` is 0 where keys are not listed but taken in their order."""

    select_heads: int
    group: int
    select_per_kv_head: int
    block_tokens: int
    item_tokens: int
    own: bool
    width: int
    width_padded: int
    rows: int
    keys: int


@triton.jit
def fold(state, queries, kv, seen, scale):  # type: ignore[no-untyped-def]
    """Take a tile of keys and values into the running maximum, sum and output (the softmax to the base of 2)."""
    top, total, out = state
    keys, values = kv
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * (scale * LOG2_E)
    scores = tl.where(seen, scores, -float("inf"))
    higher = tl.maximum(top, tl.max(scores, 1))
    anchor = tl.where(higher == -float("inf"), 0.0, higher)
    shrink = tl.exp2(top - anchor)
    weights = tl.exp2(scores - anchor[:, None])
    total = total * shrink + tl.sum(weights, 1)
    out = tl.dot(weights.to(values.dtype), values, out * shrink[:, None], input_precision="ieee")
    return higher, total, out


@triton.jit  # type: ignore[untyped-decorator]
def _load(memory, strides, kv_head, place, SHAPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile of keys and one of values, `[keys, width_padded]`; `place` is item, token in it, and whether to load."""
    item, token, live = place
    wide = tl.arange(0, SHAPE.width_padded)
    mask = live[:, None] & (wide < SHAPE.width)[None, :]
    item, token, kv_head = item.to(tl.int64), token.to(tl.int64), kv_head.to(tl.int64)
    k_at = kv_head * strides.k_head + item * strides.k_item + token * strides.k_token
    v_at = kv_head * strides.v_head + item * strides.v_item + token * strides.v_token
    keys = tl.load(memory.k + k_at[:, None] + wide[None, :], mask=mask, other=0.0)
    values = tl.load(memory.v + v_at[:, None] + wide[None, :], mask=mask, other=0.0)
    return keys, values


@triton.jit  # type: ignore[untyped-decorator]
def _attend(memory, strides, sizes, SHAPE: tl.constexpr):  # type: ignore[no-untyped-def]
    select = tl.program_id(1) % SHAPE.select_heads
    split = tl.program_id(1) // SHAPE.select_heads
    tiles = tl.cdiv(SHAPE.group * SHAPE.block_tokens, SHAPE.rows)
    block = tl.program_id(0) // tiles
    blocks = tl.num_programs(0) // tiles
    row = tl.program_id(0) % tiles * SHAPE.rows + tl.arange(0, SHAPE.rows)
    head = (select * SHAPE.group + row // SHAPE.block_tokens).to(tl.int64)
    own = sizes.first + block * SHAPE.block_tokens
    position = own + row % SHAPE.block_tokens
    query = (position - sizes.past).to(tl.int64)
    live = (row < SHAPE.group * SHAPE.block_tokens) & (query >= 0) & (query < sizes.queries)
    wide = tl.arange(0, SHAPE.width_padded)
    mask = live[:, None] & (wide < SHAPE.width)[None, :]
    q_at = head * strides.q_head + query * strides.q_token
    queries = tl.load(memory.q + q_at[:, None] + wide[None, :], mask=mask, other=0.0)
    kv_head = select // SHAPE.select_per_kv_head

    top = tl.full([SHAPE.rows], -float("inf"), tl.float32)
    total = tl.zeros([SHAPE.rows], tl.float32)
    out = tl.zeros([SHAPE.rows, SHAPE.width_padded], tl.float32)
    listed = (select * blocks + block).to(tl.int64)
    tokens = tl.load(memory.tokens + listed)
    begin = split * sizes.split_tokens
    for start in range(begin, tl.minimum(begin + sizes.split_tokens, tokens), SHAPE.keys):
        at = start + tl.arange(0, SHAPE.keys)
        seen = at < tl.minimum(begin + sizes.split_tokens, tokens)
        if SHAPE.item_tokens > 0:
            item = tl.load(memory.items + listed * strides.items_row + at // SHAPE.item_tokens, mask=seen, other=0)
            place = (item, at % SHAPE.item_tokens, seen)
        else:
            place = (tl.zeros_like(at), at, seen)
        kv = _load(memory, strides, kv_head, place, SHAPE)
        top, total, out = fold((top, total, out), queries, kv, seen[None, :], sizes.scale)
    if SHAPE.own:
        for start in range(0, SHAPE.block_tokens, SHAPE.keys):
            at = own + start + tl.arange(0, SHAPE.keys)
            inside = at < tl.minimum(own + SHAPE.block_tokens, sizes.keys)
            # blocks are items of block_tokens here: the caller sees to it
            kv = _load(memory, strides, kv_head, (at // SHAPE.block_tokens, at % SHAPE.block_tokens, inside), SHAPE)
            seen = inside[None, :] & (at[None, :] <= position[:, None])
            top, total, out = fold((top, total, out), queries, kv, seen, sizes.scale)

    result = (split * SHAPE.select_heads * SHAPE.group + head) * sizes.queries + query
    lse = tl.where(total > 0, (top + tl.log2(tl.maximum(total, 1e-30))) / LOG2_E, -float("inf"))
    tl.store(memory.lse + result, lse, mask=live)
    out = out / tl.where(total > 0, total, 1.0)[:, None]
    at = memory.out + result[:, None] * SHAPE.width + wide[None, :]
    tl.store(at, out.to(memory.out.dtype.element_ty), mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def merge(memory, rows, splits, WIDTH: tl.constexpr, WIDTH_PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Merge the parts of one row: `memory` holds pointers to parts `[splits, rows, ...]` (out, lse) and results."""
    parts, parts_lse, out, out_lse = memory
    row = tl.program_id(0).to(tl.int64)
    wide = tl.arange(0, WIDTH_PADDED)
    top = tl.full([], -float("inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    merged = tl.zeros([WIDTH_PADDED], tl.float32)
    for split in range(0, splits):
        at = split * rows + row
        lse = tl.load(parts_lse + at)
        higher = tl.maximum(top, lse)
        anchor = tl.where(higher == -float("inf"), 0.0, higher)
        shrink, weight = tl.exp(top - anchor), tl.exp(lse - anchor)
        part = tl.load(parts + at * WIDTH + wide, mask=wide < WIDTH, other=0.0)
        merged = merged * shrink + part * weight
        total = total * shrink + weight
        top = higher
    tl.store(out_lse + row, tl.where(total > 0, top + tl.log(tl.maximum(total, 1e-30)), -float("inf")))
    merged = merged / tl.where(total > 0, total, 1.0)
    tl.store(out + row * WIDTH + wide, merged.to(out.dtype.element_ty), mask=wide < WIDTH)


class Listing(NamedTuple):
    """The keys of each block of queries.

    Attributes:
        items: int32 `[Hs, nq, n]`, those in use first; None takes the keys in their order.
        tokens: int32 `[Hs, nq]`: how many keys are listed.
        item_tokens: how many keys an item has.
        block_tokens: the width of a block of queries.
        past: the position of the first query; blocks are aligned at 0.
        own: whether queries also see the block of keys that they lie in, causally; items are blocks then.
        splits: how many programs share a list.
    """

    items: torch.Tensor | None
    tokens: torch.Tensor
    item_tokens: int
    block_tokens: int
    past: int
    own: bool
    splits: int


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, listing: Listing, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of blocks of queries over their listed keys. Shapes are as the callers have checked them.

    Args:
        q: queries `[H, Tq, D]`.
        k: keys `[Hkv, Tk, D]`, or `[Hkv, P, page, D]` where items are pages.
        v: values, likewise.
        listing: the keys.
        scale: what the scores are multiplied with.

    Returns:
        The output in q's dtype and the log-sum-exp `[H, Tq]` in fp32; 0 and minus infinity where no key is seen.
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    heads, queries, width = q.shape
    keys = k.shape[1] * (k.shape[2] if k.dim() == 4 else 1)
    first = listing.past // listing.block_tokens * listing.block_tokens
    splits, tokens = listing.splits, listing.tokens.contiguous()
    items = tokens if listing.items is None else listing.items.contiguous()
    part = q.new_empty(splits, heads, queries, width, dtype=torch.float32 if splits > 1 else q.dtype)
    part_lse = q.new_empty(splits, heads, queries, dtype=torch.float32)
    shape = _shape(q, k, tokens, listing)
    span = items.shape[-1] * listing.item_tokens if listing.items is not None else keys
    split_tokens = -(-span // (splits * shape.keys)) * shape.keys
    tiles = -(-shape.group * shape.block_tokens // shape.rows)
    _attend[(tiles * tokens.shape[1], tokens.shape[0] * splits)](
        Memory(q, k, v, part, part_lse, items, tokens),
        Strides(q.stride(0), q.stride(1), *_kv_strides(k, listing), *_kv_strides(v, listing), items.shape[-1]),
        Sizes(queries, keys, first, listing.past, split_tokens, scale),
        shape,
        num_warps=4 if shape.rows * shape.width_padded <= 4096 else 8,
        num_stages=_stages(q),
    )
    if splits == 1:
        return part[0], part_lse[0]
    out, lse = q.new_empty(q.shape), part_lse.new_empty(q.shape[:2])
    merge[(heads * queries,)]((part, part_lse, out, lse), heads * queries, splits, width, shape.width_padded)
    return out, lse


def _shape(q: torch.Tensor, k: torch.Tensor, tokens: torch.Tensor, listing: Listing) -> Shape:
    group = q.shape[0] // tokens.shape[0]
    width_padded = triton.next_power_of_2(q.shape[2])
    shrink = max(1, width_padded * q.element_size() // ROW_BYTES)
    return Shape(
        select_heads=tokens.shape[0],
        group=group,
        select_per_kv_head=tokens.shape[0] // k.shape[0],
        block_tokens=listing.block_tokens,
        item_tokens=0 if listing.items is None else listing.item_tokens,
        own=listing.own,
        width=q.shape[2],
        width_padded=width_padded,
        rows=min(128 // shrink, max(16, triton.next_power_of_2(group * listing.block_tokens))),
        keys=64 // shrink,
    )


def _stages(q: torch.Tensor) -> int:
    """How many tiles of keys and values to load ahead: three where the shared memory holds them beside the queries."""
    if not q.is_cuda:
        return 1
    return 3 if max_shared_mem(q.device.index) >= (128 + 3 * 2 * 64) * ROW_BYTES else 2


def _kv_strides(x: torch.Tensor, listing: Listing) -> tuple[int, int, int]:
    if x.dim() == 4:
        return x.stride(0), x.stride(1), x.stride(2)
    return x.stride(0), x.stride(1) * listing.item_tokens, x.stride(1)
