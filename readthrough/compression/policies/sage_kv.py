"""SAGE-KV: what the last token of a prompt attends to.

Source: Wang et al., "LLMs Know What to Drop: Self-Attention Guided KV Cache Eviction for Efficient Long-Context
Inference", arXiv 2503.08879, section 3.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, at_least, top_tokens
from readthrough.compression.policies.budgets import AtPromptEnd
from readthrough.kernels.scores import window_mass


@dataclass(frozen=True)
class SageKV(AtPromptEnd):
    """A sink, the latest tokens, and what the last token attends to most (SAGE-KV, arXiv 2503.08879).

    One choice when a prompt has been read, for each head its own.

    Differs from the paper: a group of query heads shares its keys, so one choice is made for each key head, by the mean
    of its heads' attention; the window does not slide while a reply is written, so that none are dropped then. The
    sizes of sink and window are ours.

    Attributes:
        sink_tokens: how many first tokens stay.
        window_tokens: how many of the latest tokens stay.
    """

    name = "sage-kv"
    window_tokens: int = 64
    sink_tokens: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, sink_tokens=0)

    @property
    def query_tokens(self) -> int:
        """The last token's."""
        return 1

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the attention of one query; the sink first."""
        count = self.budget(layers, tokens) // multiple * multiple
        found = []
        for layer in layers:
            if layer.queries is None:
                raise ValueError("SAGE-KV needs the query of the last token")
            scores = window_mass(layer.queries[:, -1:], layer.keys, scale=layer.scale, pool_tokens=1)[:, :tokens]
            scores[:, : self.sink_tokens] = torch.inf
            found.append(top_tokens(scores, count))
        return found
