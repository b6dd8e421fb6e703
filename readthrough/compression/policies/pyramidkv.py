"""PyramidKV: much for the first layers, little for the last.

Source: Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
arXiv 2406.02069, section 4, and its code (KVCache-Factory).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, at_least, top_tokens
from readthrough.compression.policies.budgets import WindowScored, shared_out


@dataclass(frozen=True)
class PyramidKV(WindowScored):
    """What the window attends to, with budgets that fall from layer to layer (PyramidKV, arXiv 2406.02069).

    The last layer keeps `1 / steepness` of the mean (equation 3), the first so much more, those between lie on a line;
    where the first could keep all of the prompt it does, and the line is flatter. As in the authors' code every layer
    keeps equally many of a prompt that is shorter than twice the budget.

    Differs from the paper: one choice a key head, by the mean over its query heads; whole numbers are rounded so that
    the layers' sum is the budget (the authors round every layer up).

    Attributes:
        steepness: the mean budget over the last layer's (beta).
    """

    name = "pyramidkv"
    steepness: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, steepness=1)

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the window's attention, a layer's own number."""
        past = self.budget(layers, tokens)
        line = self._line(past, tokens, len(layers)) if layers[0].keys.shape[1] >= 2 * past else [1.0] * len(layers)
        counts = shared_out(line, past * len(layers), tokens, multiple)
        return [top_tokens(self.scores(layer, tokens), count) for layer, count in zip(layers, counts, strict=True)]

    def _line(self, past: int, tokens: int, layers: int) -> list[float]:
        first = min(2 * past - past / self.steepness, tokens)
        last = 2 * past - first
        return [first - (first - last) * index / max(1, layers - 1) for index in range(layers)]
