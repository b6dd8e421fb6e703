"""A fair semaphore for coroutines of many event loops and threads, whose size may change and which can pause."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(eq=False)
class _Waiter:
    """Who waits for a slot. `wakes_at` is the end of the pause for which its loop has set an alarm."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    granted: bool = False
    wakes_at: float = 0.0


class Slots:
    """At most `limit` slots are taken at a time; first come, first served. Who is cancelled leaves no slot behind."""

    def __init__(self, limit: float) -> None:
        self._lock = threading.RLock()
        self._limit = limit
        self._taken = 0
        self._resume_at = 0.0
        self._waiting: deque[_Waiter] = deque()

    @property
    def limit(self) -> int:
        """How many slots there are now."""
        return max(1, int(self._limit))

    @property
    def taken(self) -> int:
        """How many slots are taken now."""
        return self._taken

    @property
    def pause_seconds(self) -> float:
        """How long no slot will be given; 0 where there is no pause."""
        return max(0.0, self._resume_at - time.monotonic())

    @asynccontextmanager
    async def slot(self, first: bool = False) -> AsyncIterator[None]:
        """A slot for what is done inside, once there is one; `first`: before all who wait already."""
        waiter = _Waiter(loop := asyncio.get_running_loop(), loop.create_future())
        with self._lock:
            if first:
                self._waiting.appendleft(waiter)
            else:
                self._waiting.append(waiter)
            self._grant()
        try:
            await waiter.future
            yield
        finally:
            with self._lock:
                if waiter.granted:
                    self._taken -= 1
                else:
                    self._waiting.remove(waiter)
                self._grant()

    def take_spare(self) -> bool:
        """Take a slot that nobody waits for, to be given back by `give_back`; False where there is none."""
        with self._lock:
            spare = not self._waiting and self._taken < self.limit and not self.pause_seconds
            self._taken += spare
            return spare

    def give_back(self) -> None:
        """Give back what `take_spare` took."""
        with self._lock:
            self._taken -= 1
            self._grant()

    def resize(self, limit: float) -> None:
        """From now on there are `limit` slots, counted down to a whole number, and one at least."""
        with self._lock:
            self._limit = limit
            self._grant()

    def pause(self, seconds: float) -> None:
        """Give no slot for so long. A pause that ends later stands."""
        with self._lock:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def _grant(self) -> None:
        while self._waiting and self._taken < self.limit:
            head = self._waiting[0]
            if self.pause_seconds:
                self._set_alarm(head)
                return
            self._waiting.popleft()
            head.granted = True
            self._taken += 1
            # the loop of a waiter runs: when it stops, its waiters are cancelled first
            head.loop.call_soon_threadsafe(_finish, head.future)

    def _set_alarm(self, head: _Waiter) -> None:
        """Who is at the head of the queue wakes it when the pause is over."""
        if head.wakes_at != self._resume_at:
            head.wakes_at = self._resume_at
            head.loop.call_soon_threadsafe(head.loop.call_later, self.pause_seconds, self._resume)

    def _resume(self) -> None:
        with self._lock:
            self._grant()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
