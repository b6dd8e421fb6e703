"""The scorers against their definitions in fp64, on memory that is full of NaN where nothing was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough.kernels import scores
from readthrough.kernels.scores import reference
from tests.kernel_samples import inputs as qkv
from tests.kernel_samples import poison_memory
from tests.triton_samples import compile_kernel, needs_triton, run_apart

GROUPS = [(1, 1), (3, 4), (2, 7)]
"""Key heads, and query heads to each."""
SHAPES = [(1, 1), (63, 63), (1, 1000), (300, 1000), (129, 4096)]
"""Queries and keys."""
BUDGET = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
"""Largest difference to fp64; in bf16 the sums of blocks and the products are rounded."""


@pytest.fixture(autouse=True)
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written finds out."""
    poison_memory(monkeypatch)


def inputs(queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype, width: int = 64) -> list[torch.Tensor]:
    return qkv(queries, keys, heads, dtype, width)[:2]


def close(found: torch.Tensor, expected: torch.Tensor, budget: float) -> None:
    assert found.shape == expected.shape
    assert torch.equal(found.isinf().cpu(), expected.isinf())
    finite = expected.isfinite()
    assert (found.double().cpu() - expected)[finite].abs().max() <= budget


each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
each_heads = pytest.mark.parametrize("heads", GROUPS, ids=str)


