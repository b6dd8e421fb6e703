"""What policies share: when they are asked, how much they may keep, and how layers share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import BLOCK_TOKENS, KVPolicy, LayerKV, at_least, ratios
from readthrough.kernels.scores import window_mass


@dataclass(frozen=True)
class AtEither(KVPolicy):
    """A policy that may be asked at the end of each piece of a prompt, or once at the prompt's end.

    Attributes:
        budget_ratio: the share of keys and values that stays.
        at: drop at the end of every `piece`, or once at the end of the `prompt`, before its reply is written (options
            and likelihoods are then scored with all of the prompt).
    """

    budget_ratio: float = 0.25
    at: Literal["piece", "prompt"] = "prompt"

    def __post_init__(self) -> None:
        at_least(self, window_tokens=0, piece_tokens=BLOCK_TOKENS)
        ratios(self, "budget_ratio")

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """As `at` says."""
        return self.at

    def budget(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> int:
        """How many of the `tokens` that are chosen from a head keeps."""
        total = layers[0].keys.shape[1]
        if self.at == "piece":  # what stays of the latest now is asked about with the next piece
            return int(self.budget_ratio * tokens) // multiple * multiple
        return max(0, int(self.budget_ratio * total) - (total - tokens)) // multiple * multiple


@dataclass(frozen=True)
class AtPromptEnd(KVPolicy):
    """A policy that is asked once, when a prompt has been read, before its reply is written.

    Options and likelihoods are scored with all of a prompt.

    Attributes:
        budget_tokens: how many tokens a head keeps, the mean over the layers, the window included.
        budget_ratio: the same as a share of the prompt, in place of `budget_tokens`.
    """

    budget_tokens: int = 1024
    budget_ratio: float | None = None

    def __post_init__(self) -> None:
        at_least(self, window_tokens=0, budget_tokens=self.window_tokens + 1)
        ratios(self, "budget_ratio")

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """At a prompt's end."""
        return "prompt"

    def budget(self, layers: Sequence[LayerKV], tokens: int) -> int:
        """How many of the `tokens` that are chosen from a head keeps, the mean over the layers."""
        total = layers[0].keys.shape[1]
        budget = self.budget_tokens if self.budget_ratio is None else int(self.budget_ratio * total)
        return max(0, min(budget - (total - tokens), tokens))


@dataclass(frozen=True)
class WindowScored(AtPromptEnd):
    """A policy that scores tokens by what the last ones of a prompt attend to, as SnapKV does.

    A group of query heads shares its keys, so scores are the mean over the group's heads.

    Attributes:
        window_tokens: how many last tokens look back, and stay.
        pool_tokens: the width of the pooling that keeps neighbours, odd.
        pooling: `average` or `max`.
    """

    window_tokens: int = 8
    pool_tokens: int = 7
    pooling: Literal["average", "max"] = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, window_tokens=1, pool_tokens=1)
        if self.pool_tokens % 2 == 0:
            raise ValueError(f"pool_tokens must be odd, got {self.pool_tokens}")

    @property
    def query_tokens(self) -> int:
        """Those of the window."""
        return self.window_tokens

    def scores(self, layer: LayerKV, tokens: int) -> torch.Tensor:
        """The pooled attention of the window to the first `tokens` tokens, `[Hkv, tokens]`."""
        if layer.queries is None:
            raise ValueError(f"{self.name} needs the queries of the window")
        found = window_mass(
            layer.queries, layer.keys, scale=layer.scale, pool_tokens=self.pool_tokens, pooling=self.pooling
        )
        return found[:, :tokens]


def shared_out(weights: Sequence[float], total: int, most: int, multiple: int = 1) -> list[int]:
    """Shares of `total` in proportion to weights, none above `most`, all multiples of `multiple`.

    What a full share leaves goes to the others, in proportion too. No weight may be negative.
    """
    cap = most // multiple
    left = min(total // multiple, cap * len(weights))
    shares = [0.0] * len(weights)
    below = list(range(len(weights)))
    while below and left:
        whole = sum(weights[index] for index in below)
        parts = {index: left * (weights[index] / whole if whole else 1 / len(below)) for index in below}
        full = [index for index, part in parts.items() if part >= cap]
        for index in full:
            shares[index], left = cap, left - cap
            below.remove(index)
        if not full:
            for index, part in parts.items():
                shares[index] = part
            break
    found = [int(share) for share in shares]
    rest = min(total // multiple, cap * len(weights)) - sum(found)
    for index in sorted(below, key=lambda index: found[index] - shares[index])[:rest]:
        found[index] += 1
    return [share * multiple for share in found]
