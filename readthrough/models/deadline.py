"""A deadline over everything that models do inside it: `with deadline(at): ...`.

Backends look at it where a call can be abandoned: the local engine before every pass, endpoints while they wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar

from readthrough.errors import BudgetError

_ENDS: ContextVar[tuple[float, str] | None] = ContextVar("readthrough_deadline", default=None)


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


def seconds_left(needed_seconds: float = 0.0) -> float | None:
    """How long a call may still take, None for as long as it likes.

    Args:
        needed_seconds: how long what comes next is known to take at least.

    Raises:
        BudgetError: the deadline has passed, or will have by then.
    """
    found = _ENDS.get()
    if found is None:
        return None
    ends, name = found
    left = ends - time.monotonic()
    if left <= needed_seconds:
        raise BudgetError(f"the time of {name} is over", hint="allow more seconds", budget=name)
    return left
