"""Rotations against complex numbers in fp64 and against transformers; memory that was not written holds NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from readthrough.kernels import rotary
from readthrough.kernels.rotary import reference
from tests.kernel_samples import poison_memory
from tests.triton_samples import compile_kernel, needs_triton, run_apart

BUDGET = {torch.float64: 1e-9, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
FAR = 4_000_000
LAYOUTS = [(64, 64, False), (64, 64, True), (80, 32, False), (80, 32, True), (10, 10, False)]
"""Channels, rotated channels, interleaved."""


@pytest.fixture(autouse=True)
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written finds out."""
    poison_memory(monkeypatch)


def keys(tokens: int, width: int, dtype: torch.dtype, heads: int = 3) -> torch.Tensor:
    return torch.randn(heads, tokens, width, generator=torch.Generator().manual_seed(tokens)).to(dtype)


def places(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randint(0, FAR, shape, generator=torch.Generator().manual_seed(seed))


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert (found.double().cpu() - expected).abs().max() <= BUDGET[dtype]


@pytest.mark.parametrize("dtype", BUDGET, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_rerotate(layout: tuple[int, int, bool], dtype: torch.dtype) -> None:
    width, turned, interleaved = layout
    frequencies = rotary.plain_frequencies(turned, 1e6).inverse
    for tokens in (1, 63, 1000, 4097):
        k = keys(tokens, width, dtype)
        for shape in [(tokens,), (3, tokens)]:
            old, new = places(shape, 1), places(shape, 2)
            found = rotary.rerotate(k, old, new, frequencies, interleaved=interleaved)
            close(found, reference.turn(k, new - old, frequencies, interleaved), dtype)
            close(
                rotary.rotate(k, new, frequencies, interleaved=interleaved),
                reference.turn(k, new, frequencies, interleaved),
                dtype,
            )
            assert torch.equal(found[..., turned:], k[..., turned:])


def test_far_positions_lose_nothing() -> None:
    """From 0 to four millions and on: as if rotated at once, by the definition in fp64."""
    frequencies = rotary.plain_frequencies(128, 1e4).inverse
    plain = keys(500, 128, torch.float32)
    old, new = places((500,), 3), places((500,), 4)
    there = rotary.rotate(plain, old, frequencies)
    close(rotary.rerotate(there, old, new, frequencies), reference.turn(plain, new, frequencies, False), torch.float32)
    close(rotary.unrotate(there, old, frequencies), plain.double(), torch.float32)


def test_all_moved_alike_is_as_one_by_one() -> None:
    k = keys(100, 64, torch.float32)
    frequencies = rotary.plain_frequencies(64, 1e4).inverse
    old = torch.arange(100)
    moved = rotary.rerotate(k, old, old + FAR, frequencies)
    one_by_one = [rotary.rerotate(k[:, i : i + 1], old[i : i + 1], old[i : i + 1] + FAR, frequencies) for i in old]
    assert torch.equal(moved, torch.cat(one_by_one, 1))
    mixed = torch.cat([old[:50] + FAR, old[50:] + 7])
    assert torch.equal(rotary.rerotate(k, old, mixed, frequencies)[:, :50], moved[:, :50])


def test_a_view_with_strides() -> None:
    k = keys(64, 50, torch.bfloat16).transpose(1, 2).contiguous().transpose(1, 2)
    frequencies = rotary.plain_frequencies(50, 1e4).inverse
    new = places((64,), 5)
    close(rotary.rotate(k, new, frequencies), reference.turn(k, new, frequencies, False), torch.bfloat16)


def qwen2(**rope: Any) -> Any:
    from transformers import Qwen2Config

    parameters = {"rope_type": "default", "rope_theta": 1e6, **rope}
    return Qwen2Config(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=32768, rope_parameters=parameters
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_as_transformers_rotates(dtype: torch.dtype) -> None:
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

    embedding = Qwen2RotaryEmbedding(qwen2())
    plain = keys(700, 64, torch.float32, heads=2)
    old, new = torch.arange(100, 800), torch.arange(30_000, 30_700)

    def theirs(positions: torch.Tensor) -> torch.Tensor:
        cos, sin = embedding(plain[None], positions[None])
        return apply_rotary_pos_emb(plain[None], plain[None], cos, sin)[1][0]

    # they round angles to fp32: at 30,000 radians that is 0.001
    frequencies = embedding.inv_freq
    assert (rotary.rotate(plain, old, frequencies) - theirs(old)).abs().max() < 2e-4
    found = rotary.rerotate(theirs(old).to(dtype), old, new, frequencies)
    assert (found.float() - theirs(new)).abs().max() < (6e-3 if dtype == torch.float32 else BUDGET[dtype])


@pytest.mark.parametrize("factor", [1.0, 2.0, 7.5])
def test_schemes_as_transformers_computes_them(factor: float) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def theirs(kind: str, tokens: int | None = None, **rope: Any) -> tuple[torch.Tensor, float]:
        return ROPE_INIT_FUNCTIONS[kind](qwen2(rope_type=kind, factor=factor, **rope), "cpu", seq_len=tokens)

    def same(found: rotary.Frequencies, expected: tuple[torch.Tensor, float]) -> None:
        torch.testing.assert_close(found.inverse, expected[0], rtol=3e-7, atol=0)
        assert found.attention_factor == pytest.approx(expected[1], rel=1e-12)

    same(rotary.linear_frequencies(64, 1e6, factor), theirs("linear"))
    for tokens in (100, 32768, 100_000):
        found = rotary.dynamic_ntk_frequencies(64, 1e6, factor, tokens=tokens, trained_tokens=32768)
        same(found, theirs("dynamic", tokens))
    same(rotary.ntk_frequencies(64, 1e6, 2 * factor - (factor - 1)), theirs("dynamic", 65536))
    for settings in [
        {},
        {"beta_fast": 64, "beta_slow": 2},
        {"attention_factor": 1.25},
        {"truncate": False},
        {"mscale": 0.7, "mscale_all_dim": 1.3},
    ]:
        found = rotary.yarn_frequencies(64, 1e6, rotary.Yarn(factor, 32768, **settings))
        same(found, theirs("yarn", original_max_position_embeddings=32768, **settings))


def test_bad_input_is_refused() -> None:
    k = keys(5, 64, torch.float32)
    at, frequencies = torch.arange(5), rotary.plain_frequencies(64, 1e4).inverse
    with pytest.raises(ValueError, match="do not fit"):
        rotary.rotate(k, at[:4], frequencies)
    with pytest.raises(ValueError, match="do not fit"):
        rotary.rerotate(k, at, at.expand(2, 5), frequencies)
    with pytest.raises(ValueError, match="integers"):
        rotary.rotate(k, at.float(), frequencies)
    with pytest.raises(ValueError, match="channels"):
        rotary.rotate(k[..., :62], at, frequencies)
    with pytest.raises(ValueError, match="channels"):
        rotary.plain_frequencies(63, 1e4)
    with pytest.raises(ValueError, match="shorter"):
        rotary.linear_frequencies(64, 1e4, 0.5)
    with pytest.raises(ValueError, match="positive"):
        rotary.yarn_frequencies(64, 1e4, rotary.Yarn(2.0, 0))
    with pytest.raises(ValueError, match="positive"):
        rotary.dynamic_ntk_frequencies(64, 1e4, 2.0, tokens=0, trained_tokens=5)
    with pytest.raises(ValueError, match="one pair"):
        rotary.ntk_frequencies(2, 1e4, 2.0)


def check_triton(device: str, dtypes: list[torch.dtype]) -> None:
    """The Triton kernel against the reference."""
    from readthrough.kernels.rotary import triton

    for dtype in dtypes:
        for width, turned, interleaved in LAYOUTS:
            frequencies = rotary.plain_frequencies(turned, 1e6).inverse
            k = keys(75, width, dtype)
            for shape in [(75,), (3, 75)]:
                steps = places(shape, 1) - places(shape, 2)
                found = triton.turn(k.to(device), steps.to(device), frequencies.to(device), interleaved)
                close(found, reference.turn(k, steps, frequencies, interleaved), dtype)


def compile_all() -> None:
    """Compile the kernel for a GPU."""
    from readthrough.kernels.rotary import triton

    for dtype, by_head in [("*bf16", False), ("*fp32", True)]:
        arguments = {"memory": triton.Memory(dtype, dtype, "*i64", "*fp64"), "tokens": "i32"}
        shape = triton.Shape(80, 20, 32, 1, 20, by_head)
        compile_kernel(triton._turn, arguments, {"SHAPE": shape, "TOKENS": triton.TOKENS})


@needs_triton
def test_triton_interpreted(tmp_path: Path) -> None:
    """The interpreter cuts bf16 off."""
    run_apart(__file__, "tests.check_triton('cpu', [torch.float32, torch.float16])", tmp_path, interpret=True)


@needs_triton
def test_triton_compiles(tmp_path: Path) -> None:
    run_apart(__file__, "tests.compile_all()", tmp_path, interpret=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda() -> None:
    check_triton("cuda", [torch.float32, torch.float16, torch.bfloat16])
