"""Attention over chosen blocks and columns against its definition in fp64, on memory full of NaN."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough.kernels.attention import attend
from readthrough.kernels.block_sparse import BlockSelection, attend_blocks, attend_columns, count_blocks, cpu, reference
from readthrough.kernels.block_sparse.table import KeyTable
from readthrough.kernels.merge import merge_lse
from tests.kernel_samples import check, explicit, inputs, poison_memory
from tests.triton_samples import needs_triton, run_interpreted

GROUPS = [(1, 1), (3, 4), (2, 7), (5, 1)]
"""Key heads, and query heads to each."""

LENGTHS = [(1, 1), (63, 63), (1000, 1000), (300, 1000), (37, 700), (1, 513), (128, 640), (5, 130)]
"""Queries and keys: alone, whole, chunks that begin and end inside blocks, one token."""

CASES = [(*length, heads) for length in LENGTHS for heads in GROUPS if length[1] < 1000 or heads == (2, 7)]


@pytest.fixture(autouse=True)
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written finds out."""
    poison_memory(monkeypatch)


def some_blocks(heads: int, queries: int, keys: int, block_tokens: int, share: float = 0.4) -> BlockSelection:
    """A random choice, different for each head and query block, often empty."""
    query_blocks, key_blocks = count_blocks(queries, keys, block_tokens)
    generator = torch.Generator().manual_seed(heads * 1000 + keys)
    mask = torch.rand(heads, query_blocks, key_blocks, generator=generator) < share
    return BlockSelection.from_mask(mask.tril(key_blocks - query_blocks))


