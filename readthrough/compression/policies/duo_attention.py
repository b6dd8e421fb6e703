"""DuoAttention: heads that retrieve keep all of a text, the others its ends.

Source: Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
arXiv 2410.10819, and its code; Wu et al., "Retrieval Head Mechanistically Explains Long-Context Factuality",
arXiv 2404.15574, for the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from readthrough.compression.base import KVPolicy, LayerKV, at_least, ratios
from readthrough.compression.calibration import calibration_of, head_scores
from readthrough.compression.selecting import ModelShape
from readthrough.compression.streaming import Streaming


@dataclass(frozen=True)
class DuoAttention(KVPolicy):
    """Of retrieval heads all tokens, of the others the first and the latest (DuoAttention, arXiv 2410.10819).

    Which heads retrieve has been measured: see `readthrough.compression.calibration`.

    Differs from the paper: heads are told apart by how often they copy from a text ("Retrieval Head", arXiv
    2404.15574), not by gates that are trained; a key head has the largest score of its query heads. Streaming heads
    see all of a prompt while it is read, and drop tokens at its end, and none while a reply is written.

    Attributes:
        retrieval_ratio: the share of all layers' key heads that are whole (half in the paper, for models with groups).
        budget_ratio: in place of that, the share of KV that is kept: as many heads are whole as it allows.
        sink_tokens: how many first tokens the others keep (64 in the paper).
        latest_tokens: how many latest ones (256 in the paper).
        calibration: a file of scores; empty for the one that comes with readthrough for the model.
    """

    name = "duo-attention"
    ragged = True

    retrieval_ratio: float = 0.5
    budget_ratio: float | None = None
    sink_tokens: int = 64
    latest_tokens: int = 256
    calibration: str = ""

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, window_tokens=0, latest_tokens=max(1, self.window_tokens))
        ratios(self, "budget_ratio", "retrieval_ratio")

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """At a prompt's end."""
        return "prompt"

    def fitted(self, shape: ModelShape) -> DuoAttention:
        """With the calibration of the model; refused where there is none."""
        return replace(self, calibration=calibration_of(shape, self.calibration))

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """All of the heads of the highest scores."""
        total, heads = layers[0].keys.shape[1], layers[0].keys.shape[0]
        scores = head_scores(self.calibration).view(len(layers), heads, -1).amax(-1).flatten()
        streaming = Streaming(self.sink_tokens, self.latest_tokens, self.retrieval_ratio, self.budget_ratio)
        counts = streaming.counts(scores, total)
        device = layers[0].keys.device
        chosen = [streaming.chosen(count, total, tokens, multiple).to(device) for count in counts]
        return [chosen[layer * heads : (layer + 1) * heads] for layer in range(len(layers))]
