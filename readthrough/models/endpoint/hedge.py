"""A second request beside one that takes long; the first good answer is taken.

Source: Dean and Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from readthrough.models.allowance import one_more
from readthrough.models.endpoint.slots import Slots

T = TypeVar("T")


class Hedge:
    """The hedge of one call, sent once at most, however often the call is repeated.

    Attributes:
        sent: how many hedges were sent, 0 or 1.
    """

    def __init__(self, after_seconds: float | None, slots: Slots) -> None:
        self.sent = 0
        self._after_seconds = after_seconds
        self._slots = slots

    async def ask(self, send: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `send` returns; it is started anew where `after_seconds` pass, a slot is free and the budget allows.

        Raises: what the first raised, where both fail.
        """
        if self._after_seconds is None or self.sent:
            return await send()
        first = asyncio.create_task(send())
        try:
            done, _ = await asyncio.wait([first], timeout=self._after_seconds)
            if done or not self._slots.take_spare():
                return await first
            try:
                if not one_more():
                    return await first
                self.sent = 1
                return await _first_good(first, asyncio.create_task(send()))
            finally:
                self._slots.give_back()
        finally:
            await _end(first)


async def _first_good(first: asyncio.Task[T], second: asyncio.Task[T]) -> T:
    try:
        done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        quicker, other = (first, second) if first in done else (second, first)
        if quicker.exception() is None:
            return quicker.result()
        await asyncio.wait([other])
        return (other if other.exception() is None else first).result()
    finally:
        await _end(second)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
