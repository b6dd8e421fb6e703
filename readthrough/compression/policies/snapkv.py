"""SnapKV: what the end of a prompt attends to.

Source: Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import KVPolicy, LayerKV, at_least, ratios, top_tokens
from readthrough.kernels.scores import window_mass


@dataclass(frozen=True)
class SnapKV(KVPolicy):
    """What the last tokens of a prompt attend to, and their neighbours (SnapKV, arXiv 2404.14469).

    It is for replies to long prompts: a prompt is compressed before its reply is written. Options and likelihoods are
    scored with all of a prompt.

    Differs from the paper: a group of query heads shares its keys, so one choice is made for each key head, by the
    mean over the group's heads (the authors repeat the keys, and then hold as many times the memory).

    Attributes:
        budget_tokens: how many tokens each head keeps, the window included (`max_capacity_prompt`).
        budget_ratio: the same as a share of the prompt, in place of `budget_tokens`.
        window_tokens: how many last tokens look back, and stay.
        pool_tokens: the width of the pooling that keeps neighbours, odd.
        pooling: `average` or `max`.
    """

    name = "snapkv"

    budget_tokens: int = 1024
    budget_ratio: float | None = None
    window_tokens: int = 64
    pool_tokens: int = 5
    pooling: Literal["average", "max"] = "average"

    def __post_init__(self) -> None:
        at_least(self, window_tokens=1, pool_tokens=1, budget_tokens=self.window_tokens + 1)
        ratios(self, "budget_ratio")
        if self.pool_tokens % 2 == 0:
            raise ValueError(f"pool_tokens must be odd, got {self.pool_tokens}")

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """At a prompt's end."""
        return "prompt"

    @property
    def query_tokens(self) -> int:
        """Those of the window."""
        return self.window_tokens

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the pooled attention of the window."""
        total = layers[0].keys.shape[1]
        budget = self.budget_tokens if self.budget_ratio is None else int(self.budget_ratio * total)
        count = max(0, min(budget - (total - tokens), tokens)) // multiple * multiple
        return [top_tokens(self._scores(layer)[:, :tokens], count) for layer in layers]

    def _scores(self, layer: LayerKV) -> torch.Tensor:
        if layer.queries is None:
            raise ValueError("SnapKV needs the queries of the window")
        return window_mass(
            layer.queries, layer.keys, scale=layer.scale, pool_tokens=self.pool_tokens, pooling=self.pooling
        )
