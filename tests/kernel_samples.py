"""What tests of kernels share: inputs, attention by its definition, and memory that tells who reads it unwritten."""

from __future__ import annotations

import pytest
import torch

Pair = tuple[torch.Tensor, torch.Tensor]

# Largest difference to fp64 that was seen over the tests' shapes, times two to four: the kernels accumulate in fp32.
BUDGET = {torch.float64: 1e-12, torch.float32: 4e-6, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def inputs(
    queries: int, keys: int, heads: tuple[int, int], dtype: torch.dtype = torch.float32, width: int = 64
) -> list[torch.Tensor]:
    """q, k and v for `heads` = key heads, and query heads to each."""
    generator = torch.Generator().manual_seed(queries * 7 + keys)
    shapes = [(heads[0] * heads[1], queries, width), (heads[0], keys, width), (heads[0], keys, width)]
    return [torch.randn(*shape, generator=generator).to(dtype) for shape in shapes]


def explicit(qkv: list[torch.Tensor], seen: torch.Tensor, scale: float = 0.125) -> Pair:
    """Attention by its definition in fp64, each query over the keys where `seen` `[H, Tq, Tk]` is true."""
    q, k, v = (tensor.double() for tensor in qkv)
    group = q.shape[0] // k.shape[0]
    scores = q @ k.repeat_interleave(group, 0).mT * scale
    scores = scores.masked_fill(~seen, -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)
    return weights @ v.repeat_interleave(group, 0), scores.logsumexp(-1)


def check(found: Pair, expected: Pair, dtype: torch.dtype) -> None:
    """Whether a result is as close to the expected one as its dtype allows."""
    out, lse = (tensor.cpu() for tensor in found)
    assert out.dtype == dtype
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(out.double(), expected[0], atol=BUDGET[dtype], rtol=0)
    torch.testing.assert_close(lse.double(), expected[1], atol=BUDGET[dtype], rtol=0)


def poison_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written gets NaN, or 255 for bytes."""
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)

        def poisoned(*a: object, make: object = make, **kw: object) -> torch.Tensor:
            tensor: torch.Tensor = make(*a, **kw)  # type: ignore[operator]
            if tensor.is_floating_point():
                return tensor.fill_(float("nan"))
            return tensor.fill_(255) if tensor.dtype == torch.uint8 else tensor

        monkeypatch.setattr(torch, name, poisoned)
