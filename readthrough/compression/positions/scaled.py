"""Scaled rotary positions: the same model reads texts that are several times longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from readthrough.compression.base import Positions


@dataclass(frozen=True)
class _Scaled(Positions):
    """Positions that are scaled once and for all.

    Attributes:
        factor: how many times longer texts become.
    """

    factor: float = 4.0

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor:g}")

    def window_tokens(self, trained_tokens: int) -> int:
        """So many times as long as it was."""
        return int(trained_tokens * self.factor)


@dataclass(frozen=True)
class Linear(_Scaled):
    """Position interpolation (Chen et al., arXiv 2306.15595): every position divided by the factor."""

    name = "linear"

    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """See `Positions.rope`."""
        return {**parameters, "rope_type": "linear", "factor": self.factor}


@dataclass(frozen=True)
class NTK(_Scaled):
    """NTK-aware scaling: the slowest channels turn so many times slower, the fastest as before.

    Source: bloc97, "NTK-Aware Scaled RoPE", 2023; Peng et al., arXiv 2309.00071, section 3.1. The factor stays the same
    for texts of any length, so that keys can be kept; the dynamic form, whose factor grows, cannot be.
    """

    name = "ntk"

    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """See `Positions.rope`."""
        base = float(parameters["rope_theta"]) * self.factor ** (width / (width - 2))
        return {**parameters, "rope_theta": base}


@dataclass(frozen=True)
class Yarn(_Scaled):
    """YaRN (Peng et al., arXiv 2309.00071): slow channels are interpolated, fast ones are not, attention is sharper."""

    name = "yarn"

    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """See `Positions.rope`."""
        scaled = {"rope_type": "yarn", "factor": self.factor, "original_max_position_embeddings": trained_tokens}
        return {**parameters, **scaled}
