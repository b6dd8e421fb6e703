"""Linear layers with weights of 8 or 4 bits, for the passes that write replies on a processor.

Writing a token reads every weight once and computes little with it: fewer bits take less time. Reading a prompt
computes much with every weight, and is faster in bf16. So a model holds both forms, and the kind of pass decides
between them, never the number of its rows, and the quantised kernels compute each row as if it were alone. A greedy
reply can still differ in company: the prompt's KV rounds otherwise there, and a reply of quantised weights is more
sensitive to that, most of all with int8 inputs. Prompts, options and likelihoods are computed with the full weights;
the tokens of a reply behind its first one are not. docs/log.md has what all this gains and loses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from readthrough.errors import ConfigError, ModelError
from readthrough.models.local.packing import fastest, plain_linears

INT4_GROUP = 32
"""Inputs that share a scale and a zero. Groups of 64 lose more and are no faster (docs/log.md)."""

INT4_STEPS = (15, 14)
"""How many steps a group's range is tried with: groups that were stored in 4 bits before often used one less."""

CHUNK_WEIGHTS = 1 << 18
"""About so many weights are quantised at a time: they stay in the processor's cache."""

PACK_ROWS = 64
"""The most outputs that torch's 4-bit layout keeps together."""

AMX_ROWS_MIN = 4
"""oneDNN takes a slow reference for some matrices of fewer rows."""

KINDS = ("full", "int8", "int4")


@dataclass(slots=True)
class WeightForm:
    """Which weights a model's passes compute with.

    Attributes:
        kind: `full`, or what decode passes use: `int8` or `int4`.
        whole: every linear layer has the quantised form, so that a decode pass rounds each row as if it were alone.
        decoding: the pass that runs is a decode pass; the engine sets it.
    """

    kind: str = "full"
    whole: bool = False
    decoding: bool = False


class QuantisedLinear(nn.Module, ABC):
    """A linear layer of quantised weights: `[..., in]` to `[..., out]`. The bias is kept in `bias_dtype`."""

    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear, bias_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.data.to(bias_dtype or linear.bias.dtype)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output in the dtype of `x`."""
        out = self.multiply(x.reshape(-1, x.shape[-1]).contiguous())
        return (out if self.bias is None else out.add_(self.bias)).to(x.dtype).view(*x.shape[:-1], -1)

    @abstractmethod
    def multiply(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows `[n, in]` times the weights, `[n, out]`, in memory of its own."""


class Int8Linear(QuantisedLinear):
    """A layer of int8 weights with a scale for each output."""

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.data
        self.register_buffer("codes", torch.empty_like(weight, dtype=torch.int8), persistent=False)
        self.register_buffer("scales", weight.new_empty(len(weight)), persistent=False)
        for rows in _chunks(weight):
            self.codes[rows], self.scales[rows] = quantise_int8(weight[rows])

    def multiply(self, rows: torch.Tensor) -> torch.Tensor:
        """By torch's weight-only kernel."""
        out: torch.Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        return out


class Int8InputsLinear(QuantisedLinear):
    """A layer of int8 weights whose inputs are rounded to int8 too, a scale a row: for processors with AMX.

    As fast at sixteen rows as at one, where the layers above and below compute sixteen times as much. The sums are
    of integers, and exact.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear, bias_dtype=torch.float32)
        weight = linear.weight.data
        codes, scales = torch.empty_like(weight, dtype=torch.int8), torch.empty(len(weight))
        for rows in _chunks(weight):
            codes[rows], scales[rows] = quantise_int8(weight[rows].float())
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self._scales, self._zeros = scales, torch.zeros(len(weight), dtype=torch.int64)

    def multiply(self, rows: torch.Tensor) -> torch.Tensor:
        """By oneDNN's kernel for int8 on both sides, in fp32."""
        scales = rows.abs().amax(-1, keepdim=True).float().div_(127).clamp_min_(torch.finfo(torch.float32).tiny)
        codes = (rows.float() / scales).round_().to(torch.int8)
        if len(codes) < AMX_ROWS_MIN:
            codes = nn.functional.pad(codes, (0, 0, 0, AMX_ROWS_MIN - len(codes)))
        weights = (self._packed, self._scales, self._zeros)
        multiply = torch.ops.onednn.qlinear_pointwise
        out: torch.Tensor = multiply(codes, 1.0, 0, *weights, None, 1.0, 0, torch.float32, "none", [], "")
        return out[: len(rows)] * scales


