"""Attention kernels against plain attention in fp64, on memory that is full of NaN where nothing was written."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from readthrough.kernels import merge
from readthrough.kernels.attention import attend, attend_newest, attend_placed, attend_window, reference
from readthrough.kernels.merge import merge_lse
from tests.kernel_samples import explicit, inputs, poison_memory

LENGTHS = [1, 63, 1000]
GROUPS = [(1, 1), (3, 4), (2, 7), (5, 1)]
"""Key heads, and query heads to each."""

# Largest difference to fp64 that was seen over these shapes, times three to four: the kernels accumulate in fp32.
BUDGET = {torch.float32: 4e-6, torch.bfloat16: 4e-2}


@pytest.fixture(autouse=True)
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written finds out."""
    poison_memory(monkeypatch)


def check(found: tuple[torch.Tensor, torch.Tensor], qkv: list[torch.Tensor], causal: bool) -> None:
    out, lse = reference.attend(*(tensor.double() for tensor in qkv), causal=causal, scale=0.125)
    budget = BUDGET[qkv[0].dtype]
    assert found[0].dtype == qkv[0].dtype
    assert found[1].dtype == torch.float32
    assert (found[0].double() - out).abs().max() <= budget
    assert (found[1].double() - lse).abs().max() <= budget


@pytest.mark.parametrize("causal", [False, True])
def test_reference_is_attention(causal: bool) -> None:
    qkv = [tensor.double() for tensor in inputs(20, 63, (2, 3), torch.float32)]
    seen = torch.ones(20, 63, dtype=torch.bool)
    out, _ = reference.attend(*qkv, causal=causal, scale=0.125)
    assert torch.allclose(out, explicit(qkv, seen.tril(43) if causal else seen)[0], atol=1e-12)


