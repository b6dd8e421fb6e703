"""Positions that queries and keys get only when they meet: how far a query reaches is a matter of the pair.

The cache holds keys without positions. So a method may turn the same key for one distance or another, or choose keys
before any position is known.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from readthrough.compression.base import Positions
from readthrough.kernels.attention import NEWEST_TOKENS, attend, attend_seen

QUERIES_AT_ONCE = 256
"""How many queries share a mask."""

Pair = tuple[torch.Tensor, torch.Tensor]
Rotate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Rotates queries or keys `[H, T, D]` without positions for positions `[T]`."""


class Held(Protocol):
    """What a sequence holds of one layer, its newest tokens included.

    Attributes:
        tokens: how many tokens it holds.
    """

    tokens: int

    def read(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys without positions and values `[Hkv, n, D]` of the tokens from one number to another."""
        ...


@dataclass(frozen=True)
class Reaching(Positions):
    """Positions that bring an attention of their own, over keys without positions.

    Up to `NEWEST_TOKENS` newest tokens must each be computed as if they were alone: they may be a reply's.
    """

    alone = True

    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """See `Positions.rope`: the model's own."""
        return dict(parameters)

    @abstractmethod
    def attend(self, q: torch.Tensor, held: Held, rotate: Rotate, *, scale: float) -> torch.Tensor:
        """Causal attention of the newest tokens, `[H, Tq, D]`.

        Args:
            q: their queries without positions, `[H, Tq, D]`.
            held: all keys and values, theirs included.
            rotate: gives positions.
            scale: what the scores are multiplied with.
        """


def attend_latest(q: torch.Tensor, held: Held, rotate: Rotate, widths: torch.Tensor, scale: float) -> Pair:
    """Each newest query over its own key and those before it, `widths` `[Tq]` in all, at their true distances.

    `at - widths` must not decrease from one query to the next.
    """
    end, tokens = held.tokens, q.shape[1]
    at = torch.arange(end - tokens, end)
    low = (at - widths + 1).clamp(min=0)
    first = int(low[0])
    keys, values = held.read(first, end)
    keys, q = rotate(keys, torch.arange(first, end)), rotate(q, at)
    step = 1 if tokens <= NEWEST_TOKENS else QUERIES_AT_ONCE
    found = []
    for start in range(0, tokens, step):
        stop = min(tokens, start + step)
        span = slice(int(low[start]) - first, end - tokens + stop - first)
        own, k, v = q[:, start:stop], keys[:, span], values[:, span]
        if step == 1:
            found.append(attend(own, k, v, causal=False, scale=scale))
            continue
        numbers = torch.arange(span.start, span.stop) + first
        seen = (numbers <= at[start:stop, None]) & (numbers >= low[start:stop, None])
        found.append(attend_seen(own, k, v, seen=seen.to(q.device), scale=scale))
    return torch.cat([out for out, _ in found], 1), torch.cat([lse for _, lse in found], 1)


def attend_up_to(q: torch.Tensor, kv: Pair, counts: torch.Tensor, scale: float) -> Pair:
    """Each query over the first keys, `counts` `[Tq]` of them, at least one; the counts go up by one or stay."""
    keys, values = kv
    tokens = q.shape[1]
    if tokens <= NEWEST_TOKENS:
        singles = [(q[:, i : i + 1], int(count)) for i, count in enumerate(counts)]
        found = [attend(one, keys[:, :n], values[:, :n], causal=False, scale=scale) for one, n in singles]
        return torch.cat([out for out, _ in found], 1), torch.cat([lse for _, lse in found], 1)
    if bool((counts == torch.arange(tokens) + int(counts[0])).all()):
        last = int(counts[-1])
        return attend(q, keys[:, :last], values[:, :last], causal=True, scale=scale)
    seen = torch.arange(keys.shape[1]) < counts[:, None]
    return attend_seen(q, keys, values, seen=seen.to(q.device), scale=scale)
