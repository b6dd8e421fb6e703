"""Weights in the layout that oneDNN computes with, so that they are not rearranged at every call.

A forward pass over few tokens reads all weights once and does little else: with packed ones it takes three quarters of
the time (docs/log.md), and longer ones a tenth less. The numbers are the same but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import nn


class PackedLinear(nn.Module):
    """A linear layer over packed weights, for inference: `[..., in]` to `[..., out]`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("bias", None if linear.bias is None else linear.bias.data, persistent=False)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.data, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output in the dtype of `x`."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return out


def pack_linears(model: nn.Module) -> int:
    """Pack the linear layers of a model that computes in bf16 on a processor; returns how many.

    0 where oneDNN is not there, or the processor has no bf16. Weights that a layer shares with the embedding are
    there twice from then on.
    """
    packed = 0
    for module, name, linear in plain_linears(model):
        found = fastest(linear)
        if found is not linear:
            setattr(module, name, found)
            packed += 1
    return packed


def plain_linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Every layer that is torch's own linear one, with the module that holds it and its name there.

    The layers may be replaced on the way; none is held longer than the others of its module.
    """
    for module in [each for each in model.modules() if type(each) is not nn.Linear]:
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                yield module, name, child


def fastest(linear: nn.Linear) -> nn.Module:
    """The layer packed, or as it is where that cannot be."""
    weight = linear.weight
    fits = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _has_onednn_bf16()
    return PackedLinear(linear) if fits else linear


@cache
def _has_onednn_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]
