"""ReAttention: tokens are chosen before positions are given, and read as if they stood side by side.

Source: Liu et al., "ReAttention: Training-Free Infinite Context with Finite Attention Scope", arXiv 2407.15176,
section 3, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from readthrough.compression.base import BLOCK_TOKENS, at_least, ratios
from readthrough.compression.positions.reaching import Held, Reaching, Rotate
from readthrough.kernels.attention import NEWEST_TOKENS, attend

KEYS_AT_ONCE = 1 << 15
"""How many keys are scored at a time."""


@dataclass(frozen=True)
class ReAttention(Reaching):
    """A finite scope of tokens, chosen by top-k attention without positions (ReAttention, arXiv 2407.15176).

    Beyond the scope the queries of a piece read the first `sink_tokens`, the latest `local_tokens`, and between them
    spans that they vote for: of each query and head the `votes` tokens of the highest products of query and key, both
    without positions. Every token that gets a vote counts, the `spans` with the most where there are more; each brings
    its neighbours, `span_tokens` in all. What is read gets positions as if it stood side by side.

    Differs from the paper: nothing. Differs from its code: the latest tokens are not rounded to tiles of 128, of
    equally many votes the earlier token counts (there any), and the tokens of a reply vote each for itself (as there).
    All keys stay in memory, and are scored.

    Attributes:
        sink_tokens: so many first tokens are always read (the paper's global part).
        local_tokens: so many latest ones, a piece's own included; 0 takes half of the trained length.
        spans: the most tokens that are chosen with their neighbours; 0 takes as many as three eighths of the trained
            length have room for (at 8,192 tokens the 96 of its code).
        budget_ratio: in place of `spans`, the share of the text that is chosen, as far as it has room.
        span_tokens: the length of what a chosen token brings.
        votes: the k of top-k.
        queries_tokens: so many tokens of a prompt choose together; a multiple of 128.
        factor: how many times the trained length a text may have; it sets this limit alone.
    """

    name = "reattention"

    sink_tokens: int = 32
    local_tokens: int = 0
    spans: int = 0
    budget_ratio: float | None = None
    span_tokens: int = 32
    votes: int = 4
    queries_tokens: int = 512
    factor: float = 32.0

    def __post_init__(self) -> None:
        at_least(self, sink_tokens=0, local_tokens=0, spans=0, span_tokens=1, votes=1, queries_tokens=1, factor=1)
        ratios(self, "budget_ratio")
        if self.queries_tokens % BLOCK_TOKENS:
            raise ValueError(f"queries_tokens must be a multiple of {BLOCK_TOKENS}, got {self.queries_tokens}")

    @property
    def piece_tokens(self) -> int:
        """See `Positions.piece_tokens`."""
        return self.queries_tokens

    def fitted(self, trained_tokens: int) -> ReAttention:
        """See `Positions.fitted`."""
        local = self.local_tokens or trained_tokens // 2
        room = (trained_tokens - local - self.sink_tokens) // self.span_tokens
        usual = room if self.budget_ratio is not None else trained_tokens * 3 // 8 // self.span_tokens
        spans = self.spans or max(1, usual)
        if local < self.queries_tokens:
            raise ValueError(
                f"was trained with texts of {trained_tokens} tokens: {local} latest tokens are fewer than the "
                f"{self.queries_tokens} that choose together"
            )
        if spans > room:
            raise ValueError(
                f"was trained with texts of {trained_tokens} tokens: no room for {self.sink_tokens} first ones, "
                f"{local} latest ones and {spans} spans of {self.span_tokens}"
            )
        return replace(self, local_tokens=local, spans=spans)

    def window_tokens(self, trained_tokens: int) -> int:
        """As `factor` says."""
        return int(trained_tokens * self.factor)

    def reach_tokens(self, trained_tokens: int) -> int:
        """See `Positions.reach_tokens`."""
        return trained_tokens

    def attend(self, q: torch.Tensor, held: Held, rotate: Rotate, *, scale: float) -> torch.Tensor:
        """See `Reaching.attend`."""
        tokens, end = q.shape[1], held.tokens
        if tokens > NEWEST_TOKENS:
            return self._piece(q, held, end, rotate, scale)
        singles = [self._piece(q[:, i : i + 1], held, end - tokens + i + 1, rotate, scale) for i in range(tokens)]
        return torch.cat(singles, 1)

    def _piece(self, q: torch.Tensor, held: Held, end: int, rotate: Rotate, scale: float) -> torch.Tensor:
        """Queries of the last tokens up to `end`, which choose together."""
        latest = end - self.local_tokens
        if latest <= self.sink_tokens:
            keys, values = held.read(0, end)
        else:
            middle = held.read(self.sink_tokens, latest)
            chosen = self._chosen(q, middle[0], end)
            parts = [held.read(0, self.sink_tokens)] if self.sink_tokens else []
            parts += [(middle[0][:, chosen], middle[1][:, chosen]), held.read(latest, end)]
            keys, values = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        places = torch.arange(keys.shape[1])
        turned = rotate(keys, places), rotate(q, places[-q.shape[1] :])
        return attend(turned[1], turned[0], values, causal=True, scale=scale)[0]

    def _chosen(self, q: torch.Tensor, keys: torch.Tensor, end: int) -> torch.Tensor:
        """Which of the keys are read, ascending."""
        votes = torch.zeros(keys.shape[1], dtype=torch.long, device=q.device)
        for head in range(q.shape[0]):
            found = _best(q[head], keys[head // (q.shape[0] // keys.shape[0])], self.votes)
            votes += found.flatten().bincount(minlength=len(votes))
        most = self.spans
        if self.budget_ratio is not None:
            most = min(most, max(1, int(self.budget_ratio * end) // self.span_tokens))
        voted = votes.sort(descending=True, stable=True)
        centres = voted.indices[:most][voted.values[:most] > 0]
        around = torch.arange(-(self.span_tokens // 2), (self.span_tokens + 1) // 2, device=q.device)
        read = torch.zeros(len(votes), dtype=torch.bool, device=q.device)
        read[(centres[:, None] + around).clamp(0, len(votes) - 1)] = True
        return read.nonzero()[:, 0]


def _best(q: torch.Tensor, keys: torch.Tensor, count: int) -> torch.Tensor:
    """The keys `[T, D]` of the highest products with each query `[Tq, D]`, `[Tq, count]` or fewer."""
    scores, numbers = q.new_zeros(len(q), 0), torch.zeros(len(q), 0, dtype=torch.long, device=q.device)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        new = q @ keys[start : start + KEYS_AT_ONCE].T
        at = torch.arange(start, start + new.shape[1], device=q.device).expand(len(q), -1)
        scores, numbers = torch.cat([scores, new], 1), torch.cat([numbers, at], 1)
        kept = scores.topk(min(count, scores.shape[1]), 1).indices
        scores, numbers = scores.gather(1, kept), numbers.gather(1, kept)
    return numbers
