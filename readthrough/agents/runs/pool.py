"""What there is to spend: for one run, or for many runs of a process at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from readthrough.errors import BudgetError
from readthrough.types import Cost, Limits, Usage


class Pool:
    """Limits, and what of them is spent, under way and held back for last steps. Any thread may take from it.

    `Budget(limits, shared=[pool])` makes a run take from it too; its seconds run from the moment it was made. Calls are
    admitted by what their prompts take: what replies take is known when they are there, so a limit of tokens or money
    is passed by no more than the replies under way.

    Attributes:
        limits: the most that may be spent.
        spent: what was spent so far.
        started: when its seconds began to run (`time.monotonic()`).
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.spent = Usage()
        self.started = time.monotonic()
        self._held = Cost()
        self._out = Cost()
        self._lock = threading.Lock()

    def hold(self, more: Cost) -> None:
        """Hold back more for last steps; less where `more` is negative."""
        with self._lock:
            self._held += more

    def reserve(self, more: Cost, held_seconds: float) -> None:
        """Calls go out that take `more`; the run that makes them needs `held_seconds` for its last step.

        Raises:
            BudgetError: they would pass a limit; nothing is reserved.
        """
        with self._lock:
            for name, limit, left in self._left(held_seconds):
                asked = {"calls": more.calls, "tokens": more.tokens, "cost": more.money or 0.0, "seconds": 0.0}
                if asked[name] > left:
                    raise BudgetError(
                        f"the budget of {limit:g} {name} is spent",
                        hint=f"raise max_{name}",
                        budget=_name(name, limit),
                    )
            self._out += more

    def release(self, reserved: Cost) -> None:
        """Calls came back, or failed: what was reserved for them is free, what they took is told by `spend`."""
        with self._lock:
            self._out -= reserved

    def spend(self, usage: Usage) -> None:
        """Calls took so much."""
        with self._lock:
            self.spent = self.spent + usage

    def names(self) -> list[str]:
        """The limits as `Answer.stopped` tells them, in the order of `left`."""
        return [_name(name, limit) for name, limit, _ in self._left(0.0)]

    def left(self, held_seconds: float) -> dict[str, float]:
        """What is left of each limit there is, by its name."""
        with self._lock:
            return {name: left for name, _, left in self._left(held_seconds)}

    def ends(self, held_seconds: float) -> tuple[float, str] | None:
        """When calls must be over that are no last step (`time.monotonic()`), and the limit's name; None for never."""
        seconds = self.limits.seconds
        return None if seconds is None else (self.started + seconds - held_seconds, _name("seconds", seconds))

    def _left(self, held_seconds: float) -> Iterator[tuple[str, float, float]]:
        """Each limit's name, the limit, and what is left of it."""
        limits, spent, bound = self.limits, self.spent, self._out + self._held
        used = {
            "calls": (limits.calls, spent.calls + bound.calls),
            "tokens": (limits.tokens, spent.prompt_tokens + spent.completion_tokens + bound.tokens),
            "cost": (limits.cost, (spent.cost or 0.0) + (bound.money or 0.0)),
            "seconds": (limits.seconds, time.monotonic() - self.started + held_seconds),
        }
        for name, (limit, total) in used.items():
            if limit is not None:
                yield name, limit, limit - total


def _name(name: str, limit: float) -> str:
    return f"max_{name}={limit:g}"
