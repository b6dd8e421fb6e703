"""A deadline over everything that models do inside it: `with deadline(at): ...`.

Backends look at it where a call can be abandoned: the local engine before every pass, endpoints while they wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from threading import Event

from readthrough.errors import BudgetError, StoppedError

_ENDS: ContextVar[tuple[float, str] | None] = ContextVar("readthrough_deadline", default=None)
_STOP: ContextVar[Event | None] = ContextVar("readthrough_stop", default=None)


@contextmanager
def deadline(ends: float | None, name: str = "deadline") -> Iterator[None]:
    """Calls inside end by `ends` (`time.monotonic()`; None for never); `name` is the budget that errors speak of."""
    token = _ENDS.set(None if ends is None else (ends, name))
    try:
        yield
    finally:
        _ENDS.reset(token)


@contextmanager
def earliest(contexts: Iterable[Context]) -> Iterator[None]:
    """Calls inside end by the first of the deadlines that hold in some contexts."""
    found = [ends for context in contexts if (ends := context.get(_ENDS)) is not None]
    token = _ENDS.set(min(found, default=None))
    try:
        yield
    finally:
        _ENDS.reset(token)


@contextmanager
def stoppable(stop: Event) -> Iterator[None]:
    """Calls inside end once `stop` is set: an interrupt is heard in the main thread alone, which tells the others."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def check_stop() -> None:
    """Go on, unless the caller was told to stop.

    Raises:
        StoppedError: so it was.
    """
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise StoppedError("was told to stop")


def seconds_left(needed_seconds: float = 0.0) -> float | None:
    """How long a call may still take, None for as long as it likes.

    Args:
        needed_seconds: how long what comes next is known to take at least.

    Raises:
        BudgetError: the deadline has passed, or will have by then.
        StoppedError: the caller was told to stop.
    """
    check_stop()
    found = _ENDS.get()
    if found is None:
        return None
    ends, name = found
    left = ends - time.monotonic()
    if left <= needed_seconds:
        raise BudgetError(f"the time of {name} is over", hint="allow more seconds", budget=name)
    return left
