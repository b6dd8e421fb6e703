"""Budgets: how much a run may take, and how much of that is held back for its last step."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from readthrough.agents.runs.pace import Pace
from readthrough.agents.runs.pool import Pool
from readthrough.errors import BudgetError
from readthrough.models.allowance import allowance
from readthrough.models.base import Request
from readthrough.models.deadline import deadline
from readthrough.types import Cost, Limits, Usage

# What is held back is reckoned from few calls, and an answer that comes too late is lost.
_SPARE_RATIO = 1.25
_SPARE_TOKENS_RATIO = 2.5


def with_spare(likely: Cost, most_tokens: int | None = None) -> Cost:
    """A cost with a reply that is a good deal longer than it is likely to be, up to its limit of `most_tokens`."""
    written = math.ceil(likely.completion_tokens * _SPARE_TOKENS_RATIO)
    return replace(likely, completion_tokens=written if most_tokens is None else min(written, most_tokens))


class Budget:
    """The limits of one run and what is spent of them. `BudgetError.budget` says which limit ended it.

    Attributes:
        ending: whether the run is at its last step, because a budget has ended it.
    """

    def __init__(self, limits: Limits | None = None, shared: Sequence[Pool] = ()) -> None:
        """`shared` is what this run takes from too, together with other runs."""
        self.ending = False
        self._own = Pool(limits)
        self._pools = [self._own, *shared]
        self._started = False
        self._held = Cost()
        self._pace = Pace()
        self._lock = threading.Lock()

    @property
    def limits(self) -> Limits:
        """The run's own limits."""
        return self._own.limits

    @property
    def spent(self) -> Usage:
        """What the run took so far."""
        return self._own.spent

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit asks how long prompts are."""
        return any(pool.limits.tokens is not None for pool in self._pools) or self.counts_money

    @property
    def counts_money(self) -> bool:
        """Whether a limit asks what calls cost."""
        return any(pool.limits.cost is not None for pool in self._pools)

    def start(self) -> None:
        """The time starts, where it has not: what was started by whoever asks runs on in the runs that answer."""
        if not self._started:
            self._own.started, self._started = time.monotonic(), True

    def begin(self, last_step: Cost) -> None:
        """A run starts. What its last step will take is held back; its seconds are reckoned from the calls made."""
        self.start()
        self._hold(last_step)

    def end(self) -> None:
        """The run is over: nothing is held back for it any more."""
        self._hold(Cost())

    def spend(self, usage: Usage, seconds: float) -> None:
        """A call took `usage`, and `seconds` of wall time."""
        took = Cost(usage.calls, usage.prompt_tokens, usage.completion_tokens, seconds, usage.cached_tokens)
        for pool in self._pools:
            pool.spend(usage)
        with self._lock:
            self._pace.learn(took)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """While it lasts, what was held back may be spent."""
        held, self.ending = self._held, True
        self._hold(Cost())
        try:
            yield
        finally:
            self._hold(held)
            self.ending = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, no time of the run's own is counted: somebody is being asked."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._own.started += time.monotonic() - began

    @contextmanager
    def admitted(self, requests: Sequence[Request], tokens: int, money: float | None = None) -> Iterator[None]:
        """Around a call that goes out; `tokens` is the length of its prompts, `money` what they cost.

        Calls may go out side by side. A call more than was asked for, such as a hedge, goes out where it fits too.

        Raises:
            BudgetError: it would pass a limit; nothing was called.
        """
        count = len(requests)
        each = Cost(1, math.ceil(tokens / count), money=None if money is None else money / count)
        reserved = [Cost(count, tokens, money=money)]
        self._reserve(reserved[0])

        def one_more() -> bool:
            with self._lock:
                if not reserved:  # whoever asks was cancelled
                    return False
                try:
                    self._reserve(each)
                except BudgetError:
                    return False
                reserved.append(each)
                return True

        try:
            with allowance(one_more):
                yield
        finally:
            with self._lock:
                for pool in self._pools:
                    pool.release(sum(reserved, Cost()))
                reserved.clear()

    def fitting(self, calls: int, each: Cost) -> int:
        """How many of `calls` calls that go out together fit what is left; 1 at least: `admitted` says where none does.

        Where seconds are limited the first call goes out alone: nothing is known of its pace.
        """
        pace = self._pace.seconds(each)
        takes = {"calls": 1, "tokens": max(1, each.tokens), "cost": each.money or 0.0, "seconds": pace}
        shares = [float(calls)]
        for pool in self._pools:
            left = pool.left(self._held_seconds())
            shares += [left[name] / takes[name] for name in left if takes[name]]
            shares += [1.0] if "seconds" in left and not pace else []
        return max(1, int(min(shares)))

    def in_time(self) -> AbstractContextManager[None]:
        """Model calls inside end when the seconds that are not held back are over."""
        ends = filter(None, (pool.ends(self._held_seconds()) for pool in self._pools))
        return deadline(*min(ends, default=(None, "")))

    def _hold(self, held: Cost) -> None:
        for pool in self._pools:
            pool.hold(held - self._held)
        self._held = held

    def _reserve(self, more: Cost) -> None:
        taken: list[Pool] = []
        try:
            for pool in self._pools:
                pool.reserve(more, self._held_seconds())
                taken.append(pool)
        except BudgetError:
            for pool in taken:
                pool.release(more)
            raise

    def _held_seconds(self) -> float:
        return self._pace.seconds(self._held) * _SPARE_RATIO
