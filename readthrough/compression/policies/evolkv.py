"""EvolKV: layer budgets that were found by search.

Source: Yu and Chai, "EvolKV: Evolutionary KV Cache Compression for LLM Inference", arXiv 2509.08315, section 3.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, top_tokens
from readthrough.compression.policies.budgets import WindowScored, shared_out
from readthrough.compression.selecting import ModelShape


@dataclass(frozen=True)
class EvolKV(WindowScored):
    """What the window attends to, with budgets a layer that a search found (EvolKV, arXiv 2509.08315).

    `python -m benchmarks.evolve_budgets` searches them, for one model and task. With none all layers keep equally many.

    Differs from the paper: budgets are shares of the mean budget, so that what was found with one can be used with
    another (the paper's completion of budgets); one choice a key head, by the mean over its query heads.

    Attributes:
        layer_ratios: each layer's budget as a share of all layers' mean, in any unit: they are brought to a mean of 1.
    """

    name = "evolkv"
    layer_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(ratio < 0 for ratio in self.layer_ratios) or (self.layer_ratios and not sum(self.layer_ratios)):
            raise ValueError(f"layer_ratios must be at least 0, and not all 0, got {self.layer_ratios}")

    def fitted(self, shape: ModelShape) -> EvolKV:
        """This, for a model of as many layers as there are ratios.

        Raises:
            ValueError: it has more, or fewer.
        """
        if self.layer_ratios and len(self.layer_ratios) != shape.layers:
            raise ValueError(
                f"has {shape.layers} layers, and layer_ratios are for {len(self.layer_ratios)}: search them for this "
                "model (python -m benchmarks.evolve_budgets)"
            )
        return self

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the window's attention, a layer's own number."""
        total = self.budget(layers, tokens) * len(layers)
        counts = shared_out(self.layer_ratios or [1.0] * len(layers), total, tokens, multiple)
        return [top_tokens(self.scores(layer, tokens), count) for layer, count in zip(layers, counts, strict=True)]
