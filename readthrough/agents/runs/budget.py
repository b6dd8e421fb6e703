"""Budgets: how much a run may take, and how much of that is held back for its last step."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from readthrough.agents.runs.pace import Pace
from readthrough.errors import BudgetError
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

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.spent = Usage()
        self._started = time.monotonic()
        self._held = Cost()
        self._out = Cost()
        self.ending = False
        self._pace = Pace()
        self._lock = threading.Lock()

    def begin(self, last_step: Cost) -> None:
        """The time starts. What the last step will take is held back; its seconds are reckoned from the calls made."""
        self._started = time.monotonic()
        self._held = last_step

    def spend(self, usage: Usage, seconds: float) -> None:
        """A call took `usage`, and `seconds` of wall time."""
        took = Cost(usage.calls, usage.prompt_tokens, usage.completion_tokens, seconds, usage.cached_tokens)
        with self._lock:
            self.spent = self.spent + usage
            self._pace.learn(took)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """While it lasts, what was held back may be spent."""
        held, self._held, self.ending = self._held, Cost(), True
        try:
            yield
        finally:
            self._held, self.ending = held, False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, no time is counted: somebody is being asked."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - began

    @contextmanager
    def admitted(self, requests: Sequence[Request], tokens: int) -> Iterator[None]:
        """Around a call that goes out; `tokens` is the length of its prompts. Calls may go out side by side.

        Raises:
            BudgetError: it would pass a limit; nothing was called.
        """
        with self._lock:
            self._check(self._out + Cost(len(requests), tokens))
            self._out += Cost(len(requests), tokens)
        try:
            yield
        finally:
            with self._lock:
                self._out += Cost(-len(requests), -tokens)

    def _check(self, more: Cost) -> None:
        limits, needed = self.limits, more + self._held
        asked = {
            "calls": (self.spent.calls + needed.calls, limits.calls),
            "tokens": (self.spent.prompt_tokens + self.spent.completion_tokens + needed.tokens, limits.tokens),
            "seconds": (time.monotonic() - self._started + self._held_seconds(), limits.seconds),
        }
        for name, (total, limit) in asked.items():
            if limit is not None and total > limit:
                raise BudgetError(
                    f"the budget of {limit:g} {name} is spent", hint=f"raise max_{name}", budget=f"max_{name}={limit:g}"
                )

    def fitting(self, calls: int, each: Cost) -> int:
        """How many of `calls` calls that go out together fit what is left; 1 at least: `admitted` says where none does.

        Where seconds are limited the first call goes out alone: nothing is known of its pace.
        """
        limits, spent, held = self.limits, self.spent, self._held
        shares = [float(calls)]
        if limits.calls is not None:
            shares.append(limits.calls - spent.calls - held.calls)
        if limits.tokens is not None:
            used = spent.prompt_tokens + spent.completion_tokens + held.tokens
            shares.append((limits.tokens - used) / max(1, each.tokens))
        if limits.seconds is not None:
            left = limits.seconds - (time.monotonic() - self._started) - self._held_seconds()
            pace = self._pace.seconds(each)
            shares.append(left / pace if pace else 1)
        return max(1, int(min(shares)))

    def in_time(self) -> AbstractContextManager[None]:
        """Model calls inside end when the seconds that are not held back are over."""
        seconds = self.limits.seconds
        ends = None if seconds is None else self._started + seconds - self._held_seconds()
        return deadline(ends, f"max_seconds={seconds:g}" if seconds is not None else "")

    def _held_seconds(self) -> float:
        return self._pace.seconds(self._held) * _SPARE_RATIO
