"""A sink and a window: of the KV of a text the first tokens and the latest ones.

Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (StreamingLLM), arXiv 2309.17453.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import BLOCK_TOKENS, KVPolicy, LayerKV, at_least


@dataclass(frozen=True)
class SinkWindow(KVPolicy):
    """The first tokens and the latest ones (StreamingLLM, arXiv 2309.17453): a text of any length in fixed memory.

    Differs from the paper: tokens are dropped a piece of the prompt at a time, so that a query sees up to a piece more
    than the window; and none are dropped while a reply is written.

    Attributes:
        sink_tokens: how many first tokens stay (4 in the paper).
        window_tokens: how many of the latest tokens stay.
        renumber: positions are those in the cache, as in the paper, so that no text is too long for them; otherwise
            they stay those of the text.
        at: drop at the end of every `piece`, or once at the end of the `prompt`.
    """

    name = "sink-window"

    sink_tokens: int = 4
    window_tokens: int = 1024
    renumber: bool = True
    at: Literal["piece", "prompt"] = "piece"

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, window_tokens=1, piece_tokens=BLOCK_TOKENS)

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """As `at` says."""
        return self.at

    @property
    def renumbers(self) -> bool:
        """As `renumber` says."""
        return self.renumber

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """The sink, the same for every head; rounded up to a multiple."""
        found = []
        for layer in layers:
            count = -(-max(0, self.sink_tokens - layer.first_token) // multiple) * multiple
            sink = torch.arange(min(count, tokens // multiple * multiple), device=layer.keys.device)
            found.append([sink] * layer.keys.shape[0])
        return found
