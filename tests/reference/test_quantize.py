"""Packed keys and values: bounds of the error, exact ends, the same bytes again; Triton against plain torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough.kernels.quantize import Packed, Scheme, pack, packing, reference, unpack
from tests.kernel_samples import poison_memory
from tests.triton_samples import compile_kernel, needs_triton, run_apart

SCHEMES = [
    Scheme("fp8", "token"),
    Scheme("fp8", "channel", 64),
    Scheme("int8", "token"),
    Scheme("int8", "channel", 32),
    Scheme("int4", "token", 32),
    Scheme("int4", "channel", 32),
    Scheme("int2", "token", 16),
    Scheme("int2", "channel", 64),
]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]

each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.form}-{s.axis}")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory that was not written finds out."""
    poison_memory(monkeypatch)


def outliers(tokens: int, dtype: torch.dtype, heads: int = 3, width: int = 64, seed: int = 0) -> torch.Tensor:
    """Keys as models have them: some channels are far from 0 or wide."""
    generator = torch.Generator().manual_seed(seed + tokens)
    x = torch.randn(heads, tokens, width, generator=generator)
    x[..., 3] = x[..., 3] * 0.3 + 40
    x[..., width // 2 + 1] *= 20
    return x.to(dtype)


def groups(x: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """The groups of `x` as rows."""
    heads, _, width = x.shape
    if scheme.axis == "channel":
        return x.view(heads, -1, scheme.group_tokens, width).transpose(2, 3).reshape(-1, scheme.group_tokens)
    return x.reshape(-1, scheme.group or width)


def same_bytes(a: Packed, b: Packed) -> bool:
    pairs = [(a.codes, b.codes), (a.far, b.far), (a.near, b.near)]
    return all(x is y is None or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


def check(x: torch.Tensor, scheme: Scheme) -> None:
    """All that is promised of `pack` and `unpack`."""
    packed = pack(x, scheme)
    found = unpack(packed)
    assert found.dtype == x.dtype
    assert found.shape == x.shape == packed.shape
    ulp = torch.finfo(x.dtype).eps
    for group, back in zip(groups(x, scheme), groups(found, scheme), strict=True):
        if scheme.form == "fp8":
            expected, step = reference.fp8(group)
        else:
            expected, step = reference.levels(group, scheme.bits)
            assert back.min() == group.min()
            assert back.max() == group.max()
        rounding = back.double().abs() * ulp / 2 + torch.finfo(x.dtype).smallest_normal * ulp
        assert ((back.double() - group.double()).abs() <= step / 2 * (1 + 1e-4) + rounding).all()
        # the reference may break a tie the other way
        assert ((back.double() - expected).abs() <= step * (1 + 1e-4) + rounding).all()
    assert same_bytes(pack(found, scheme), packed)
    assert torch.equal(unpack(pack(found, scheme)), found)


@each_dtype
@each_scheme
def test_promises(scheme: Scheme, dtype: torch.dtype) -> None:
    for tokens in (64, 320):
        check(outliers(tokens, dtype), scheme)


@each_scheme
def test_most_numbers_equal_the_reference(scheme: Scheme) -> None:
    x = outliers(256, torch.float32)
    found = groups(unpack(pack(x, scheme)), scheme).double()
    by_definition = reference.fp8 if scheme.form == "fp8" else lambda group: reference.levels(group, scheme.bits)
    expected = torch.stack([by_definition(group)[0] for group in groups(x, scheme)])
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=64),
    st.sampled_from(SCHEMES),
    st.sampled_from(DTYPES),
    st.sampled_from([1.0, 1.0, 0.01, 300.0]),
)
def test_promises_of_any_numbers(numbers: list[float], scheme: Scheme, dtype: torch.dtype, factor: float) -> None:
    if dtype == torch.float16:
        # in fp16 the promise of fp8 leaves out subnormal numbers
        factor = 1.0
        numbers = [number if abs(number) > 0.1 else 0.0 for number in numbers]
    row = (torch.tensor(numbers).repeat(64)[:64] * factor).to(dtype)
    x = torch.stack([row.roll(shift) for shift in range(64)]) if scheme.axis == "channel" else row.expand(64, 64)
    check(x[None].contiguous(), scheme)


@each_dtype
def test_long_texts_in_chunks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = outliers(4096 + 192, dtype)
    for scheme in SCHEMES:
        whole = pack(x, scheme)
        found = unpack(whole)
        with monkeypatch.context() as patch:
            patch.setattr(packing, "CHUNK_NUMBERS", 20_000)
            assert same_bytes(pack(x, scheme), whole)
            assert torch.equal(unpack(whole), found)


@each_scheme
def test_parts_and_places(scheme: Scheme) -> None:
    x = outliers(256, torch.bfloat16)
    packed = pack(x, scheme)
    found = unpack(packed)
    part = packed.tokens(64, 192)
    assert torch.equal(unpack(part), found[:, 64:192])
    assert same_bytes(part, pack(x[:, 64:192], scheme))
    assert part.nbytes * 2 == packed.nbytes
    buffer = torch.zeros(3, 300, 64, dtype=torch.bfloat16)
    unpack(packed, buffer[:, 20:276])
    assert torch.equal(buffer[:, 20:276], found)
    assert not buffer[:, :20].any()
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert same_bytes(pack(strided, scheme), packed)
    assert unpack(pack(x[:, :0], scheme)).shape == (3, 0, 64)


def test_true_bytes() -> None:
    x = outliers(1024, torch.bfloat16, heads=2, width=128)
    numbers = x.numel()
    expected = {
        Scheme("fp8", "token"): numbers + 2 * 1024 * 2,
        Scheme("int8", "token"): numbers + 2 * 1024 * 4,
        Scheme("int4", "channel", 32): numbers // 2 + numbers // 32 * 4,
        Scheme("int4", "token", 64): numbers // 2 + numbers // 64 * 4,
        Scheme("int2", "channel", 32): numbers // 4 + numbers // 32 * 4,
    }
    for scheme, count in expected.items():
        packed = pack(x, scheme)
        stored = [tensor for tensor in (packed.codes, packed.far, packed.near) if tensor is not None]
        assert packed.nbytes == count == sum(tensor.untyped_storage().nbytes() for tensor in stored)


def test_constant_and_zero_groups_come_back() -> None:
    for scheme in SCHEMES:
        for dtype in DTYPES:
            for value in (0.0, -3.1415, 1e-7, 6e4):
                x = torch.full((1, 64, 64), value).to(dtype)
                assert torch.equal(unpack(pack(x, scheme)), x)


def test_bad_input_is_refused() -> None:
    x = outliers(64, torch.bfloat16)
    for value in (float("nan"), float("inf"), float("-inf"), 1e35):
        for scheme in SCHEMES:
            bad = x.clone()
            bad[1, 40, 7] = value
            with pytest.raises(ValueError, match="finite"):
                pack(bad, scheme)
    with pytest.raises(ValueError, match="keep the last ones unpacked"):
        pack(x[:, :63], Scheme("int4", "channel", 32))
    with pytest.raises(ValueError, match="whole groups of 48"):
        pack(x, Scheme("int4", "token", 48))
    with pytest.raises(ValueError, match="bytes of 4"):
        pack(x[..., :62], Scheme("int2", "channel", 32))
    with pytest.raises(ValueError, match="only bf16"):
        pack(x.double(), SCHEMES[0])
    with pytest.raises(ValueError, match="need a group"):
        Scheme("int4", "channel")
    with pytest.raises(ValueError, match="at least one"):
        Scheme("int4", "token", 0)
    with pytest.raises(ValueError, match="no scheme"):
        Scheme("int3", "token")  # type: ignore[arg-type]
    packed = pack(x, Scheme("int4", "channel", 32))
    with pytest.raises(ValueError, match="whole groups"):
        packed.tokens(16, 48)
    with pytest.raises(ValueError, match="does not go into"):
        unpack(packed, torch.empty(3, 64, 64))


def check_triton(device: str, dtypes: list[torch.dtype]) -> None:
    """The Triton kernel against plain torch: the same to one rounding, the ends exactly."""
    from readthrough.kernels.quantize import triton

    for dtype in dtypes:
        for scheme in [*SCHEMES, Scheme("int4", "token")]:
            for width in (64, 96, 128):
                packed = pack(outliers(128, dtype, heads=2, width=width), scheme)
                expected = unpack(packed)
                near = None if packed.near is None else packed.near.to(device)
                there = Packed(scheme, packed.codes.to(device), packed.far.to(device), near)
                found = torch.zeros(2, 150, width, dtype=dtype, device=device)
                triton.unpack(there.tokens(64, 128), found[:, 7:71])
                near = expected[:, 64:].float().abs() * torch.finfo(dtype).eps + 1e-6 * expected.abs().max()
                assert ((found[:, 7:71].cpu().float() - expected[:, 64:].float()).abs() <= near).all()
                assert not found[:, :7].any()
                assert not found[:, 71:].any()


def compile_all() -> None:
    """Compile the kernel for a GPU."""
    from readthrough.kernels.quantize import triton

    for bits, fp8 in [(8, True), (8, False), (4, False), (2, False)]:
        for tokens, channels in [(32, 1), (1, 32)]:
            source = triton.Source("*u8", "*bf16", "*bf16", *["i32"] * 4)
            arguments = {"source": source, "target": triton.Target("*bf16", "i32", "i32"), "tokens": "i32"}
            layout = triton.Layout(16 * bits, bits, tokens, channels, fp8)
            compile_kernel(triton._unpack, arguments, {"LAYOUT": layout, "SIZES": (triton.TOKENS, 128, 128)})


@needs_triton
def test_triton_interpreted(tmp_path: Path) -> None:
    """The interpreter cuts bf16 off."""
    run_apart(__file__, "tests.check_triton('cpu', [torch.float16])", tmp_path, interpret=True)


@needs_triton
def test_triton_compiles(tmp_path: Path) -> None:
    run_apart(__file__, "tests.compile_all()", tmp_path, interpret=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda() -> None:
    check_triton("cuda", [torch.float16, torch.bfloat16])
    for scheme in SCHEMES:
        x = outliers(320, torch.bfloat16)
        on_device = pack(x.cuda(), scheme)
        assert torch.equal(on_device.far.cpu(), pack(x, scheme).far)
        assert (unpack(on_device).cpu().float() - unpack(pack(x, scheme)).float()).abs().max() <= 0.5
