"""Attention over packed numbers against its definition in fp64 over what is unpacked, on memory full of NaN."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from readthrough.kernels.packed_attention import attend_packed, reference, spans
from readthrough.kernels.quantize import Packed, Scheme, pack, unpack
from tests.kernel_samples import check, explicit, inputs, poison_memory
from tests.triton_samples import compile_kernel, needs_triton, run_apart

PAIRS = [
    (Scheme("int8", "channel", 32), Scheme("int8", "token", 32)),
    (Scheme("int4", "channel", 64), Scheme("int4", "token", 16)),
    (Scheme("int4", "channel", 16), Scheme("int2", "token", 64)),
    (Scheme("int2", "channel", 128), Scheme("int8", "token")),
    (Scheme("fp8", "channel", 32), Scheme("fp8", "token", 32)),
    (Scheme("int8", "channel", 48), Scheme("fp8", "token")),
    (Scheme("int8", "token"), Scheme("int4", "channel", 32)),
]
"""Keys and values: every form, also where no plan stores them so."""

DTYPES = [torch.bfloat16, torch.float16, torch.float32]

each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(f"{s.form}-{s.group}" for s in pair))


def packed_inputs(
    queries: int, tokens: int, heads: tuple[int, int], dtype: torch.dtype, pair: tuple[Scheme, Scheme]
) -> tuple[torch.Tensor, Packed, Packed]:
    """Queries, and keys that have an outlier and values, packed; at least so many tokens as there are whole groups."""
    group = max(scheme.group_tokens for scheme in pair)
    q, k, v = inputs(queries, -(-tokens // group) * group, heads, torch.float32)
    k[..., 3] = k[..., 3] * 0.1 + 4
    return q.to(dtype), pack(k.to(dtype), pair[0]), pack(v.to(dtype), pair[1])


def defined(q: torch.Tensor, keys: Packed, values: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    return explicit([q, unpack(keys), unpack(values)], torch.ones(1, 1, keys.shape[1]).bool())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (1, 1000), (5, 4100), (64, 63), (70, 17000)])
@each_pair
def test_all_forms(
    pair: tuple[Scheme, Scheme], queries: int, tokens: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, keys, values = packed_inputs(queries, tokens, (2, 3) if queries < 64 else (1, 2), dtype, pair)
    expected = defined(q, keys, values)
    check(reference.attend(q.double(), keys, values, 0.125), expected, torch.float64)
    poison_memory(monkeypatch)
    check(attend_packed(q, keys, values, scale=0.125), expected, dtype)


@pytest.mark.parametrize("heads", [(1, 1), (3, 4), (2, 7), (5, 1)], ids=str)
def test_heads(heads: tuple[int, int]) -> None:
    for queries, tokens in ((1, 4096), (3, 96)):
        q, keys, values = packed_inputs(queries, tokens, heads, torch.bfloat16, PAIRS[0])
        check(attend_packed(q, keys, values, scale=0.125), defined(q, keys, values), torch.bfloat16)


@each_pair
def test_spans_are_the_whole(pair: tuple[Scheme, Scheme], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a span is, also less than a group."""
    q, keys, values = packed_inputs(2, 1000, (2, 2), torch.float32, pair)
    expected = defined(q, keys, values)
    for tokens in (1, 100, 384):
        monkeypatch.setattr(spans, "SPAN_NUMBERS", tokens * 2 * 64)
        check(attend_packed(q, keys, values, scale=0.125), expected, torch.float32)


@pytest.mark.parametrize("heads", [(2, 7), (2, 4)], ids=str)
@pytest.mark.parametrize("pair", PAIRS[:2], ids=["int8", "int4"])
def test_queries_together_or_alone(pair: tuple[Scheme, Scheme], heads: tuple[int, int]) -> None:
    """The same to the last bit, so that a greedy reply does not depend on drafts or company.

    Torch's kernel keeps to it where several query heads share a key head.
    """
    q, keys, values = packed_inputs(100, 9000, heads, torch.bfloat16, pair)
    together = attend_packed(q, keys, values, scale=0.125)
    for count in (1, 2, 16, 64, 65):
        for first in (0, 17):
            at = slice(first, first + count)
            found = attend_packed(q[:, at], keys, values, scale=0.125)
            for alone, beside in zip(found, together, strict=True):
                assert torch.equal(alone, beside[:, at])


def test_bad_input_is_refused() -> None:
    q, keys, values = packed_inputs(1, 64, (2, 2), torch.bfloat16, PAIRS[0])
    for queries, k, v, said in (
        (q[:3], keys, values, "shapes do not fit"),
        (q, keys.tokens(0, 32), values, "shapes do not fit"),
        (q, keys.tokens(0, 0), values.tokens(0, 0), "shapes do not fit"),
        (q.float(), keys, values, "packed from"),
        (q[:, :0], keys, values, "at least one query"),
    ):
        with pytest.raises(ValueError, match=said):
            attend_packed(queries, k, v, scale=1.0)


def to_device(packed: Packed, device: str) -> Packed:
    near = None if packed.near is None else packed.near.to(device)
    return Packed(packed.scheme, packed.codes.to(device), packed.far.to(device), near)


def check_triton(device: str, dtype: torch.dtype) -> None:
    """The Triton kernel, in one part and in many, over views too."""
    from readthrough.kernels.packed_attention import triton

    for pair in PAIRS[:5]:
        for queries, tokens, heads in ((1, 256, (2, 7)), (3, 128, (1, 4)), (30, 384, (1, 3))):
            q, keys, values = packed_inputs(queries, tokens, heads, dtype, pair)
            less = keys.shape[1] - 128 if keys.shape[1] > 256 else keys.shape[1]
            keys, values = keys.tokens(0, less), values.tokens(0, less)
            expected = defined(q, keys, values)
            there = (q.to(device), to_device(keys, device), to_device(values, device))
            for parts in (1, 3):
                check(triton.attend_parts(*there, 0.125, parts), expected, dtype)


def compile_all() -> None:
    """Compile the kernel for a GPU."""
    from readthrough.kernels.packed_attention import triton
    from readthrough.kernels.quantize.triton import Layout, Source

    source = Source("*u8", "*bf16", "*bf16", *["i32"] * 4)
    for bits, fp8 in [(8, True), (8, False), (4, False), (2, False)]:
        arguments = {
            "memory": triton.Memory("*bf16", "i32", "i32", "*fp32", "*fp32"),
            "sources": (source, source),
            "sizes": triton.Sizes("i32", "i32", "i32", "fp32"),
        }
        layouts = (Layout(16 * bits, bits, 32, 1, fp8), Layout(16 * bits, bits, 1, 32, fp8))
        compile_kernel(triton._attend, arguments, {"SHAPE": triton.Shape(2, 7, 128, 128, 16, 64), "LAYOUTS": layouts})


@needs_triton
def test_triton_interpreted(tmp_path: Path) -> None:
    """The interpreter cuts bf16 off."""
    run_apart(__file__, "tests.check_triton('cpu', torch.float16)", tmp_path, interpret=True)


@needs_triton
def test_triton_compiles(tmp_path: Path) -> None:
    run_apart(__file__, "tests.compile_all()", tmp_path, interpret=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda(dtype: torch.dtype) -> None:
    if dtype != torch.float32:
        check_triton("cuda", dtype)
    for queries in (1, 70):
        q, keys, values = packed_inputs(queries, 5000, (2, 7), dtype, PAIRS[1])
        found = attend_packed(q.cuda(), to_device(keys, "cuda"), to_device(values, "cuda"), scale=0.125)
        check(found, defined(q, keys, values), dtype)
