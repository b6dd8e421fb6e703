"""Quantised weights: what the layers compute, which passes use them, and that a reply depends on no neighbour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from readthrough.errors import ConfigError, ModelError
from readthrough.models.base import Request
from readthrough.models.local import quantised
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.quantised import Int4Linear, Int8InputsLinear, Int8Linear, TwoFormsLinear, int8_layer
from readthrough.models.open import open_model
from tests import tiny_models
from tests.conftest import SMALL_MODEL

KINDS = ("int8", "int4")
LAYERS = {"int8": Int8Linear, "int4": Int4Linear}
with_amx = pytest.mark.skipif(int8_layer() is not Int8InputsLinear, reason="int8 inputs are for processors with AMX")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def linear(inputs: int, outputs: int, dtype: torch.dtype, bias: bool = True) -> nn.Linear:
    torch.manual_seed(inputs + outputs)
    return nn.Linear(inputs, outputs, bias=bias, dtype=dtype).requires_grad_(False)


def held_weight(kind: str, weight: torch.Tensor) -> torch.Tensor:
    """The weight that the quantised form stands for, in fp64."""
    if kind == "int8":
        codes, scales = quantised.quantise_int8(weight)
        return codes.double() * scales.double()[:, None]
    codes, scales, zeros = quantised.quantise_int4(weight)
    assert codes.min() >= 0 and codes.max() <= 15
    held: torch.Tensor = (grouped(codes.double()) - 8) * scales.double()[..., None] + zeros.double()[..., None]
    return held.flatten(1)


def grouped(weight: torch.Tensor) -> torch.Tensor:
    return weight.reshape(len(weight), -1, quantised.INT4_GROUP)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 16), (96, 400), (896, 128), (1536, 1040)])
def test_a_layer_computes_with_the_weights_that_its_codes_stand_for(
    kind: str, dtype: torch.dtype, inputs: int, outputs: int
) -> None:
    plain = linear(inputs, outputs, dtype)
    layer = LAYERS[kind](plain)
    x = torch.randn(2, 9, inputs).to(dtype)
    exact = x.double() @ held_weight(kind, plain.weight).T + plain.bias.double()
    found, eps = layer(x), torch.finfo(dtype).eps
    assert found.shape == (2, 9, outputs) and found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=4 * eps, atol=max(4 * eps, 1e-5))


@with_amx
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_int8_inputs(rows: int, bias: bool, dtype: torch.dtype) -> None:
    """Inputs that int8 holds exactly leave the weights' rounding alone; others add half a step each at most."""
    plain = linear(256, 48, dtype, bias=bias)
    layer, weight = Int8InputsLinear(plain), held_weight("int8", plain.weight.float())
    added = plain.bias.double() if bias else 0.0
    x = torch.randint(-127, 128, (rows, 256)).to(dtype)
    x[:, 5] = 127
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(layer(x).double(), x.double() @ weight.T + added, rtol=eps, atol=1e-4)
    x = torch.randn(rows, 256).to(dtype)
    x[0] = 0
    exact = x.double() @ weight.T + added
    most = x.double().abs().amax(1, keepdim=True) / 254 * weight.abs().sum(1)
    assert ((layer(x).double() - exact).abs() <= most + exact.abs() * eps + 1e-6).all()
    x[-1, 0] = torch.nan
    assert layer(x)[-1].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer_type", [Int8Linear, Int4Linear, pytest.param(Int8InputsLinear, marks=with_amx)])
@pytest.mark.parametrize(("inputs", "outputs"), [(896, 128), (896, 1040), (2048, 256)])
def test_a_row_is_the_same_alone_and_beside_others(
    layer_type: type[quantised.QuantisedLinear], dtype: torch.dtype, inputs: int, outputs: int
) -> None:
    layer = layer_type(linear(inputs, outputs, dtype))
    x = torch.randn(40, inputs).to(dtype)
    whole = layer(x)
    for rows in (1, 2, 3, 4, 5, 8, 9, 16, 17):
        assert torch.equal(layer(x[:rows]), whole[:rows])
        assert torch.equal(layer(x[40 - rows :]), whole[40 - rows :])