class Int4Linear(QuantisedLinear):
    """A layer of 4-bit weights with a scale and a zero for `INT4_GROUP` inputs: 5 bits a weight in bf16."""

    packed: torch.Tensor
    scales_zeros: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.data
        outputs, inputs = weight.shape
        self.register_buffer("packed", torch.empty(outputs, inputs // 2, dtype=torch.uint8), persistent=False)
        self.register_buffer("scales_zeros", weight.new_empty(inputs // INT4_GROUP, outputs, 2), persistent=False)
        for rows in _chunks(weight):
            codes, scales, zeros = quantise_int4(weight[rows])
            self.packed[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
            self.scales_zeros[:, rows] = torch.stack([scales, zeros], -1).transpose(0, 1)

    def multiply(self, rows: torch.Tensor) -> torch.Tensor:
        """By torch's 4-bit kernel."""
        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, INT4_GROUP, self.scales_zeros)
        return out


class TwoFormsLinear(nn.Module):
    """A linear layer with full weights and quantised ones; the kind of pass chooses."""

    def __init__(self, full: nn.Module, quantised: nn.Module, form: WeightForm) -> None:
        super().__init__()
        self.full, self.quantised, self._form = full, quantised, form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output in the dtype of `x`."""
        out: torch.Tensor = (self.quantised if self._form.decoding else self.full)(x)
        return out


def int8_layer() -> type[Int8Linear] | type[Int8InputsLinear]:
    """The faster of the int8 layers on this processor."""
    has_amx = torch.cpu.get_capabilities().get("amx_int8", False) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return Int8InputsLinear if has_amx else Int8Linear


def draft_rows(kind: str) -> int:
    """The most tokens a decode step when drafts are tried: so many cost little more than one."""
    return 16 if kind == "full" or (kind == "int8" and int8_layer() is Int8InputsLinear) else 4


def quantise_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes `[N, K]` of -127 to 127 in int8 and scales `[N]` in the weight's dtype: a weight is near code * scale."""
    wide = weight.float()
    scales = (wide.abs().amax(1) / 127).to(weight.dtype)
    codes = (wide / _not_zero(scales)[:, None]).round_().clamp_(-127, 127)
    return codes.to(torch.int8), scales


def quantise_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes `[N, K]` of 0 to 15 in int32, scales and zeros `[N, K / INT4_GROUP]` in the weight's dtype.

    A weight is near (code - 8) * scale + zero. Each group takes of `INT4_STEPS` what leaves the least squared error.
    """
    groups = weight.float().view(len(weight), -1, INT4_GROUP)
    low, high = groups.amin(-1), groups.amax(-1)
    least = torch.full_like(low, torch.inf)
    codes, scales, zeros = torch.zeros_like(groups), torch.zeros_like(low), torch.zeros_like(low)
    for steps in INT4_STEPS:
        scale = ((high - low) / steps).to(weight.dtype).float()
        zero = (low + 8 * scale).to(weight.dtype).float()
        found = (groups - zero[..., None]).div_(_not_zero(scale)[..., None]).round_().clamp_(-8, 7)
        error = (found * scale[..., None]).add_(zero[..., None]).sub_(groups).square_().sum(-1)
        better = error < least
        least = torch.where(better, error, least)
        codes = torch.where(better[..., None], found, codes)
        scales, zeros = torch.where(better, scale, scales), torch.where(better, zero, zeros)
    return (codes.flatten(1) + 8).to(torch.int32), scales.to(weight.dtype), zeros.to(weight.dtype)


def check_weights(kind: str, device: torch.device) -> None:
    """Raise what stands against a kind of weights, before a model is loaded.

    Raises:
        ConfigError: there is no such kind, or it is not for this device.
        ModelError: this torch has no kernels for it, or they compute something else on this processor.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown weights {kind!r}", hint=f"known: {', '.join(KINDS)}")
    if kind == "full":
        return
    if device.type != "cpu":
        raise ConfigError(f"{kind} weights are for a processor, not for {device.type}", hint="leave weights out")
    _probe(int8_layer(), kind)
    if kind == "int4":
        _probe(Int4Linear, kind)


def quantise_linears(model: nn.Module, kind: str) -> WeightForm:
    """Give each plain linear layer of a model quantised weights beside its full ones.

    With `int4` the output layer has 8 bits, which a model's quality depends on most, and so have layers whose shape
    the 4-bit kernel does not take.
    """
    output_layer = getattr(model, "get_output_embeddings", None)
    head = output_layer() if output_layer else None
    form = WeightForm(kind, whole=not any(map(_other_weights, model.modules())))
    for module, name, linear in plain_linears(model):
        four = kind == "int4" and linear is not head and _fits_int4(linear)
        quantised = Int4Linear(linear) if four else int8_layer()(linear)
        setattr(module, name, TwoFormsLinear(fastest(linear), quantised, form))
    return form


def _probe(layer: type[QuantisedLinear], kind: str) -> None:
    """Compute a small layer; half of its outputs are as large as can be, which some processors cut off."""
    linear = nn.Linear(2 * INT4_GROUP, 16, dtype=torch.bfloat16).requires_grad_(False)
    linear.weight.copy_((torch.arange(linear.weight.numel()).view_as(linear.weight) % 15 - 7) / 8)
    linear.weight[8:] = 1.0
    x = torch.linspace(-1, 1, 4 * linear.in_features, dtype=torch.bfloat16).view(4, -1)
    hint = "leave weights out, or install the torch that pyproject.toml names"
    try:
        found = layer(linear)(x)
    except (AttributeError, RuntimeError) as error:
        raise ModelError(f"torch {torch.__version__} cannot compute {kind} weights: {error}", hint=hint) from error
    if not torch.allclose(found.float(), linear(x).float(), rtol=0.02, atol=0.2):
        raise ModelError(f"torch {torch.__version__} computes {kind} weights wrong on this processor", hint=hint)


def _other_weights(module: nn.Module) -> bool:
    """Whether a module multiplies by weights that `quantise_linears` leaves as they are."""
    matrices = any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    return matrices and type(module) is not nn.Linear and not isinstance(module, nn.Embedding)


def _fits_int4(linear: nn.Linear) -> bool:
    return linear.in_features % INT4_GROUP == 0 and linear.out_features % 16 == 0


def _chunks(weight: torch.Tensor) -> Iterator[slice]:
    rows = max(1, CHUNK_WEIGHTS // weight.shape[1] // PACK_ROWS) * PACK_ROWS
    return (slice(start, start + rows) for start in range(0, len(weight), rows))


def _not_zero(scales: torch.Tensor) -> torch.Tensor:
    """Scales to divide by: a group of equal weights has 0."""
    return scales.float().masked_fill(scales == 0, 1.0)
