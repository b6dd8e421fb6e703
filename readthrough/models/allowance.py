"""Whether a model may make one call more than it was asked for, such as a hedge: the caller's budget says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ASKED: ContextVar[Callable[[], bool] | None] = ContextVar("readthrough_allowance", default=None)


@contextmanager
def allowance(may: Callable[[], bool]) -> Iterator[None]:
    """Calls inside ask `may` before one that nobody reckoned with; it sets aside what that takes, or says no."""
    token = _ASKED.set(may)
    try:
        yield
    finally:
        _ASKED.reset(token)


def one_more() -> bool:
    """Whether one more call of the kind that is being made is within the caller's budget."""
    may = _ASKED.get()
    return may is None or may()
