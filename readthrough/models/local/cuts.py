"""Where prompts are cut.

With a plan, a reply may depend on which queries were computed together (a pattern chooses for them) or on how much had
been compressed by then. So prompts are cut at the same places, whatever was kept of them and whatever is computed
beside them.
"""

from __future__ import annotations

from readthrough.compression.base import BLOCK_TOKENS
from readthrough.compression.plan import Plan
from readthrough.models.local.cache import ROUND_TOKENS


class Cuts:
    """The places where a plan's prompts are cut: every `piece_tokens` from the first on.

    Args:
        plan: the plan.
        pass_tokens: the most tokens that one pass computes.
    """

    def __init__(self, plan: Plan, pass_tokens: int) -> None:
        self.plan = plan
        if plan.moment == "piece":
            pass_tokens = min(pass_tokens, plan.piece_tokens)
        together = 0 if plan.positions is None else plan.positions.piece_tokens
        if together:
            pass_tokens = min(pass_tokens, together)
        self._together = bool(together)
        self.piece_tokens = max(1, pass_tokens // BLOCK_TOKENS * BLOCK_TOKENS)
        self._dense_tokens = 0 if plan.select is None else plan.select.dense_below_tokens
        self._first = 0 if plan.moment == "piece" else self._dense_tokens
        self._none = plan.select is None and plan.moment != "piece" and not together
        policy = plan.keep
        self._seen_whole = policy is not None and policy.moment == "piece" and policy.asks_queries

    def is_sparse(self, at: int) -> bool:
        """Whether the queries from `at` on choose what they attend to, those of a piece together."""
        if self._together:
            return True
        return self.plan.select is not None and self.plan.select.applies(at)

    def compresses(self, length: int) -> bool:
        """Whether a prompt is compressed when so many of its tokens have been computed."""
        return self.plan.moment == "piece" and length > 0 and length % self.piece_tokens == 0

    def settled(self, length: int) -> int:
        """The last place up to `length` from which a prompt goes on as if it had been computed at once."""
        if self.is_sparse(length) or self._seen_whole:
            return self._last(length)
        # pages that a reply chooses among do not begin elsewhere because a prefix was shared
        return length if self.plan.decode is None else length // ROUND_TOKENS * ROUND_TOKENS

    def reusable(self, length: int, *, together: bool = False) -> int:
        """How many first tokens of a prompt of `length` need not be computed for it alone.

        What has been accumulated over a beginning is known only of prompts that are computed `together`.
        """
        policy = self.plan.keep
        if policy is None or self._seen_whole:  # then `settled` leaves out what is not whole
            return length
        return 0 if policy.accumulates and not together else max(0, length - policy.query_tokens)

    def tokens_to_next(self, at: int, end: int) -> int:
        """How many tokens there are from `at` to the next place where a prompt of `end` tokens is cut."""
        if self._none:
            return end - at
        cut = self._first if at < self._first else self._last(at) + self.piece_tokens
        return min(end, cut) - at

    def _last(self, length: int) -> int:
        return self._first + (length - self._first) // self.piece_tokens * self.piece_tokens
