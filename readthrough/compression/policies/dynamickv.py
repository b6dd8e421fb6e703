"""DynamicKV: layers keep as many tokens as they have among the best of all.

Source: Zhou et al., "DynamicKV: Task-Aware Adaptive KV Cache Compression for Long Context LLMs", arXiv 2412.14838,
section 4 and algorithm 1, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import LayerKV, at_least, top_tokens
from readthrough.compression.policies.budgets import WindowScored, shared_out


@dataclass(frozen=True)
class DynamicKV(WindowScored):
    """As many tokens a layer as it has among the best of all layers (DynamicKV, arXiv 2412.14838).

    Every layer first keeps up to `most_ratio` times the mean. After every `update_layers` layers the whole budget is
    shared out to the layers so far by how many of their tokens are among the best scores of these layers, and each is
    cut to its share; the next time it cannot grow again.

    Differs from the paper: one choice a key head, by the mean over its query heads; what the cuts left over of the
    budget is given back in proportion (in the authors' code it is lost); the last layers are shared with where their
    number is no multiple of `update_layers`.

    Attributes:
        most_ratio: the most a layer keeps, over the mean (`radio_max` in the code).
        update_layers: after so many layers budgets are set anew.
    """

    name = "dynamickv"
    pooling: Literal["average", "max"] = "average"
    most_ratio: float = 10.0
    update_layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, most_ratio=1, update_layers=1)

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the window's attention, a layer's own number."""
        past = self.budget(layers, tokens)
        scores = torch.stack([self.scores(layer, tokens) for layer in layers])
        most = min(int(self.most_ratio * past), tokens)
        kept = [most] * len(layers)
        for end in [*range(self.update_layers, len(layers), self.update_layers), len(layers)]:
            shares = shared_out(_best(scores[:end], past), past * len(layers), past * len(layers))
            kept[:end] = [min(old, share) for old, share in zip(kept, shares, strict=False)]
        counts = shared_out(kept, past * len(layers), most, multiple)
        return [top_tokens(each, count) for each, count in zip(scores, counts, strict=True)]


def _best(scores: torch.Tensor, past: int) -> list[float]:
    """How many of each layer's scores `[layers, Hkv, tokens]` are among the `past` a head and layer that are best."""
    count = past * scores.shape[0] * scores.shape[1]
    best = scores.flatten().sort(stable=True, descending=True).indices[:count]
    return [float(x) for x in torch.bincount(best // scores[0].numel(), minlength=scores.shape[0])]