@each_dtype
@each_heads
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pooled(shape: tuple[int, int], heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k = inputs(*shape, heads, dtype)
    expected = reference.pooled_scores(q.double(), k.double(), block_tokens=128, scale=0.125)
    close(scores.pooled_scores(q, k, block_tokens=128, scale=0.125), expected, BUDGET[dtype])
    shared = scores.pooled_scores(q, k, block_tokens=128, scale=0.125, shared=True)
    close(shared, expected.unflatten(0, heads).mean(1), BUDGET[dtype])


@each_dtype
@each_heads
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_antidiagonal(shape: tuple[int, int], heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k = inputs(*shape, heads, dtype)
    expected = reference.antidiagonal_scores(q.double(), k.double(), block_tokens=64, stride=8, scale=0.5)
    found = scores.antidiagonal_scores(q, k, block_tokens=64, stride=8, scale=0.5)
    close(found, expected, BUDGET[dtype])
    assert torch.allclose(found.sum(-1), torch.ones(()))
    assert not found.triu(found.shape[2] - found.shape[1] + 1).any()
    shared = scores.antidiagonal_scores(q, k, block_tokens=64, stride=8, scale=0.5, shared=True)
    close(shared, expected.unflatten(0, heads).mean(1), BUDGET[dtype])


def test_antidiagonal_in_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores.antidiagonal, "ROWS_MIN", 1)
    for rows in (1, 40, 5000):
        monkeypatch.setattr(scores.antidiagonal, "CHUNK_SCORES", rows)
        for shape in [(300, 1000), (37, 300), (257, 999), (40, 41)]:
            q, k = inputs(*shape, (2, 3), torch.float64)
            expected = reference.antidiagonal_scores(q, k, block_tokens=32, stride=4, scale=0.5)
            close(scores.antidiagonal_scores(q, k, block_tokens=32, stride=4, scale=0.5), expected, 1e-12)


def test_a_stride_of_one_gives_the_attention_of_blocks() -> None:
    q, k = inputs(96, 96, (1, 2), torch.float64)
    exact = reference.window_mass(q, k, scale=0.125)[0].view(2, 3, 32, 3, 32).sum((2, 4)) / 32
    close(scores.antidiagonal_scores(q, k, block_tokens=32, stride=1, scale=0.125), exact, 1e-12)


def test_antidiagonals_see_columns_and_slashes() -> None:
    """Every query attends to key 200, then every query to the key 255 before it."""
    q, k = torch.zeros(1, 1024, 64), torch.zeros(1, 1024, 64)
    q[..., 0], k[:, 200, 0] = 1.0, 300.0
    column = scores.antidiagonal_scores(q, k, block_tokens=64, stride=8, scale=1.0)[0]
    assert (column[4:, 3] > 0.99).all()
    marks = torch.eye(1024)[None] * 20  # an even distance would not be met: see the docstring
    slash = scores.antidiagonal_scores(marks, marks.roll(-255, 1), block_tokens=64, stride=8, scale=1.0)[0]
    assert (slash.diagonal(-4)[:-1] > 0.9).all()


@each_dtype
@each_heads
def test_page_bounds_hold(heads: tuple[int, int], dtype: torch.dtype) -> None:
    for tokens in (1, 63, 64, 1000):
        q, k = inputs(3, max(3, tokens), heads, dtype)
        k = k[:, :tokens]
        low, high = scores.page_bounds(k)
        for found, expected in zip((low, high), reference.page_bounds(k, 64), strict=True):
            assert torch.equal(found, expected)
        expected = reference.bound_scores(q.double(), low.double(), high.double(), scale=0.125)
        bounds = scores.bound_scores(q, low, high, scale=0.125, shared=False, over_queries=False)
        close(bounds, expected, 1e-5)
        exact = (q.double() @ k.double().repeat_interleave(heads[1], 0).transpose(1, 2)) * 0.125
        largest = torch.stack([page.amax(-1) for page in exact.split(64, -1)], -1)
        assert (bounds >= largest - 1e-5).all()
        grouped = expected.unflatten(0, heads).amax(1)
        close(scores.bound_scores(q, low, high, scale=0.125), grouped.amax(1, keepdim=True), 1e-5)
        close(scores.bound_scores(q, low, high, scale=0.125, over_queries=False), grouped, 1e-5)


@each_dtype
@each_heads
@pytest.mark.parametrize("shape", [(1, 1), (32, 63), (63, 63), (200, 1000), (32, 4096)], ids=str)
def test_window_mass(shape: tuple[int, int], heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k = inputs(*shape, heads, dtype)
    exact = reference.window_mass(q.double(), k.double(), scale=0.5)
    for reduction, expected in [
        ("mean", exact.sum(2).mean(1)),
        ("sum", exact.sum((1, 2))),
        ("max", exact.amax((1, 2))),
    ]:
        close(scores.window_mass(q, k, scale=0.5, pool_tokens=1, reduction=reduction), expected, 2e-5)


def test_window_mass_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores.mass, "CHUNK_SCORES", 1500)
    monkeypatch.setattr(scores.mass, "CHUNK_QUERIES", 20)
    q, k = inputs(50, 333, (2, 3), torch.float64)
    exact = reference.window_mass(q, k, scale=1.0)
    close(scores.window_mass(q, k, scale=1.0, pool_tokens=1, reduction="sum"), exact.sum((1, 2)), 1e-12)


def test_window_mass_is_pooled_apart_from_the_window() -> None:
    q, k = inputs(8, 40, (1, 2), torch.float64)
    exact = reference.window_mass(q, k, scale=1.0).sum(2).mean(1)[0]
    for pooling, reduce in [("average", lambda x: x.sum() / 5), ("max", lambda x: x.max())]:
        found = scores.window_mass(q, k, scale=1.0, pool_tokens=5, pooling=pooling)[0]
        for at in (0, 1, 20, 30, 31, 32, 39):
            span = slice(0, 32) if at < 32 else slice(32, 40)
            near = exact[max(span.start, at - 2) : min(span.stop, at + 3)]
            assert abs(found[at] - reduce(near)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "keys", "heads"), [(1, 1, (1, 1)), (63, 100, (3, 4)), (400, 1000, (2, 7))])
