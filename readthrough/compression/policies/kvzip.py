"""KVzip: what a model needs to repeat a text.

Source: Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", arXiv 2505.23416, and its
code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from readthrough.compression.base import BLOCK_TOKENS, KVPolicy, LayerKV, Probe, at_least, ratios, top_tokens


@dataclass(frozen=True)
class KVzip(KVPolicy):
    """What the model attends to when it repeats a text (KVzip, arXiv 2505.23416): the same for every question.

    Each piece of a prompt is read once more behind an instruction to repeat it; the keys that no query of that pass
    looks at are dropped. Reading takes about twice as long; every question after that is answered with less.

    Differs from the paper: a piece is compressed as soon as it has been read, so that the text is never held whole;
    later pieces see what is left of it. The budget is spent among all heads of all layers a piece at a time.

    Attributes:
        budget_ratio: the share of keys and values that stays.
        uniform: every head keeps equally many; otherwise the best of all heads and layers stay, as in the paper.
        sink_tokens: so many first tokens of a prompt stay in any case (the system prompt in the paper).
        shares: the attention that counts is a share of that to the sink, the piece and the repetition, as in the
            authors' code, or of `all` that the repetition sees.
        window_tokens: so many latest tokens of a piece stay as they are until the next piece has been read.
    """

    name = "kvzip"
    ragged = True
    budget_ratio: float = 0.25
    uniform: bool = False
    sink_tokens: int = 32
    shares: Literal["piece", "all"] = "piece"
    piece_tokens: int = field(default=2048, kw_only=True)

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, window_tokens=0, piece_tokens=BLOCK_TOKENS)
        ratios(self, "budget_ratio")

    @property
    def probe(self) -> Probe:
        """The instruction to repeat, in the authors' words."""
        return Probe(
            "\n\nRepeat the previous context exactly.",
            "\n\nRepeat the part of the previous context exactly, starting with ",
            carried_tokens=8,
            sink_tokens=self.sink_tokens if self.shares == "piece" else None,
        )

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the largest attention of any query of the probe."""
        scores = torch.stack([self._scores(layer, tokens) for layer in layers])
        if self.uniform:
            count = int(self.budget_ratio * tokens) // multiple * multiple
            return [top_tokens(each, count) for each in scores]
        flat = scores.flatten()
        count = int(self.budget_ratio * flat.numel())
        chosen = torch.zeros_like(flat, dtype=torch.bool)
        chosen[flat.sort(stable=True, descending=True).indices[:count]] = True
        counts = chosen.view(scores.shape).sum(-1) // multiple * multiple
        return [
            [top_tokens(each[None], int(kept))[0] for each, kept in zip(heads, many, strict=True)]
            for heads, many in zip(scores, counts, strict=True)
        ]

    def _scores(self, layer: LayerKV, tokens: int) -> torch.Tensor:
        if layer.mass is None:
            raise ValueError("KVzip needs what a probe found")
        found = layer.mass[:, :tokens].clone()
        found[:, : max(0, self.sink_tokens - layer.first_token)] = torch.inf
        return found