def test_what_was_in_four_bits_before_loses_nothing() -> None:
    """Groups of 32 on a grid of 15 or 14 steps: the form that common files of 4-bit weights have."""
    torch.manual_seed(0)
    for steps in (15, 14):
        codes = torch.randint(0, steps + 1, (64, 8, quantised.INT4_GROUP))
        codes[..., 0], codes[..., 1] = 0, steps
        scale = torch.rand(64, 8, 1) / 64 + 1 / 64
        weight = (codes * scale - scale * 7.3).flatten(1)
        error = (held_weight("int4", weight) - weight.double()).abs().max()
        assert error < 1e-6


@pytest.mark.parametrize("kind", LAYERS)
def test_the_error_of_a_weight_is_half_a_step(kind: str) -> None:
    weight = linear(256, 64, torch.float32).weight
    error = (held_weight(kind, weight) - weight.double()).abs()
    if kind == "int8":
        assert (error <= weight.abs().amax(1, keepdim=True) / 127 / 2 * 1.001).all()
    else:
        step = (grouped(weight).amax(-1) - grouped(weight).amin(-1)) / 15
        assert (grouped(error).square().mean(-1).sqrt() <= step / 2).all()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_equal_weights(kind: str, value: float) -> None:
    weight = torch.full((16, 64), value, dtype=torch.bfloat16)
    assert torch.allclose(held_weight(kind, weight), weight.double(), rtol=1e-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"))


def opened(folder: Path, weights: str, **settings: Any) -> LocalModel:
    return LocalModel(str(folder), device="cpu", weights=weights, **settings)


def texts(model: LocalModel, requests: list[Request]) -> list[str]:
    return [found.text for found in model.complete(requests)]


QUESTIONS = ["Who kept the book?", "What was seen?", "Count to 7.", "The sea?", tiny_models.TEXT]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drafts", [0, 7])
def test_a_reply_does_not_depend_on_what_runs_beside_it(folder: Path, kind: str, drafts: int) -> None:
    requests = [Request.user(text, max_tokens=8 + 9 * i) for i, text in enumerate(QUESTIONS)]
    apart = opened(folder, kind, draft_tokens=0)
    expected = [texts(apart, [request])[0] for request in requests]
    assert texts(opened(folder, kind, draft_tokens=drafts), requests) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_full_weights(folder: Path, kind: str) -> None:
    full, other = opened(folder, "full"), opened(folder, kind)
    request = Request.user("Which?")
    texts(other, [replace(request, max_tokens=20)])
    chosen = [model.choose([request], [["A", "B"]])[0].probabilities for model in (full, other)]
    assert chosen[0] == chosen[1]
    assert other.likelihood([request], ["Ann"])[0].logprob == full.likelihood([request], ["Ann"])[0].logprob


@pytest.mark.parametrize("kind", KINDS)
def test_replies_do_come_from_the_quantised_form(folder: Path, kind: str) -> None:
    model = opened(folder, kind)
    request = Request.user(QUESTIONS[0], max_tokens=6)
    expected = texts(model, [request])
    for module in model._loaded.model.modules():
        if isinstance(module, TwoFormsLinear):
            module.quantised.register_forward_hook(lambda layer, given, out: out.flip(-1))
    model.close()
    assert texts(model, [request]) != expected
    assert model._loaded.form.whole and not model._loaded.form.decoding


def test_what_is_kept_of_a_reply_was_computed_with_the_full_weights(folder: Path) -> None:
    """A second turn reads the first reply again: its KV is the same whether the first turn ran here or not."""
    here, elsewhere = opened(folder, "int4"), opened(folder, "int4")
    first = Request.user(tiny_models.TEXT, max_tokens=40)
    reply = here.complete([first])[0]
    prompt = here._prompts.render(first)
    second = replace(Request.user(tiny_models.TEXT), prefill=reply.text)
    assert here._prompts.render(second).startswith(prompt)
    found, cold = here.likelihood([second], [" Ann"])[0], elsewhere.likelihood([second], [" Ann"])[0]
    assert found.logprob == pytest.approx(cold.logprob, abs=1e-5)
    assert 0 < found.usage.cached_tokens <= reply.usage.prompt_tokens


def test_identity_names_the_weights(folder: Path) -> None:
    names = [opened(folder, kind).identity for kind in ("full", "int8", "int4")]
    assert names[0].endswith("float32 cpu")
    assert names[1:] == [f"{names[0]} int8", f"{names[0]} int4"]
    chosen = open_model({"local": {"name": str(folder), "weights": "int4"}}, device="cpu")
    assert chosen.identity == names[2]


def test_unknown_weights_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown weights 'int3' \(known: full, int8, int4\)"):
        opened(folder, "int3")
    with pytest.raises(ConfigError, match="not for cuda"):
        quantised.check_weights("int4", torch.device("cuda"))


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_a_torch_without_working_kernels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def broken(self: Int4Linear, x: torch.Tensor) -> torch.Tensor:
        if fault == "missing":
            torch.ops.aten._weight_int4pack_mm_of_another_version(x)
        return torch.zeros(len(x), 16, dtype=x.dtype)

    monkeypatch.setattr(Int4Linear, "forward", broken)
    with pytest.raises(ModelError, match="cannot compute" if fault == "missing" else "wrong on this processor"):
        opened(folder, "int4")


@pytest.mark.parametrize("family", ["Mixtral", "GPTNeoX"])
def test_other_families(tmp_path: Path, family: str) -> None:
    """Where some weights stay as they are, replies are the same in company too."""
    changes = {"num_local_experts": 2} if family == "Mixtral" else {}
    model = opened(tiny_models.save(tmp_path, family, **changes), "int4")
    assert model._loaded.form.whole == (family == "GPTNeoX")
    requests = [Request.user(text, max_tokens=12) for text in QUESTIONS]
    assert texts(model, requests) == [texts(model, [request])[0] for request in requests]


def test_the_output_layer_has_eight_bits_and_odd_shapes_too(folder: Path) -> None:
    inner = opened(folder, "int4")._loaded.model
    assert isinstance(inner.lm_head, TwoFormsLinear) and isinstance(inner.lm_head.quantised, int8_layer())
    assert isinstance(inner.model.layers[0].mlp.down_proj.quantised, Int4Linear)
    model = nn.ModuleDict({"odd": nn.Linear(40, 24, dtype=torch.bfloat16).requires_grad_(False)})
    assert quantised.quantise_linears(model, "int4").whole
    assert isinstance(model["odd"].quantised, int8_layer())


TEXT = "The keeper wrote in his book every evening, and the wind came from the north over the grey sea. "
TASKS = (
    "Say in your own words what a lighthouse is.",
    "Quote the text above exactly.",
    "Who wrote, and when?",
    "Write a poem about the sea.",
)


@pytest.fixture(scope="module")
def int4_model() -> LocalModel:
    try:
        return LocalModel(SMALL_MODEL, device="cpu", weights="int4")
    except ModelError as error:
        pytest.skip(f"the small model cannot be had: {error}")


def test_a_real_model_alone_beside_others_and_with_drafts(int4_model: LocalModel) -> None:
    """Decode passes are exact: short prompts, whose KV is the same. Prompts read anew are not covered (docs/log.md)."""
    requests = [Request.user(f"{TEXT * (1 + i % 2)}\n{TASKS[i % 4]}", max_tokens=(6, 9)[i % 2]) for i in range(5)]
    writer, limits = int4_model._writer, int4_model._writer.limits
    int4_model.close()
    int4_model.complete([replace(request, max_tokens=1) for request in requests])
    found = []
    for drafts, rows, together in ((0, 16, False), (3, 4, False), (0, 16, True), (2, 24, True)):
        writer.limits = replace(limits, draft_tokens=drafts, rows=rows)
        groups = [requests] if together else [[request] for request in requests]
        replies = [reply for group in groups for reply in int4_model.complete(group)]
        assert all(reply.usage.cached_tokens == reply.usage.prompt_tokens - 1 for reply in replies)
        found.append([(reply.text, reply.logprob) for reply in replies])
    writer.limits = limits
    assert found[0] == found[1] == found[2] == found[3]
    assert "keeper" in found[0][1][0]
