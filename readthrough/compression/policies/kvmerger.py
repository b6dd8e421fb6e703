"""KVMerger: neighbours with like keys become one.

Source: Wang et al., "Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks"
(KVMerger), arXiv 2407.08454, section 4.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import cosine_similarity

from readthrough.compression.base import HeadKV, LayerKV
from readthrough.compression.policies.budgets import AtEither


class _Sets(NamedTuple):
    """Runs of tokens that become one: of each token the number of its run; of each run its pivot and its attention."""

    of: torch.Tensor
    pivots: torch.Tensor
    attention: torch.Tensor


@dataclass(frozen=True)
class KVMerger(AtEither):
    """Runs of tokens with like keys are merged into one (KVMerger, arXiv 2407.08454).

    Neighbours join a run where the cosine of their keys is large; the tokens that got the most attention, and the
    latest, stay as they are. A run becomes the mean of its keys and of its values, weighted by a Gaussian of each key's
    distance to the pivot's, the token of the run that got the most attention; it stands at the pivot's place.

    Differs from the paper: the most alike neighbours join, as many as the budget asks for, where the paper fixes the
    threshold and gets a budget; `least_similarity` is that threshold as a limit, and where it leaves too many runs
    those of least attention are dropped. The paper's formula for the Gaussian's width names the weights that follow
    from it; here it is the mean distance to the pivot over the square root of 2. All layers are merged alike (the paper
    leaves the first two and the last as they are). Keys are merged as they are rotated. As with `h2o` every query has
    to be computed for the attention, and a group shares it.

    Attributes:
        budget_ratio: the share of keys and values that stays.
        heavy_ratio: the share of that for the tokens of the most attention, which are not merged.
        recent_ratio: the share of that for the latest tokens, which are not merged.
        least_similarity: neighbours whose keys have a smaller cosine are not merged.
    """

    name = "kvmerger"
    budget_ratio: float = 0.5
    heavy_ratio: float = 0.25
    recent_ratio: float = 0.25
    least_similarity: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heavy_ratio", "recent_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not -1 <= self.least_similarity <= 1:
            raise ValueError(f"least_similarity must be from -1 to 1, got {self.least_similarity}")

    @property
    def accumulates(self) -> bool:
        """Always."""
        return True

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """The places of what `compress` gives."""
        return [[head.numbers for head in heads] for heads in self.compress(layers, tokens, multiple)]

    def compress(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[HeadKV]]:
        """Runs, merged; where there are too many, those of the most attention."""
        count = self.budget(layers, tokens, multiple)
        return [[self._merged(layer, head, tokens, count) for head in range(layer.keys.shape[0])] for layer in layers]

    def _merged(self, layer: LayerKV, head: int, tokens: int, count: int) -> HeadKV:
        if layer.attended is None:
            raise ValueError("KVMerger needs the attention that tokens got")
        wide = torch.promote_types(layer.keys.dtype, torch.float32)
        keys, values = (x[head, :tokens].to(wide) for x in (layer.keys, layer.values))
        sets = self._sets(keys, layer.attended[head, :tokens], count)
        weights = _weights(keys, sets)[:, None]
        merged = []
        for own, x in ((layer.keys, keys), (layer.values, values)):
            sums = torch.zeros(len(sets.pivots), x.shape[1], dtype=wide, device=x.device)
            merged.append(sums.index_add_(0, sets.of, weights * x).to(own.dtype))
        kept = sets.attention.sort(stable=True, descending=True).indices[:count].sort().values
        return HeadKV(sets.pivots[kept], merged[0][kept], merged[1][kept])

    def _sets(self, keys: torch.Tensor, attended: torch.Tensor, count: int) -> _Sets:
        tokens = len(keys)
        alone = torch.zeros(tokens, dtype=torch.bool, device=keys.device)
        alone[attended.sort(stable=True, descending=True).indices[: int(self.heavy_ratio * count)]] = True
        alone[tokens - int(self.recent_ratio * count) :] = True
        alike = cosine_similarity(keys[:-1], keys[1:], dim=-1)
        may = (alike >= self.least_similarity) & ~alone[:-1] & ~alone[1:]
        wanted = min(tokens - count, int(may.sum()))
        joined = torch.zeros(tokens, dtype=torch.bool, device=keys.device)
        joined[1 + alike.masked_fill(~may, -torch.inf).sort(stable=True, descending=True).indices[:wanted]] = True
        of = (~joined).long().cumsum(0) - 1
        runs = int(of[-1]) + 1
        most = attended.new_full((runs,), -torch.inf).scatter_reduce_(0, of, attended, "amax")
        places = torch.arange(tokens, device=keys.device).masked_fill(attended != most[of], tokens)
        pivots = places.new_full((runs,), tokens).scatter_reduce_(0, of, places, "amin")
        sums = attended.new_zeros(runs).index_add_(0, of, attended)
        return _Sets(of, pivots, sums.masked_fill(alone[pivots], torch.inf))


def _weights(keys: torch.Tensor, sets: _Sets) -> torch.Tensor:
    """Of each token in its run, summing to 1 over a run: equation 4, by its distance to the pivot's key."""
    squares = (keys - keys[sets.pivots[sets.of]]).square().sum(-1)
    size = torch.bincount(sets.of)
    mean = torch.zeros(len(size), dtype=keys.dtype, device=keys.device).index_add_(0, sets.of, squares.sqrt()) / size
    # over twice the square of mean / sqrt(2); runs of equal keys have equal weights
    weights = (-squares / mean.square().clamp(min=1e-12)[sets.of]).exp()
    return weights / torch.zeros_like(mean).index_add_(0, sets.of, weights)[sets.of]
