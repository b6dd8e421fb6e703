"""Self-extend: exact distances to the neighbours, distances of groups beyond them.

Source: Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", arXiv 2401.01325, section 3, and
its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from readthrough.compression.base import at_least
from readthrough.compression.positions.reaching import Held, Reaching, Rotate, attend_latest, attend_up_to
from readthrough.kernels.merge import merge_lse


@dataclass(frozen=True)
class SelfExtend(Reaching):
    """Grouped positions beyond a window of neighbours (self-extend, arXiv 2401.01325, equation 4).

    A query at m reads the latest `neighbour_tokens` keys (w) at their true distances, and a key at j before them at the
    distance floor(m / G) - floor(j / G) + w - floor(w / G): `group_tokens` (G) neighbours share a position.

    Differs from the paper: nothing. Its code also has a logarithmic scaling of queries, off unless asked for; it is not
    offered here. All keys are read, and turned for their groups at every reading: texts become longer, no reading
    becomes faster.

    Attributes:
        group_tokens: so many tokens share a position; 0 takes the fewest that reach `factor` times the trained length.
        neighbour_tokens: so many latest keys are at their true distances; 0 takes a quarter of the trained length.
        factor: how many times the trained length a text may have, as far as the groups reach.
    """

    name = "self-extend"

    group_tokens: int = 0
    neighbour_tokens: int = 0
    factor: float = 4.0

    def __post_init__(self) -> None:
        at_least(self, group_tokens=0, neighbour_tokens=0, factor=1)

    def fitted(self, trained_tokens: int) -> SelfExtend:
        """See `Positions.fitted`."""
        near = self.neighbour_tokens or max(1, trained_tokens // 4)
        if near >= trained_tokens:
            raise ValueError(f"was trained with texts of {trained_tokens} tokens: no more than the {near} neighbours")
        group = self.group_tokens or 1
        while not self.group_tokens and _reached(trained_tokens, group, near) < int(trained_tokens * self.factor):
            group += 1
        return replace(self, group_tokens=group, neighbour_tokens=near)

    def window_tokens(self, trained_tokens: int) -> int:
        """As `factor` says, or as far as the groups reach."""
        return min(
            int(trained_tokens * self.factor), _reached(trained_tokens, self.group_tokens, self.neighbour_tokens)
        )

    def reach_tokens(self, trained_tokens: int) -> int:
        """See `Positions.reach_tokens`."""
        return trained_tokens

    def attend(self, q: torch.Tensor, held: Held, rotate: Rotate, *, scale: float) -> torch.Tensor:
        """See `Reaching.attend`."""
        tokens, near = q.shape[1], self.neighbour_tokens
        out, lse = attend_latest(q, held, rotate, torch.full((tokens,), near), scale)
        at = torch.arange(held.tokens - tokens, held.tokens)
        first = max(0, near - int(at[0]))  # the first query that has keys beyond its neighbours
        if first >= tokens:
            return out
        keys, values = held.read(0, held.tokens - near)
        keys = rotate(keys, torch.arange(keys.shape[1]) // self.group_tokens)
        places = at[first:] // self.group_tokens + near - near // self.group_tokens
        far = attend_up_to(rotate(q[:, first:], places), (keys, values), at[first:] - near + 1, scale)
        joined = merge_lse([(out[:, first:], lse[:, first:]), far])[0]
        return torch.cat([out[:, :first], joined], 1)


def _reached(trained_tokens: int, group: int, near: int) -> int:
    """The longest text whose last query has no greater position than a text of the trained length has."""
    return max(trained_tokens, (trained_tokens - near + near // group) * group)
