"""KeyDiff: keys that are unlike the others.

Source: Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in
Resource-Constrained Environments", arXiv 2504.15364, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import cosine_similarity, normalize

from readthrough.compression.base import LayerKV, top_tokens
from readthrough.compression.policies.budgets import AtEither


@dataclass(frozen=True)
class KeyDiff(AtEither):
    """The keys least like the mean of all (KeyDiff, arXiv 2504.15364): no attention is needed, so no question either.

    The mean is of the keys' directions, and likeness is the cosine.

    Differs from the paper: at the end of each piece a share of the piece stays, by the mean of the piece; what stayed
    of earlier pieces is neither part of the mean nor chosen among again (in the paper memory is fixed).
    """

    name = "keydiff"
    at: Literal["piece", "prompt"] = "piece"

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the cosine to the mean direction, the smallest first."""
        count = self.budget(layers, tokens, multiple)
        return [top_tokens(self._scores(layer)[:, :tokens], count) for layer in layers]

    def _scores(self, layer: LayerKV) -> torch.Tensor:
        keys = layer.keys.to(torch.promote_types(layer.keys.dtype, torch.float32))
        return -cosine_similarity(keys, normalize(keys, dim=-1).mean(1, keepdim=True), dim=-1)
