"""Attention over chosen tokens, pages and split keys against its definition in fp64, on memory full of NaN."""

from __future__ import annotations

import os

import pytest
import torch

from readthrough.kernels.gathered import attend_gathered, attend_pages, attend_split, cpu, reference
from tests.kernel_samples import check, explicit, inputs
from tests.triton_samples import needs_triton, run_interpreted

GROUPS = [(1, 1), (3, 4), (2, 7), (5, 1)]
"""Key heads, and query heads to each."""


def lists(heads: int, items: int, lengths: list[int], item_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Different numbers for each head, nonsense behind those that count, and the lengths (repeated for all heads)."""
    generator = torch.Generator().manual_seed(heads + items)
    tokens = [lengths[head % len(lengths)] for head in range(heads)]
    numbers = torch.stack([torch.randperm(items, generator=generator) for _ in range(heads)])
    for head, length in enumerate(tokens):
        numbers[head, -(-length // item_tokens) :] = 1 << 30
    return numbers, torch.tensor(tokens)


def seen_items(
    numbers: torch.Tensor, lengths: torch.Tensor, q: torch.Tensor, keys: int, item_tokens: int
) -> torch.Tensor:
    """The mask `[H, Tq, Tk]` of the first `lengths` tokens of the listed items."""
    seen = torch.zeros(len(numbers), 1, keys, dtype=torch.bool)
    for head, length in enumerate(lengths.tolist()):
        at = (numbers[head, :, None] * item_tokens + torch.arange(item_tokens)).flatten()[:length]
        seen[head, 0, at] = True
    return seen.repeat_interleave(len(q) // len(numbers), 0).expand(-1, q.shape[1], -1)


def paged(x: torch.Tensor, page: int) -> torch.Tensor:
    """`[Hkv, P * page, D]` as pages."""
    return x.view(x.shape[0], -1, page, x.shape[2])


@pytest.fixture
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written gets NaN."""
    make = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **kw: make(*a, **kw).fill_(float("nan")))


