"""CAKE: more for the layers whose attention is spread wide and moves.

Source: Qin et al., "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv 2503.12491,
sections 4.1 and 4.3, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool1d

from readthrough.compression.base import LayerKV, at_least, top_tokens
from readthrough.compression.policies.budgets import AtPromptEnd, shared_out
from readthrough.kernels.scores import window_moments

POOL_TOKENS = 5


@dataclass(frozen=True)
class CAKE(AtPromptEnd):
    """Layers share the budget by how spread and how changing their attention is (CAKE, arXiv 2503.12491).

    Of the window's attention to what comes before it, a layer's share is H^(1 / dispersion) V^(1 / shift), H being its
    entropy and V its variance over the window's queries; a token is kept by its mean plus `variance_weight` times its
    variance, averaged over five neighbours.

    Differs from the paper: all layers are there when a prompt has been read, so nothing is dropped in a cascade while
    it is (the same layers keep the same in the end, but more memory is used until then); what a layer that keeps
    everything leaves is shared by the others in proportion, not equally; none are dropped while a reply is written.

    Attributes:
        window_tokens: how many last tokens look back, and stay.
        dispersion: the temperature of the entropy (tau 1; the authors tune it to model and budget, 0.5 to 2.3).
        shift: the temperature of the variance (tau 2).
        variance_weight: what a token's variance counts beside its mean (gamma).
    """

    name = "cake"
    window_tokens: int = 32
    dispersion: float = 1.0
    shift: float = 1.0
    variance_weight: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, window_tokens=2, variance_weight=0)
        for name in ("dispersion", "shift"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def query_tokens(self) -> int:
        """Those of the window."""
        return self.window_tokens

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By mean and variance, a layer's own number."""
        measured = [self._measured(layer, tokens) for layer in layers]
        total = self.budget(layers, tokens) * len(layers)
        counts = shared_out([preference for preference, _ in measured], total, tokens, multiple)
        return [top_tokens(scores, count) for (_, scores), count in zip(measured, counts, strict=True)]

    def _measured(self, layer: LayerKV, tokens: int) -> tuple[float, torch.Tensor]:
        """A layer's preference, and the scores of its tokens `[Hkv, tokens]`."""
        if layer.queries is None:
            raise ValueError("CAKE needs the queries of the window")
        queries = layer.queries.shape[1]
        first, second, entropy = window_moments(layer.queries, layer.keys, scale=layer.scale)
        mean = first[:, :tokens] / queries
        variance = ((second[:, :tokens] - first[:, :tokens] * mean) / max(1, queries - 1)).clamp_(min=0)
        spread, moved = float(entropy[:tokens].sum().clamp_(min=0)), float(variance.sum())
        pooled = avg_pool1d(mean + self.variance_weight * variance, POOL_TOKENS, 1, POOL_TOKENS // 2)
        scores = torch.unflatten(pooled, 0, (layer.keys.shape[0], -1)).mean(1)
        return spread ** (1 / self.dispersion) * moved ** (1 / self.shift), scores