def test_attention_peaks(queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k = inputs(queries, keys, heads, dtype)
    others = inputs(5, 77, heads, dtype)[1]
    exact = reference.attention_peaks(q.double(), k.double(), others.double(), scale=0.3)
    seen = torch.cat([k, others], 1).double().repeat_interleave(heads[1], 0)
    lse = (q.double() @ seen.transpose(1, 2) * 0.3).logsumexp(-1)
    found = scores.attention_peaks(q, k, lse if dtype == torch.float64 else lse.float(), scale=0.3)
    worst = ((found.double() - exact) / exact).abs().max()
    assert worst <= {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]


def test_slashes_and_their_blocks() -> None:
    for queries, tokens in [(1, 1), (50, 333), (333, 333), (200, 1000)]:
        q, k = inputs(queries, tokens, (2, 3), torch.float64)
        exact = reference.window_mass(q, k, scale=0.5).sum(1) / 3
        expected = torch.zeros(2, tokens, dtype=torch.float64)
        for row in range(queries):
            for key in range(tokens - queries + row + 1):
                expected[:, tokens - queries + row - key] += exact[:, row, key]
        close(scores.slash_mass(q, k, scale=0.5), expected, 1e-12)
    distances = torch.tensor([[0, 70, -1], [64, 129, 500]])
    mask = scores.slash_blocks(distances, block_tokens=64, query_blocks=4, key_blocks=7)
    for head in range(2):
        tokens = torch.zeros(7 * 64, 7 * 64, dtype=torch.bool)
        for distance in distances[head].clamp(min=-1).tolist():
            tokens |= torch.ones_like(tokens).tril(-distance).triu(-distance) & (distance >= 0)
        blocks = tokens.view(7, 64, 7, 64).any(3).any(1)
        assert torch.equal(mask[head], blocks[3:])


def test_key_norms() -> None:
    k = inputs(1, 100, (3, 1), torch.bfloat16)[1]
    close(scores.key_norms(k), k.double().norm(dim=-1), 1e-5)
    assert scores.key_norms(k).dtype == torch.float32


def explicit_fewest(mass: list[float], share: float, forced: set[int]) -> set[int]:
    """The rule of `mass_blocks` for one row, block by block."""
    chosen = set(forced)
    for block in sorted(set(range(len(mass))) - forced, key=lambda block: -mass[block]):
        if sum(mass[b] for b in chosen) >= share * sum(mass):
            break
        chosen.add(block)
    return chosen


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_selection(data: st.DataObject) -> None:
    key_blocks = data.draw(st.integers(1, 9))
    query_blocks = data.draw(st.integers(1, key_blocks))
    sink, local, count = (data.draw(st.integers(low, 5)) for low in (0, 0, 1))
    share = data.draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    mass = torch.rand(2, query_blocks, key_blocks, generator=generator, dtype=torch.float64)
    top = scores.top_blocks(mass, count=count, sink_blocks=sink, local_blocks=local)
    fewest = scores.mass_blocks(mass, share=share, sink_blocks=sink, local_blocks=local)
    for head in range(2):
        for row in range(query_blocks):
            own = key_blocks - query_blocks + row
            seen = mass[head, row, : own + 1].tolist()
            forced = set(range(min(sink, own + 1))) | set(range(max(0, own - local + 1), own + 1))
            ranked = sorted(forced) + sorted(set(range(own + 1)) - forced, key=lambda block: -seen[block])
            assert set(top[head, row].nonzero()[:, 0].tolist()) == set(ranked[: max(count, len(forced))])
            assert set(fewest[head, row].nonzero()[:, 0].tolist()) == explicit_fewest(seen, share, forced)


def test_selection_ignores_what_lies_behind() -> None:
    """Scores of unseen blocks, whatever they are, change nothing."""
    mass = torch.rand(3, 5, 8)
    unseen = torch.ones(5, 8, dtype=torch.bool).triu(4)
    for value in (0.0, 100.0, torch.nan):
        other = mass.masked_fill(unseen, value)
        assert torch.equal(scores.top_blocks(other, count=3), scores.top_blocks(mass, count=3))
        assert torch.equal(scores.mass_blocks(other, share=0.7), scores.mass_blocks(mass, share=0.7))
    infinite = mass.masked_fill(unseen, -torch.inf)
    assert torch.equal(scores.top_blocks(infinite, count=3), scores.top_blocks(mass, count=3))


def test_bad_input_is_refused() -> None:
    q, k = inputs(4, 4, (2, 2), torch.float32)
    block = {"block_tokens": 64, "scale": 1.0}
    with pytest.raises(ValueError, match="shapes"):
        scores.pooled_scores(q[:3], k, **block)
    with pytest.raises(ValueError, match="needs a key"):
        scores.pooled_scores(q, k[:, :2], **block)
    with pytest.raises(ValueError, match="needs a key"):
        scores.window_mass(q[:, :0], k, scale=1.0)
    with pytest.raises(ValueError, match="not made of tiles"):
        scores.antidiagonal_scores(q, k, stride=7, **block)
    with pytest.raises(ValueError, match="stride must be positive"):
        scores.antidiagonal_scores(q, k, stride=0, **block)
    with pytest.raises(ValueError, match="odd"):
        scores.window_mass(q, k, scale=1.0, pool_tokens=4)
    with pytest.raises(ValueError, match="no key"):
        scores.page_bounds(k[:, :0])
    with pytest.raises(ValueError, match="shapes"):
        scores.bound_scores(q, *scores.page_bounds(k[:, :, :32]), scale=1.0)
    with pytest.raises(ValueError, match="count"):
        scores.top_blocks(torch.rand(1, 2, 2), count=0)
    with pytest.raises(ValueError, match="share"):
        scores.mass_blocks(torch.rand(1, 2, 2), share=0.0)
    with pytest.raises(ValueError, match="as many key blocks"):
        scores.mass_blocks(torch.rand(1, 3, 2), share=0.5)


def check_triton(device: str, dtype: torch.dtype) -> None:
    """The Triton kernels against the references, on odd shapes."""
    from readthrough.kernels.scores import triton

    budget = 1e-5 if dtype != torch.bfloat16 else 1e-3
    for shape, heads, block, stride, width in [
        ((1, 1), (1, 1), 128, 16, 64),
        ((63, 63), (2, 3), 16, 4, 64),
        ((63, 100), (1, 2), 16, 8, 48),
        ((150, 300), (1, 2), 32, 8, 32),
        ((37, 200), (2, 1), 64, 1, 16),
    ]:
        q, k = inputs(*shape, heads, dtype, width)
        expected = reference.antidiagonal_scores(q.double(), k.double(), block_tokens=block, stride=stride, scale=0.3)
        on = q.to(device), k.to(device)
        close(triton.antidiagonal_scores(*on, block_tokens=block, stride=stride, scale=0.3), expected, budget)
        mass = reference.window_mass(q.double(), k.double(), scale=0.3)
        close(triton.window_mass(*on, scale=0.3, largest=False), mass.sum((1, 2)), budget)
        close(triton.window_mass(*on, scale=0.3, largest=True), mass.amax((1, 2)), budget)


def compile_all() -> None:
    """Compile the kernels for a GPU. (Width 256, and fp32 to 128, fit its shared memory too; they take a minute.)"""
    from readthrough.kernels.scores import triton

    memory = triton.Memory("*bf16", "*bf16", "*fp32", "*fp32")
    arguments = {"memory": memory, "sizes": triton.Sizes("i32", "i32", "i32", "fp32")}
    shape = triton.Shape(64, 64, triton.ROWS, triton.COLUMNS)
    compile_kernel(triton._window_lse, arguments, {"SHAPE": shape})
    compile_kernel(triton._window_mass, arguments, {"SHAPE": shape})
    arguments["blocks"] = triton.Blocks("i32", "i32")
    shape = triton.Shape(64, 64, triton.ROWS, triton.COLUMNS, 16, 8)
    compile_kernel(triton._tile_lse, arguments, {"SHAPE": shape})
    compile_kernel(triton._tile_mass, arguments, {"SHAPE": shape})


@needs_triton
def test_triton_interpreted(tmp_path: Path) -> None:
    """The interpreter has no products in bf16."""
    run_apart(
        __file__,
        "for dtype in (torch.float32, torch.float16): tests.check_triton('cpu', dtype)",
        tmp_path,
        interpret=True,
    )


@needs_triton
def test_triton_compiles(tmp_path: Path) -> None:
    run_apart(__file__, "tests.compile_all()", tmp_path, interpret=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
def test_cuda(dtype: torch.dtype) -> None:
    check_triton("cuda", dtype)
    q, k = inputs(300, 1000, (2, 7), dtype)
    expected = scores.antidiagonal_scores(q, k, block_tokens=128, stride=16, scale=0.125)
    found = scores.antidiagonal_scores(q.cuda(), k.cuda(), block_tokens=128, stride=16, scale=0.125)
    close(found, expected.double(), 1e-3)