@pytest.mark.usefixtures("nan_memory")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 63), (5, 1000), (64, 130), (1, 4096)])
def test_gathered(queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    qkv = inputs(queries, keys, heads, dtype)
    for counts in ([keys], [-(-keys // 3)], [keys // 2, 0, 1, keys]):
        numbers, lengths = lists(heads[0], keys, counts, 1)
        expected = explicit(qkv, seen_items(numbers, lengths, qkv[0], keys, 1))
        check(attend_gathered(*qkv, numbers, lengths, scale=0.125), expected, dtype)
    ordered = torch.arange(keys).expand(heads[0], -1)
    check(attend_gathered(*qkv, ordered, scale=0.125), explicit(qkv, torch.ones(1, 1, keys).bool()), dtype)


@pytest.mark.usefixtures("nan_memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize(("queries", "pages"), [(1, 1), (3, 7), (1, 64)])
def test_pages(queries: int, pages: int, heads: tuple[int, int], dtype: torch.dtype) -> None:
    q, k, v = inputs(queries, pages * 64, heads, dtype)
    for counts in ([pages * 64], [pages * 40], [pages * 33, 0, 1, 64, 63]):
        table, lengths = lists(heads[0], pages, counts, 64)
        seen = seen_items(table, lengths, q, pages * 64, 64)
        expected = explicit([q, k, v], seen)
        # what is behind a head's length must not even be read as a number
        k_hidden, v_hidden = k.clone(), v.clone()
        for head, hidden in enumerate(~seen[:: heads[1], 0]):
            k_hidden[head, hidden], v_hidden[head, hidden] = float("nan"), float("nan")
        found = attend_pages(q, paged(k_hidden, 64), paged(v_hidden, 64), table, lengths, scale=0.125)
        check(found, expected, dtype)
        wide = [x.double() for x in (q, k, v)]
        result = reference.attend_items(wide[0], paged(wide[1], 64), paged(wide[2], 64), (table, lengths), 0.125)
        check(result, expected, torch.float64)


@pytest.mark.parametrize("heads", GROUPS, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 63), (5, 1000), (1, 4096)])
def test_split(queries: int, keys: int, heads: tuple[int, int]) -> None:
    qkv = inputs(queries, keys, heads)
    expected = explicit(qkv, torch.ones(1, 1, keys).bool())
    for parts in (None, 1, 2, 7, 5000):
        check(attend_split(*qkv, parts=parts, scale=0.125), expected, torch.float32)


def test_split_by_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many cores as there may be: the split that is chosen is still the whole, over views of a larger buffer too."""
    q, k, v = inputs(1, 5000, (2, 7), torch.bfloat16)
    buffer = [torch.full((2, 6000, 64), float("nan"), dtype=torch.bfloat16) for _ in range(2)]
    for larger, x in zip(buffer, (k, v), strict=True):
        larger[:, :5000] = x
    monkeypatch.setattr(cpu.torch, "get_num_threads", lambda: 64)
    found = attend_split(q, *(x[:, :5000] for x in buffer), scale=0.125)
    check(found, explicit([q, k, v], torch.ones(1, 1, 5000).bool()), torch.bfloat16)


def test_bad_input_is_refused() -> None:
    q, k, v = inputs(1, 128, (2, 2))
    numbers = torch.arange(10).expand(2, -1)
    for bad, lengths, match in (
        (numbers + 120, None, "0 to 127"),
        (numbers - 1, None, "0 to 127"),
        (numbers, torch.tensor([11, 1]), "do not fit 10 entries"),
        (numbers, torch.tensor([-1, 1]), "do not fit 10 entries"),
        (numbers, torch.tensor([1]), "a list and a length each"),
        (numbers[:1], None, "a list and a length each"),
    ):
        with pytest.raises(ValueError, match=match):
            attend_gathered(q, k, v, bad, lengths, scale=1.0)
    with pytest.raises(ValueError, match="0 to 1"):
        attend_pages(q, paged(k, 64), paged(v, 64), torch.tensor([[0], [2]]), torch.tensor([64, 64]), scale=1.0)
    with pytest.raises(ValueError, match="64 queries"):
        attend_split(q.expand(-1, 65, -1), k, v, scale=1.0)
    with pytest.raises(ValueError, match="shapes"):
        attend_split(q, k[:, :0], v[:, :0], scale=1.0)
    with pytest.raises(ValueError, match="at least one part"):
        attend_split(q, k, v, parts=0, scale=1.0)


TRITON_CASES = [
    # queries, pages, heads, width, parts
    (1, 3, (2, 7), 64, 4),
    (3, 5, (1, 4), 80, 1),
    (5, 2, (3, 1), 128, 7),
    (1, 1, (1, 1), 256, 2),
]


def triton_case(case: tuple[int, int, tuple[int, int], int, int], dtype: torch.dtype, device: str) -> None:
    from readthrough.kernels.gathered import triton

    queries, pages, heads, width, parts = case
    q, k, v = inputs(queries, pages * 64, heads, dtype, width)
    on = [x.to(device) for x in (q, k, v)]
    check(triton.attend_split(*on, parts, 0.125), explicit([q, k, v], torch.ones(1, 1, k.shape[1]).bool()), dtype)
    for page, counts in ((64, [pages * 64, 0, pages * 64 - 5]), (1, [pages * 50, 3])):
        numbers, lengths = lists(heads[0], pages * 64 // page, counts, page)
        chosen = (numbers.to(device), lengths.to(device))
        kv = [paged(x, page) for x in on[1:]] if page > 1 else on[1:]
        found = triton.attend_items(on[0], *kv, chosen, 0.125)
        check(found, explicit([q, k, v], seen_items(numbers, lengths, q, k.shape[1], page)), dtype)


@needs_triton
def test_triton_under_its_interpreter() -> None:
    run_interpreted("tests/reference/test_gathered.py", "test_interpreted")


if os.environ.get("TRITON_INTERPRET") == "1":

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
    @pytest.mark.parametrize("case", TRITON_CASES, ids=str)
    def test_interpreted(
        case: tuple[int, int, tuple[int, int], int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from readthrough.kernels.gathered import triton

        monkeypatch.setattr(triton, "count_parts", lambda *a: case[-1])
        triton_case(case, dtype, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("case", [*TRITON_CASES, (1, 512, (2, 7), 128, 16)], ids=str)
def test_triton_on_a_gpu(case: tuple[int, int, tuple[int, int], int, int], dtype: torch.dtype) -> None:
    triton_case(case, dtype, "cuda")
