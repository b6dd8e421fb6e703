"""Endpoints in simulated time: a server is a coroutine, a second takes nothing, and every run is the same."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import httpx2
import openai
import pytest

from readthrough.models.endpoint import breaker, connection, limiter, slots
from readthrough.models.endpoint.address import parse_address
from readthrough.models.endpoint.connection import Connection
from readthrough.models.endpoint.slots import Slots
from readthrough.models.endpoint.traffic import Traffic

T = TypeVar("T")
Server = Callable[[Any], Awaitable[float]]

TIMED = (breaker, connection, limiter, slots)
"""The modules that go by `time`."""

_URL = "http://simulated/v1"


class _Leaps(selectors.DefaultSelector):
    """Where there is nothing to do until a timer, the time is then."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will happen")
            self.now += timeout
        return events


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.leaps = _Leaps()
        super().__init__(self.leaps)

    def time(self) -> float:
        return self.leaps.now


class Clock:
    """Stands in for the module `time` where requests are timed."""

    def __init__(self) -> None:
        self.loop = _Loop()

    def monotonic(self) -> float:
        return self.loop.time()

    @classmethod
    def patched(cls, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """A new clock, at 0, by which endpoints go from now on."""
        clock = cls()
        for module in TIMED:
            monkeypatch.setattr(module, "time", clock)
        random.seed(1)
        return clock

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` on this clock's loop, to its end."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            return runner.run(main)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.patched(monkeypatch)


def status_error(status: int, retry_after: float | None = None) -> openai.APIStatusError:
    """What the SDK raises for a status."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:.3f}"}
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", _URL))
    return openai.APIStatusError("no", response=response, body=None)


def connect(traffic: Traffic, deadline_seconds: float = 1e6) -> Connection:
    return Connection(parse_address(_URL, None), None, deadline_seconds, traffic)


class Fixed(Slots):
    """A limit that never changes, for comparison."""

    def answered(self, sent_at: float, work_tokens: float) -> None:
        """Nothing is learned."""

    def refused(self, sent_at: float, pause_seconds: float | None) -> None:
        """Nothing is learned."""

    def allow(self, most: int) -> None:
        """Nothing is allowed."""


class Busy:
    """A server of a bounded capacity that counts; each reply takes 0.8 to 1.2 seconds where there is nobody else.

    Attributes:
        capacity: how many requests it works at together.
        refuses: whether further ones get 429 (else they wait in a queue).
        slows: how much longer replies take for each request beside them.
    """

    def __init__(self, capacity: int, refuses: bool = False, retry_after: float = 5.0, slows: float = 0.0) -> None:
        self.capacity, self.refuses, self.retry_after, self.slows = capacity, refuses, retry_after, slows
        self.running = self.most = self.answered = self.refused = 0
        self._workers = asyncio.Semaphore(capacity)

    async def __call__(self, client: Any) -> float:
        if self.refuses and self.running >= self.capacity:
            self.refused += 1
            await asyncio.sleep(0.01)
            raise status_error(429, self.retry_after)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with self._workers:
                seconds = random.uniform(0.8, 1.2) * (1 + self.slows * (self.running - 1))
                await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        self.answered += 1
        return seconds


async def load(link: Connection, server: Server, requests: int, clients: int = 64) -> float:
    """Replies a second while so many clients ask so many requests."""
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            async with link.deadline() as ends:
                await link.call(server, ends, lambda _: 1.0)

    started = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return requests / (asyncio.get_running_loop().time() - started)