def seen_blocks(selected: BlockSelection, heads: int, queries: int, keys: int, block_tokens: int) -> torch.Tensor:
    """The mask `[H, Tq, Tk]` of what a selection lets each query see."""
    at = torch.arange(keys - queries, keys)
    block = at // block_tokens
    own = torch.arange(keys) // block_tokens == block[:, None]
    past = selected.mask()[:, block - selected.first_block].repeat_interleave(block_tokens, 2)[:, :, :keys]
    seen = (past | own) & (torch.arange(keys) <= at[:, None])
    return seen.repeat_interleave(heads // len(seen), 0)


def seen_columns(columns: torch.Tensor, heads: int, queries: int, keys: int, block_tokens: int) -> torch.Tensor:
    """The mask of what columns `[Hs, nc]` let each query see."""
    chosen = torch.zeros(columns.shape[0], keys + 1, dtype=torch.bool)
    chosen.scatter_(1, columns.masked_fill(columns < 0, keys), True)
    own_start = torch.arange(keys - queries, keys) // block_tokens * block_tokens
    seen = chosen[:, None, :keys] & (torch.arange(keys) < own_start[:, None])
    return seen.repeat_interleave(heads // columns.shape[0], 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("queries", "keys", "heads"), CASES, ids=str)
def test_blocks(queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    qkv = inputs(queries, keys, heads, dtype)
    for select_heads in {heads[0], heads[0] * heads[1]}:
        selected = some_blocks(select_heads, queries, keys, 128)
        found = attend_blocks(*qkv, selected, scale=0.125)
        check(found, explicit(qkv, seen_blocks(selected, len(qkv[0]), queries, keys, 128)), dtype)


@pytest.mark.parametrize("block_tokens", [16, 64, 100])
def test_reference_and_other_block_widths(block_tokens: int) -> None:
    qkv = [x.double() for x in inputs(130, 333, (2, 3))]
    selected = some_blocks(6, 130, 333, block_tokens)
    expected = explicit(qkv, seen_blocks(selected, 6, 130, 333, block_tokens))
    table = KeyTable.checked(selected.blocks, 333, block_tokens, block_tokens, own=True)
    check(reference.attend(*qkv, table, 0.125), expected, torch.float64)
    check(attend_blocks(*qkv, selected, block_tokens=block_tokens, scale=0.125), expected, torch.float64)


def test_long() -> None:
    """4096 tokens, ragged counts, in several calls to a bucket."""
    qkv = inputs(4096, 4096, (2, 7), torch.bfloat16)
    selected = some_blocks(2, 4096, 4096, 128, share=0.2)
    found = attend_blocks(*qkv, selected, scale=0.125)
    table = KeyTable.checked(selected.blocks, 4096, 128, 128, own=True)
    out, lse = reference.attend(*(x.float() for x in qkv), table, 0.125)
    check(found, (out.double(), lse.double()), torch.bfloat16)


def test_small_gathers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = inputs(1000, 1000, (2, 2))
    selected = some_blocks(2, 1000, 1000, 64)
    whole = attend_blocks(*qkv, selected, block_tokens=64, scale=0.125)
    monkeypatch.setattr(cpu, "GATHER_BYTES", 1)
    pieces = attend_blocks(*qkv, selected, block_tokens=64, scale=0.125)
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_everything_selected_is_dense(queries: int, keys: int) -> None:
    qkv = inputs(queries, keys, (2, 3))
    selected = BlockSelection.all_past(2, *count_blocks(queries, keys, 128))
    assert selected.density() == 1
    found = attend_blocks(*qkv, selected, scale=0.125)
    assert all(map(torch.equal, found, attend(*qkv, causal=True, scale=0.125)))
    table = KeyTable.checked(selected.blocks, keys, 128, 128, own=True)
    out, lse = attend(*(x.double() for x in qkv), causal=True, scale=0.125)
    check(cpu.attend(*qkv, table, 0.125), (out, lse), torch.float32)


def test_strided_inputs() -> None:
    """Queries are views of `[T, H, D]` memory as projections make them, keys of larger buffers as caches hold them."""
    q, k, v = inputs(300, 520, (2, 3))
    selected = some_blocks(2, 300, 520, 128)
    strided = q.transpose(0, 1).contiguous().transpose(0, 1)
    buffers = [torch.full((2, 700, 64), float("nan")) for _ in range(2)]
    for buffer, x in zip(buffers, (k, v), strict=True):
        buffer[:, :520] = x
    found = attend_blocks(strided, *(b[:, :520] for b in buffers), selected, scale=0.125)
    assert all(map(torch.equal, found, attend_blocks(q, k, v, selected, scale=0.125)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("queries", "keys", "heads"), CASES, ids=str)
def test_columns(queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    qkv = inputs(queries, keys, heads, dtype)
    generator = torch.Generator().manual_seed(keys)
    for select_heads in {heads[0], heads[0] * heads[1]}:
        columns = torch.stack([torch.randperm(keys, generator=generator)[:50] for _ in range(select_heads)])
        columns[:, ::7] = -1
        seen = seen_columns(columns, len(qkv[0]), queries, keys, 128)
        check(attend_columns(*qkv, columns, scale=0.125), explicit(qkv, seen), dtype)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_and_columns_count_each_key_once(data: st.DataObject) -> None:
    """Any blocks and any columns, merged, are attention over their union; the same by the reference."""
    keys = data.draw(st.integers(1, 200))
    queries = data.draw(st.integers(1, keys))
    block_tokens = data.draw(st.sampled_from([16, 32, 50]))
    heads = data.draw(st.sampled_from(GROUPS))
    select_heads = data.draw(st.sampled_from([heads[0], heads[0] * heads[1]]))
    qkv = inputs(queries, keys, heads, width=16)
    selected = some_blocks(select_heads, queries, keys, block_tokens, data.draw(st.floats(0, 1)))
    chosen = data.draw(st.lists(st.integers(0, keys - 1), unique=True, max_size=keys))
    columns = torch.tensor([*chosen, -1]).expand(select_heads, -1)
    left = selected.uncovered(columns, block_tokens)
    found = merge_lse(
        [
            attend_blocks(*qkv, selected, block_tokens=block_tokens, scale=0.125),
            attend_columns(*qkv, left, block_tokens=block_tokens, scale=0.125),
        ]
    )
    seen = seen_blocks(selected, len(qkv[0]), queries, keys, block_tokens)
    seen = seen | seen_columns(columns, len(qkv[0]), queries, keys, block_tokens)
    check(found, explicit(qkv, seen), torch.float32)
    table = KeyTable.checked(left, keys, 1, block_tokens, own=False)
    torch.testing.assert_close(
        reference.attend(*qkv, table, 0.125),
        attend_columns(*qkv, left, block_tokens=block_tokens, scale=0.125),
        atol=4e-6,
        rtol=0,
    )


def test_selection_forms() -> None:
    mask = torch.tensor([[[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 1]]]).bool()
    selected = BlockSelection.from_mask(mask)
    assert selected.blocks.tolist() == [[[0, -1], [1, -1], [0, 1]]]
    assert selected.first_block == 1
    assert selected.density() == (4 + 3) / (2 + 3 + 4)
    assert selected.mask().tolist() == mask.logical_and(torch.ones(3, 4).tril(0)).tolist()
    assert BlockSelection.from_mask(selected.mask()).blocks.equal(selected.blocks)
    assert BlockSelection.all_past(1, 3, 4).blocks.tolist() == [[[0, -1, -1], [0, 1, -1], [0, 1, 2]]]
    with pytest.raises(ValueError, match="behind the queries' own"):
        BlockSelection.from_mask(torch.ones(1, 3, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("blocks", "key_blocks", "match"),
    [
        ([[[0], [1]]], 2, "before the queries' own block"),
        ([[[-2], [0]]], 2, "must be -1"),
        ([[[-1, -1], [0, 0]]], 2, "listed twice"),
        ([[[-1], [0]]], 3, "do not fit 200 keys"),
        ([[[-1]]], 2, "the queries lie in 2 blocks"),
        ([[[-1], [0]]] * 3, 2, "each key head or each query head"),
    ],
)
def test_bad_selections_are_refused(blocks: list[list[list[int]]], key_blocks: int, match: str) -> None:
    qkv = inputs(200, 200, (2, 2))
    blocks = blocks if len(blocks) > 1 else blocks * 2
    with pytest.raises(ValueError, match=match):
        attend_blocks(*qkv, BlockSelection(torch.tensor(blocks), key_blocks), scale=1.0)


def test_bad_columns_and_shapes_are_refused() -> None:
    q, k, v = inputs(200, 200, (1, 2))
    for columns, match in (([[3, 3]], "twice"), ([[200]], "200 keys"), ([[-2]], "must be -1"), ([[1]] * 3, "head")):
        with pytest.raises(ValueError, match=match):
            attend_columns(q, k, v, torch.tensor(columns), scale=1.0)
    columns = torch.tensor([[1]])
    with pytest.raises(ValueError, match="do not fit"):
        attend_columns(q, k[..., :32], v, columns, scale=1.0)
    with pytest.raises(ValueError, match="a key for every query"):
        attend_columns(q, k[:, :100], v[:, :100], columns, scale=1.0)


TRITON_CASES = [
    # queries, keys, heads, heads that choose, block, width
    (100, 100, (2, 3), 2, 32, 64),
    (37, 131, (1, 7), 7, 16, 80),
    (5, 70, (2, 1), 2, 64, 96),
    (33, 300, (1, 4), 1, 50, 256),
    (1, 1, (1, 1), 1, 128, 128),
]


def triton_case(case: tuple[int, int, tuple[int, int], int, int, int], dtype: torch.dtype, device: str) -> None:
    from readthrough.kernels.block_sparse import triton

    queries, keys, heads, select_heads, block_tokens, width = case
    qkv = inputs(queries, keys, heads, dtype, width)
    selected = some_blocks(select_heads, queries, keys, block_tokens)
    every = torch.arange(0, keys, 3).expand(select_heads, -1)
    columns = selected.uncovered(every, block_tokens)
    covered = seen_blocks(selected, len(qkv[0]), queries, keys, block_tokens)
    single = seen_columns(every, len(qkv[0]), queries, keys, block_tokens) & ~covered
    for listed, item_tokens, own, seen in ((selected.blocks, block_tokens, True, covered), (columns, 1, False, single)):
        table = KeyTable.checked(listed.to(device), keys, item_tokens, block_tokens, own)
        found = triton.attend(*(x.to(device) for x in qkv), table, 0.125)
        check(found, explicit(qkv, seen), dtype)


@needs_triton
def test_triton_under_its_interpreter() -> None:
    run_interpreted("tests/reference/test_block_sparse.py", "test_interpreted")


if os.environ.get("TRITON_INTERPRET") == "1":

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
    @pytest.mark.parametrize("case", TRITON_CASES, ids=str)
    def test_interpreted(case: tuple[int, int, tuple[int, int], int, int, int], dtype: torch.dtype) -> None:
        triton_case(case, dtype, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("case", [*TRITON_CASES, (1000, 1000, (2, 7), 2, 128, 128)], ids=str)
def test_triton_on_a_gpu(case: tuple[int, int, tuple[int, int], int, int, int], dtype: torch.dtype) -> None:
    triton_case(case, dtype, "cuda")
