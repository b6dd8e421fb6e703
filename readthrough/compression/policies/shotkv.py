"""ShotKV: whole examples of a prompt, or none of one.

Source: Liu et al., "Can LLMs Maintain Fundamental Abilities under KV Cache Compression?", arXiv 2502.01941, section 5.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV
from readthrough.compression.policies.budgets import WindowScored


@dataclass(frozen=True)
class ShotKV(WindowScored):
    """The examples of a prompt that its end attends to most, each whole (ShotKV, arXiv 2502.01941).

    What lies between two separators is an example ("shot"), or a paragraph where a prompt has none. In each layer they
    are ranked by the mean over their tokens of the attention of all heads, and kept in this order while they fit.

    Differs from the paper: its half for replies, which drops tokens of the reply by their own attention, is not there:
    nothing is dropped while a reply is written. The attention is that of the last tokens of the prompt. The budget's
    rest that no whole example fits into is left; where none fits at all the best tokens of the best one stay. Where a
    number of tokens has to be a multiple the best of other examples fill it up.

    Attributes:
        shot_separator: the text between examples.
        window_tokens: how many last tokens look back, and stay.
    """

    name = "shotkv"
    window_tokens: int = 32
    pool_tokens: int = 1
    shot_separator: str = "\n\n"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shot_separator:
            raise ValueError("shot_separator must not be empty")

    @property
    def separator(self) -> str | None:
        """As `shot_separator` says."""
        return self.shot_separator

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """Whole examples by their mean attention, the same for all heads of a layer."""
        count = self.budget(layers, tokens) // multiple * multiple
        return [[self._kept(layer, tokens, count, multiple)] * layer.keys.shape[0] for layer in layers]

    def _kept(self, layer: LayerKV, tokens: int, count: int, multiple: int) -> torch.Tensor:
        if layer.starts is None:
            raise ValueError("ShotKV needs the places where examples begin")
        scores = self.scores(layer, tokens).sum(0)
        begins = torch.zeros(tokens, dtype=torch.long, device=scores.device)
        begins[layer.starts[(layer.starts > 0) & (layer.starts < tokens)]] = 1
        shots = begins.cumsum(0)
        sizes = torch.bincount(shots)
        means = torch.zeros(len(sizes), dtype=scores.dtype, device=scores.device).index_add_(0, shots, scores) / sizes
        chosen, left = torch.zeros(tokens, dtype=torch.bool, device=scores.device), count
        order = means.sort(stable=True, descending=True).indices
        for shot in order.tolist():
            if sizes[shot] <= left:
                chosen |= shots == shot
                left -= int(sizes[shot])
        missing = -(count - left) % multiple
        open_scores = scores.masked_fill(chosen, -torch.inf)
        if left == count:  # every example is longer than the budget
            missing, open_scores = count, scores.masked_fill(shots != order[0], -torch.inf)
        chosen[open_scores.sort(stable=True, descending=True).indices[:missing]] = True
        return chosen.nonzero().flatten()
