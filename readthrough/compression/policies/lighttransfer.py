"""LightTransfer: layers that attend to the first and the latest tokens keep no others.

Source: Zhang et al., "LightTransfer: Your Long-Context LLM is Secretly a Hybrid Model with Effortless Adaptation",
arXiv 2410.13846 (LightTransfer-Test).

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import KVPolicy, LayerKV, at_least, ratios
from readthrough.compression.streaming import Streaming
from readthrough.kernels.scores import window_mass


@dataclass(frozen=True)
class LightTransfer(KVPolicy):
    """Of lazy layers the first and the latest tokens, of the others all (LightTransfer, arXiv 2410.13846).

    A layer is the lazier, the more of the attention of a prompt's last tokens goes to the first and the latest ones.
    Layers are found anew for each prompt, before its reply is written.

    Differs from the paper: all layers are held whole until the prompt has been read (the paper drops the laziest so
    far while it reads, by a queue); a lazy layer drops nothing while a reply is written.

    Attributes:
        lazy_ratio: the share of the layers that are lazy (half in the paper).
        budget_ratio: in place of that, the share of KV that is kept: as many layers are whole as it allows.
        sink_tokens: how many first tokens lazy layers keep.
        latest_tokens: how many latest ones, those of the window included.
        window_tokens: how many last tokens' attention is looked at; they stay.
    """

    name = "lighttransfer"

    lazy_ratio: float = 0.5
    budget_ratio: float | None = None
    sink_tokens: int = 4
    latest_tokens: int = 1020
    window_tokens: int = 64

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, window_tokens=1, latest_tokens=self.window_tokens)
        ratios(self, "budget_ratio", "lazy_ratio")

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """At a prompt's end."""
        return "prompt"

    @property
    def query_tokens(self) -> int:
        """Those of the window."""
        return self.window_tokens

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """All of the layers that are not lazy."""
        total = layers[0].keys.shape[1]
        streaming = Streaming(self.sink_tokens, self.latest_tokens, 1 - self.lazy_ratio, self.budget_ratio)
        counts = streaming.counts(-torch.stack([self._laziness(layer) for layer in layers]), total)
        found = []
        for layer, count in zip(layers, counts, strict=True):
            chosen = streaming.chosen(count, total, tokens, multiple).to(layer.keys.device)
            found.append([chosen] * layer.keys.shape[0])
        return found

    def _laziness(self, layer: LayerKV) -> torch.Tensor:
        """The share of the window's attention that the first and the latest tokens get, the mean over heads."""
        if layer.queries is None:
            raise ValueError("LightTransfer needs the queries of the window")
        mass = window_mass(layer.queries, layer.keys, scale=layer.scale, pool_tokens=1, reduction="sum").sum(0)
        between = mass[self.sink_tokens : max(self.sink_tokens, len(mass) - self.latest_tokens)].sum()
        return (mass.sum() - between) / mass.sum()
