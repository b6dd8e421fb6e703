"""DELTA: a few layers read everything and choose for the layers behind them.

Source: Entezari Zarch et al., "DELTA: Dynamic Layer-Aware Token Attention for Efficient Long-Context Reasoning",
arXiv 2510.09883, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import torch

from readthrough.compression.base import at_least
from readthrough.compression.selecting import Chosen, ModelShape, Past, TokenSelector


@dataclass(frozen=True)
class Delta(TokenSelector):
    """Pages that a layer which reads everything attends to, for the layers behind it (DELTA, arXiv 2510.09883).

    The score of a page is the sum over its tokens of the largest attention of any head; all heads of the layers behind
    read the pages of the highest scores, and the latest ones.

    Differs from the paper: the first tokens can be kept as well (`sink_tokens`).

    Attributes:
        budget_tokens: as below; whole pages (64 of 16 tokens in the code).
        latest_tokens: as below; whole pages (8 in the code).
        page_tokens: the width of a page.
        dense_layers: so many first layers read everything.
        selection_layers: these read everything too, and choose (2, 14 and 22 of 28 layers in the code).
    """

    name = "delta"

    budget_tokens: int = 1024
    sink_tokens: int = 0
    latest_tokens: int = 128
    page_tokens: int = 16
    selection_layers: tuple[int, ...] = (2, 14, 22)
    dense_layers: int = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        self.check()
        at_least(self, page_tokens=1)
        if not self.selection_layers or min(self.selection_layers) < 0:
            raise ValueError(f"selection_layers must name layers, got {self.selection_layers}")

    def fitted(self, shape: ModelShape) -> Self:
        """Refused where there are no such layers."""
        if max(self.selection_layers) >= shape.layers:
            raise ValueError(
                f"has {shape.layers} layers only, and delta's selection_layers are {self.selection_layers}"
            )
        return self

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """Everything where it is chosen; else what the nearest layer before that chooses has chosen."""
        if past.layer in self.selection_layers:
            return Chosen(0, None, self._choice(q, past))
        chooser = max((layer for layer in self.selection_layers if layer < past.layer), default=None)
        found = None if chooser is None else past.before.get(chooser)
        return Chosen(0) if found is None else Chosen(*found)

    def _choice(self, q: torch.Tensor, past: Past) -> tuple[int, torch.Tensor] | None:
        """From which token on all is read, and the tokens of the chosen pages; None where all are."""
        width = self.page_tokens
        sink, count, latest = (-(-share // width) for share in self.shares(past.seen))
        pages = -(-past.seen // width)
        whole = pages - max(1, latest)
        if sink + count >= whole:
            return None
        largest = past.scores(q).softmax(-1).amax((0, 1))[: whole * width]
        scores = largest.view(whole, width).sum(1)
        scores[:sink] = torch.inf
        chosen = scores.topk(sink + count).indices.sort().values
        tokens = (chosen[:, None] * width + torch.arange(width, device=q.device)).flatten()
        return whole * width, tokens.expand(past.runs[0].shape[0], -1)
