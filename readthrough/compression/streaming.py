"""Policies that keep some heads or layers whole, and of the others the first and the latest tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Streaming:
    """How much heads, or layers, keep of a text.

    Attributes:
        sink_tokens: how many first tokens those keep that are not whole.
        latest_tokens: how many latest ones.
        whole_ratio: the share of them that are whole.
        budget_ratio: in place of that, the share of all KV that is kept: as many are whole as it allows, and what is
            left is shared by the others' latest tokens.
    """

    sink_tokens: int
    latest_tokens: int
    whole_ratio: float
    budget_ratio: float | None = None

    def counts(self, scores: torch.Tensor, total: int) -> list[int]:
        """How many of `total` tokens each keeps, those of the highest scores all; the earlier ones where equal.

        Args:
            scores: fp `[n]`.
            total: how many tokens there are.
        """
        many = len(scores)
        least = min(self.sink_tokens + self.latest_tokens, total)
        whole = round(self.whole_ratio * many)
        if self.budget_ratio is not None:
            least = min(least, int(self.budget_ratio * total))
            spare = int(self.budget_ratio * total * many) - many * least
            whole = many if least == total else min(many, spare // (total - least))
            if whole < many:
                least += (spare - whole * (total - least)) // (many - whole)
        kept = [least] * many
        for index in scores.sort(stable=True, descending=True).indices[:whole].tolist():
            kept[index] = total
        return kept

    def chosen(self, count: int, total: int, tokens: int, multiple: int) -> torch.Tensor:
        """Which of the first `tokens` of `total` tokens are kept where `count` of all are: the last ones stay anyway.

        As many as there are whole multiples of.
        """
        if count >= total:
            return torch.arange(tokens // multiple * multiple)
        some = max(0, min(count - (total - tokens), tokens)) // multiple * multiple
        sink = min(self.sink_tokens, some)
        return torch.cat([torch.arange(sink), torch.arange(tokens - (some - sink), tokens)])
