"""Random tokens: the control that every method has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, top_tokens
from readthrough.compression.policies.budgets import AtEither


@dataclass(frozen=True)
class Random(AtEither):
    """Random tokens, for each head its own: a control for experiments, no method.

    The same seed, layer and place in a text give the same choice, whatever was read before or beside it.

    Attributes:
        seed: of the choice.
    """

    name = "random"
    seed: int = 0

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By random scores, made on the processor so that every device has the same."""
        count = self.budget(layers, tokens, multiple)
        found = []
        for index, layer in enumerate(layers):
            generator = torch.Generator().manual_seed(hash((self.seed, index, layer.first_token)) % 2**63)
            scores = torch.rand(layer.keys.shape[0], tokens, generator=generator).to(layer.keys.device)
            found.append(top_tokens(scores, count))
        return found
