"""LM-Infinite: a Lambda-shaped mask and a ceiling of distances.

Source: Han et al., "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", arXiv 2308.16137,
section 4, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from readthrough.compression.base import at_least, ratios
from readthrough.compression.positions.reaching import Held, Reaching, Rotate, attend_latest, attend_up_to
from readthrough.kernels.merge import merge_lse


@dataclass(frozen=True)
class LMInfinite(Reaching):
    """The first tokens and the latest ones, no distance beyond a ceiling (LM-Infinite, arXiv 2308.16137).

    A query reads the latest `local_tokens` keys at their true distances, and of the first `sink_tokens` those before
    them, all at the distance `local_tokens`, or the ceiling if that is less.

    Differs from the paper: the top-k tokens in the middle, which its code computes for the last query of a prompt where
    that is asked for, are left out (`reattention` chooses such tokens for all queries). The greatest distance is the
    trained length less one, in the code one more. All keys stay in memory.

    Attributes:
        sink_tokens: so many first tokens are read (the paper's global branch: 10 to 100).
        local_tokens: so many latest ones, a query's own included; 0 takes the trained length.
        budget_ratio: in place of `local_tokens`, the share of the text up to a query that it reads as its latest; no
            more than the trained length.
        ceiling_tokens: the greatest distance; 0 takes the trained length less one.
        factor: how many times the trained length a text may have; it sets this limit alone.
    """

    name = "lm-infinite"

    sink_tokens: int = 10
    local_tokens: int = 0
    budget_ratio: float | None = None
    ceiling_tokens: int = 0
    factor: float = 32.0

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, local_tokens=0, ceiling_tokens=0, factor=1)
        ratios(self, "budget_ratio")

    def fitted(self, trained_tokens: int) -> LMInfinite:
        """See `Positions.fitted`."""
        local, ceiling = self.local_tokens or trained_tokens, self.ceiling_tokens or trained_tokens - 1
        if local > trained_tokens or ceiling >= trained_tokens:
            raise ValueError(
                f"was trained with texts of {trained_tokens} tokens: too few for {local} latest ones and distances of "
                f"{ceiling}"
            )
        return replace(self, local_tokens=local, ceiling_tokens=ceiling)

    def window_tokens(self, trained_tokens: int) -> int:
        """As `factor` says."""
        return int(trained_tokens * self.factor)

    def reach_tokens(self, trained_tokens: int) -> int:
        """See `Positions.reach_tokens`."""
        return trained_tokens

    def attend(self, q: torch.Tensor, held: Held, rotate: Rotate, *, scale: float) -> torch.Tensor:
        """See `Reaching.attend`."""
        at = torch.arange(held.tokens - q.shape[1], held.tokens)
        widths = torch.full_like(at, self.local_tokens)
        if self.budget_ratio is not None:
            widths = torch.ceil(self.budget_ratio * (at + 1)).long().clamp(max=self.local_tokens)
        out, lse = attend_latest(q, held, rotate, widths, scale)
        before = (at - widths + 1).clamp(
            max=self.sink_tokens
        )  # of how many first tokens a query does not see as latest
        first = int((before <= 0).sum())
        if first == len(at):
            return out
        distances = widths[first:].clamp(max=self.ceiling_tokens)
        sinks = held.read(0, int(before[-1]))  # keys without positions: as if they stood at 0
        far = attend_up_to(rotate(q[:, first:], distances), sinks, before[first:], scale)
        joined = merge_lse([(out[:, first:], lse[:, first:]), far])[0]
        return torch.cat([out[:, :first], joined], 1)
