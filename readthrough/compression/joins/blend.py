"""Blend: the tokens whose KV deviates most in an early layer.

Source: Yao et al., "CacheBlend: Fast Large Language Model Serving for RAG with Cached Knowledge Fusion", arXiv
2405.16444, section 4, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import Deviation, Joining, at_least, top_tokens


@dataclass(frozen=True)
class Blend(Joining):
    """The tokens whose values deviate most in the second layer (CacheBlend, arXiv 2405.16444).

    Differs from the paper: one layer decides for all later ones, as in the authors' code; in the paper each layer
    chooses among the tokens of the one before. Differs from the code: a token attends to what stands before it and to
    nothing else (the code's mask counts rows, not positions); what lies between texts is always computed, and no share
    of the first text is, which stands where it was read.

    Attributes:
        recompute_ratio: the share of the joined tokens that is computed anew; 0 joins alone, 1 is exact.
        layer: whose values are compared, from 0; all tokens are computed up to there.
    """

    name = "blend"

    recompute_ratio: float = 0.15
    layer: int = 1

    def __post_init__(self) -> None:
        at_least(self, recompute_ratio=0, layer=1)
        if self.recompute_ratio > 1:
            raise ValueError(f"recompute_ratio must be at most 1, got {self.recompute_ratio}")

    @property
    def compared_layer(self) -> int | None:
        """The layer, where there is a choice."""
        return self.layer if 0 < self.recompute_ratio < 1 else None

    def choose(self, tokens: int, deviation: Deviation | None) -> torch.Tensor:
        """As many as the ratio says."""
        count = round(self.recompute_ratio * tokens)
        if deviation is None:
            return torch.arange(count)
        return top_tokens(deviation.values[None], count)[0]
