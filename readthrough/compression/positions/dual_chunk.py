"""Dual chunk attention: no query is further from a key than in the texts that the model was trained with.

Source: An et al., "Training-Free Long-Context Scaling of Large Language Models" (DCA), arXiv 2402.17463, and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from readthrough.compression.base import Positions, at_least


@dataclass(frozen=True)
class DualChunk(Positions):
    """Positions within chunks (dual chunk attention, arXiv 2402.17463): a text is read as chunks of equal length.

    A key has its place within its chunk as position, for good. A query has several: towards its own chunk its place
    (the paper's equation 2), so that short texts are read as without a plan; towards the chunk before, as if that went
    on, up to the end of the local window (7); towards all earlier ones always that end (5).

    Differs from the paper: its greatest position is the trained length less one even where the local window is shorter
    than what a chunk leaves of that length; here positions end with the window, as in the authors' code (there one
    later). That code also sharpens attention with the length of the text, which the paper's results do without; here it
    is not done: keys would depend on what follows them. A query is rotated for its place and then turned further, which
    in 16 bits is rounded twice.

    Attributes:
        chunk_tokens: the length of a chunk; 0 takes three quarters of the trained length, as in the paper.
        local_tokens: so many first tokens of a chunk have their exact distance to the latest ones of the chunk before;
            0 takes a third of a chunk: what is left of the trained length where a chunk is three quarters of it.
        factor: how many times the trained length a text may have; it sets this limit alone.
    """

    name = "dual-chunk"
    alone = True

    chunk_tokens: int = 0
    local_tokens: int = 0
    factor: float = 8.0

    def __post_init__(self) -> None:
        at_least(self, chunk_tokens=0, local_tokens=0, factor=1)
        if self.chunk_tokens and self.local_tokens > self.chunk_tokens:
            raise ValueError(f"local_tokens must be at most a chunk's {self.chunk_tokens}, got {self.local_tokens}")

    def fitted(self, trained_tokens: int) -> DualChunk:
        """See `Positions.fitted`: the lengths that were left open are those for this model."""
        chunk = self.chunk_tokens or max(1, trained_tokens * 3 // 4)
        fitted = replace(self, chunk_tokens=chunk, local_tokens=self.local_tokens or max(1, chunk // 3))
        if fitted.chunk_tokens + fitted.local_tokens > trained_tokens:
            raise ValueError(
                f"was trained with texts of {trained_tokens} tokens: fewer than a chunk of {fitted.chunk_tokens} and a "
                f"local window of {fitted.local_tokens}"
            )
        return fitted

    def window_tokens(self, trained_tokens: int) -> int:
        """As `factor` says."""
        return int(trained_tokens * self.factor)

    def reach_tokens(self, trained_tokens: int) -> int:
        """See `Positions.reach_tokens`."""
        return self.chunk_tokens + self.local_tokens

    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """See `Positions.rope`: the model's own."""
        return dict(parameters)

    def towards(self, places: torch.Tensor, chunks_back: int) -> torch.Tensor:
        """The positions of queries towards keys of other chunks.

        Args:
            places: of the queries within their chunks, `[T]`.
            chunks_back: 1 for the chunk before their own, 2 for any earlier one.
        """
        last = self.chunk_tokens + self.local_tokens - 1
        return (places + self.chunk_tokens).clamp(max=last) if chunks_back == 1 else torch.full_like(places, last)
