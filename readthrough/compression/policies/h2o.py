"""H2O: what all queries together attended to most.

Source: Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
arXiv 2306.14048, section 4, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, ratios, top_tokens
from readthrough.compression.policies.budgets import AtEither


@dataclass(frozen=True)
class H2O(AtEither):
    """What got the most attention of all queries so far, and the latest tokens (H2O, arXiv 2306.14048).

    The attention is added up while a prompt is read, without a matrix of all pairs; its scores are computed twice for
    that. Every query has to be computed: at the end of a `prompt` nothing of it can be taken over from another prompt,
    and a text that many questions are asked about is read again for each; at the end of a `piece` whole pieces can.

    Differs from the paper: a group of query heads shares its keys, so one choice is made for each key head by the
    group's sum; none are dropped while a reply is written. With `at: piece` the queries of its own piece count alone,
    and what stayed of earlier pieces is not chosen among again.

    Attributes:
        budget_ratio: the share of keys and values that stays; the authors' default, 0.1 heavy and 0.1 recent.
        recent_ratio: the share of it that is for the latest tokens.
    """

    name = "h2o"
    budget_ratio: float = 0.2
    recent_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        ratios(self, "recent_ratio")

    @property
    def accumulates(self) -> bool:
        """Always."""
        return True

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the attention that was added up; the latest first."""
        count = self.budget(layers, tokens, multiple)
        held = layers[0].keys.shape[1] - tokens if self.at == "prompt" else 0
        recent = min(count, max(0, int(self.recent_ratio * (count + held)) - held))
        found = []
        for layer in layers:
            if layer.attended is None:
                raise ValueError("H2O needs the attention that tokens got")
            scores = layer.attended[:, :tokens].clone()
            scores[:, tokens - recent :] = torch.inf
            found.append(top_tokens(scores, count))
        return found