def test_reference_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = inputs(63, 100, (2, 3), torch.float32)
    whole = reference.attend(*qkv, causal=True, scale=0.125)
    monkeypatch.setattr(reference, "BLOCK_SCORES", 6 * 100 * 10)
    blocks = reference.attend(*qkv, causal=True, scale=0.125)
    assert torch.allclose(whole[0], blocks[0], atol=1e-6)
    assert torch.allclose(whole[1], blocks[1], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_attend(tokens: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    square = inputs(tokens, tokens, heads, dtype)
    check(attend(*square, causal=True, scale=0.125), square, causal=True)
    check(attend(*square, causal=False, scale=0.125), square, causal=False)
    step = inputs(1, tokens, heads, dtype)
    check(attend(*step, causal=True, scale=0.125), step, causal=True)
    continued = inputs(37, 37 + tokens, heads, dtype)
    check(attend(*continued, causal=True, scale=0.125), continued, causal=True)


def test_attend_takes_what_models_hand_over() -> None:
    """Queries and keys are views of `[T, H, D]` memory, as projections make them."""
    qkv = inputs(63, 63, (2, 7), torch.float32)
    strided = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in qkv]
    check(attend(*strided, causal=True, scale=0.125), qkv, causal=True)
    check(attend(*strided, causal=False, scale=0.125), qkv, causal=False)


@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize(("new", "tokens", "keys"), [(1, 1, 16), (1, 63, 64), (8, 1000, 1008), (16, 16, 16)])
def test_newest_ignores_what_is_behind_them(heads: tuple[int, int], new: int, tokens: int, keys: int) -> None:
    q, k, v = inputs(new, keys, heads, torch.float32)
    found = attend_newest(q, k, v, tokens=tokens, scale=0.125)
    check(found, [q, k[:, :tokens], v[:, :tokens]], causal=True)
    if tokens > new + 5:
        found = attend_newest(q, k, v, tokens=tokens, first=5, scale=0.125)
        check(found, [q, k[:, 5:tokens], v[:, 5:tokens]], causal=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("heads", [(2, 1), (2, 3), (2, 7), (1, 8)], ids=str)
@pytest.mark.parametrize("tokens", [30, 150, 600])
def test_newest_one_by_one_and_together(tokens: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    keys = (tokens + 31) // 16 * 16
    q, k, v = inputs(16, keys, heads, dtype)
    alone = [attend_newest(q[:, i : i + 1], k, v, tokens=tokens + i, scale=0.125) for i in range(16)]
    for many in range(2, 17):
        found = attend_newest(q[:, :many], k, v, tokens=tokens + many - 1, scale=0.125)
        for part, of in zip(found, zip(*alone[:many], strict=True), strict=True):
            assert torch.equal(part, torch.cat(of, 1)), many


@pytest.mark.parametrize("window", [1, 16, 700, 5000])
@pytest.mark.parametrize(("new", "keys"), [(1, 100), (63, 63), (600, 1000)])
def test_window(window: int, new: int, keys: int) -> None:
    qkv = inputs(new, keys, (2, 3), torch.float32)
    at, key_at = torch.arange(keys - new, keys)[:, None], torch.arange(keys)[None]
    seen = (key_at <= at) & (at - key_at < window)
    found = attend_window(*qkv, window_tokens=window, scale=0.125)
    assert (found.double() - explicit(qkv, seen)[0]).abs().max() <= 4e-6


@pytest.mark.parametrize("cuts", [(500,), (1, 2, 999), (250, 500, 750)])
def test_merged_parts_are_the_whole(cuts: tuple[int, ...]) -> None:
    q, k, v = inputs(5, 1000, (2, 7), torch.float32)
    edges = [0, *cuts, 1000]
    parts = [attend(q, k[:, a:b], v[:, a:b], causal=False, scale=0.125) for a, b in pairwise(edges)]
    check(merge_lse(parts), [q, k, v], causal=False)


def test_merging_far_apart_parts_does_not_overflow() -> None:
    out = torch.ones(1, 1, 4)
    merged, lse = merge_lse([(out, torch.tensor([[200.0]])), (5 * out, torch.tensor([[-200.0]]))])
    assert torch.equal(merged, out)
    assert lse.item() == 200.0


def test_merging_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs(1000, 64, (2, 7), torch.bfloat16)
    parts = [attend(q, k[:, a:b], v[:, a:b], causal=False, scale=0.125) for a, b in ((0, 30), (30, 64))]
    pieces = merge_lse(parts)
    monkeypatch.setattr(merge, "CACHED_NUMBERS", 1 << 30)
    assert all(map(torch.equal, pieces, merge_lse(parts)))


def test_merging_nothing_seen_is_nothing_seen() -> None:
    nothing = (torch.zeros(1, 2, 4), torch.full((1, 2), -torch.inf))
    some = (torch.ones(1, 2, 4), torch.tensor([[-torch.inf, 3.0]]))
    some[0][0, 0] = 0
    merged, lse = merge_lse([nothing, some])
    assert torch.equal(merged, some[0])
    assert torch.equal(lse, some[1])


def test_bad_shapes_are_refused() -> None:
    q, k, v = inputs(4, 4, (2, 2), torch.float32)
    with pytest.raises(ValueError, match="shapes"):
        attend(q[:3], k, v, causal=False, scale=1.0)
    with pytest.raises(ValueError, match="at least one key"):
        attend(q, k[:, :0], v[:, :0], causal=False, scale=1.0)
    with pytest.raises(ValueError, match="key for every query"):
        attend(q, k[:, :2], v[:, :2], causal=True, scale=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        attend_newest(q, k, v, tokens=5, scale=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        attend_newest(q, k, v, tokens=4, first=1, scale=1.0)
    with pytest.raises(ValueError, match="nothing"):
        merge_lse([])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", GROUPS, ids=str)
def test_cuda(heads: tuple[int, int], dtype: torch.dtype) -> None:
    for queries, keys, causal in [(63, 63, True), (1, 1000, True), (37, 1000, True), (63, 100, False)]:
        qkv = inputs(queries, keys, heads, dtype)
        found = attend(*(tensor.cuda() for tensor in qkv), causal=causal, scale=0.125)
        check((found[0].cpu(), found[1].cpu()), qkv, causal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (1, 63), (5, 63), (63, 63), (150, 1000), (1000, 1000)])
def test_attend_placed(queries: int, tokens: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k, v = inputs(queries, tokens, heads, dtype)
    places = torch.randperm(tokens, generator=torch.Generator().manual_seed(queries))[:queries].sort().values
    out, lse = attend_placed(q, k, v, places=places, scale=0.125)
    expected = explicit([q, k, v], torch.arange(tokens) <= places[:, None])
    assert out.dtype == dtype and lse.dtype == torch.float32
    assert (out.double() - expected[0]).abs().max() <= BUDGET[dtype]
    assert (lse.double() - expected[1]).abs().max() <= BUDGET[dtype]
    plain = reference.attend_placed(q.double(), k.double(), v.double(), places, 0.125)
    assert torch.allclose(plain[0], expected[0], atol=1e-12) and torch.allclose(plain[1], expected[1], atol=1e-12)


def test_attend_placed_refuses_places_that_are_none() -> None:
    q, k, v = inputs(2, 10, (1, 1), torch.float32)
    for places in ([3], [4, 3], [-1, 2], [2, 10]):
        with pytest.raises(ValueError, match="places"):
            attend_placed(q, k, v, places=torch.tensor(places), scale=1.0)
