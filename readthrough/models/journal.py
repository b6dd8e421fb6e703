"""Replies that were paid for already: `with journal(kept): ...`, and a call that is made again gets its reply again.

A step of a run that a kill has cut short is repeated as a whole. What its calls of an endpoint brought is kept one by
one, so that only those are made again whose reply had not come.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Replies(Protocol):
    """Where the replies of one step are kept."""

    def find(self, call: str) -> dict[str, Any] | None:
        """The reply that is kept of a call."""

    def keep(self, call: str, reply: dict[str, Any]) -> None:
        """Keep the reply of a call."""


@dataclass
class _Journal:
    replies: Replies
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Entry:
    """One call. Of equal calls of a step each has an entry of its own: several votes stay several."""

    replies: Replies | None
    call: str

    def find(self) -> dict[str, Any] | None:
        """The reply, where the call was made before."""
        return None if self.replies is None else self.replies.find(self.call)

    def keep(self, reply: dict[str, Any]) -> None:
        """Keep the reply of the call."""
        if self.replies is not None:
            self.replies.keep(self.call, reply)


_JOURNAL: ContextVar[_Journal | None] = ContextVar("readthrough_journal", default=None)


@contextmanager
def journal(replies: Replies) -> Iterator[None]:
    """Calls inside are kept in `replies`, and those that it holds are not made again."""
    token = _JOURNAL.set(_Journal(replies))
    try:
        yield
    finally:
        _JOURNAL.reset(token)


def once(
    call: Callable[[S], Awaitable[T]], of: Callable[[dict[str, Any]], T], model: str
) -> Callable[[S], Awaitable[T]]:
    """`call`, but for what the journal holds: there `of` makes the result again of the plain values that it was.

    A result is kept when it is there and was found good; an error never is. Outside of any journal nothing is kept.
    """

    async def asked(item: S) -> T:
        kept = _entry(f"{model} {call.__qualname__} {item!r}")
        found = kept.find()
        if found is not None:
            return of(found)
        result = await call(item)
        kept.keep(asdict(result))  # type: ignore[call-overload]  # a Completion or a Choice
        return result

    return asked


def _entry(call: str) -> _Entry:
    opened = _JOURNAL.get()
    if opened is None:
        return _Entry(None, "")
    key = hashlib.sha256(call.encode("utf-8", "surrogatepass")).hexdigest()
    with opened.lock:
        opened.seen[key] += 1
        return _Entry(opened.replies, f"{key}:{opened.seen[key]}")
