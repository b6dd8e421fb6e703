"""Calls of an endpoint: each within its deadline, repeated where that can help."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from readthrough.errors import DeadlineError
from readthrough.models.deadline import seconds_left
from readthrough.models.endpoint.address import Address
from readthrough.models.endpoint.faults import Fault, from_sdk
from readthrough.models.endpoint.traffic import Traffic
from readthrough.models.loop import Loop

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

RETRIES = 5

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
_CONNECT_SECONDS = 10.0
_ALONE_CONCURRENCY = 64

T = TypeVar("T")


class Connection:
    """An endpoint's client on a loop of its own; opened by the first call. `traffic` is its own where none is given."""

    def __init__(
        self, address: Address, api_key: str | None, deadline_seconds: float, traffic: Traffic | None = None
    ) -> None:
        self.address = address
        self.deadline_seconds = deadline_seconds
        self.traffic = traffic or Traffic(_ALONE_CONCURRENCY)
        self.loop = Loop("readthrough-endpoint")
        self._api_key = api_key
        self._client: AsyncOpenAI | None = None

    def __repr__(self) -> str:
        return f"Connection({self.address.shown})"

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[float]:
        """All that is awaited inside ends within `deadline_seconds`; yields the loop's time at which it will.

        The time runs from the call's turn on, so it holds for the wait for a slot, for pauses, attempts and hedges.
        Only cancellation ends a call in time whatever the other side does: a read timeout starts anew with every
        byte, and a server that drips bytes would hold a call for ever.

        Raises:
            DeadlineError: the deadline passed.
            BudgetError: the caller's own time (`readthrough.models.deadline`) passed before that.
        """
        try:
            async with asyncio.timeout(seconds_left()) as limit, self.traffic.turns.slot():
                ends = asyncio.get_running_loop().time() + self.deadline_seconds
                ends = min(ends, limit.when() or ends)
                limit.reschedule(ends)
                yield ends
        except TimeoutError:
            seconds_left()
            raise DeadlineError(
                f"{self.address.shown} gave no complete answer within {self.deadline_seconds:g} s",
                hint="raise deadline_seconds",
            ) from None

    async def call(
        self,
        request: Callable[[AsyncOpenAI], Awaitable[T]],
        ends: float,
        work_tokens: Callable[[T], float] = lambda _: 1.0,
    ) -> T:
        """One call, repeated while that can help and be done before `ends`; each attempt has a slot of the traffic's.

        Args:
            request: sends it.
            ends: the loop's time at which the call must be over.
            work_tokens: what an answer was worth, in tokens written.

        Raises:
            DeadlineError: the server wants to be asked again after `ends`.
            CircuitOpenError: the server has failed so often that it is left alone for some seconds.
            EndpointError: the server or the line failed for good.
            PromptTooLongError: the server says that the prompt does not fit.
        """
        attempt = 0
        while True:
            self._check_time(self.traffic.limiter.pause_seconds, ends, f"{self.address.shown} wants to be left alone")
            async with self.traffic.limiter.slot(first=attempt > 0):
                if attempt == 0:
                    self.traffic.breaker.admit()
                answer = await self._attempt(request, work_tokens)
            if not isinstance(answer, Fault):
                return answer
            if not answer.transient or attempt == RETRIES:
                raise answer.error
            wait = _wait_seconds(answer.retry_after, attempt)
            self._check_time(wait, ends, answer.error.message)
            log.info("%s; asking again in %.1f s", answer.error.message, wait)
            await asyncio.sleep(wait)
            attempt += 1

    async def _attempt(
        self, request: Callable[[AsyncOpenAI], Awaitable[T]], work_tokens: Callable[[T], float]
    ) -> T | Fault:
        """The answer, or what went wrong: not as the SDK's error, which holds the request, and with it the key."""
        from openai import OpenAIError

        client, sent_at = self.client(), time.monotonic()
        try:
            answer = await request(client)
        except OpenAIError as error:
            fault = from_sdk(error, self.address)
            asked = None if fault.retry_after is None else retry_after_seconds(fault.retry_after)
            self.traffic.failed(sent_at, fault, asked)
            return fault
        self.traffic.answered(sent_at, work_tokens(answer))
        return answer

    def _check_time(self, wait_seconds: float, ends: float, reason: str) -> None:
        if asyncio.get_running_loop().time() + wait_seconds >= ends:
            raise DeadlineError(
                f"{reason}; asking again in {wait_seconds:.1f} s would pass the deadline of "
                f"{self.deadline_seconds:g} s",
                hint="raise deadline_seconds",
            )

    def client(self) -> AsyncOpenAI:
        """The SDK's client, opened by the first call. Only for coroutines on this connection's loop."""
        if self._client is None:
            from httpx2 import Timeout
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient

            seconds = self.deadline_seconds
            self._client = AsyncOpenAI(
                api_key=self._api_key or "none",
                base_url=self.address.shown,
                default_headers=self.address.headers,
                max_retries=0,
                timeout=Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
                # a redirect could lead the text, and the key, to a host that nobody named
                http_client=DefaultAsyncHttpxClient(follow_redirects=False),
            )
        return self._client

    def close(self) -> None:
        """Close the client and stop the loop."""
        client, self._client = self._client, None
        if client is not None:
            self.loop.wait(self.loop.submit(client.close()))
        self.loop.close()


def _wait_seconds(retry_after: str | None, attempt: int) -> float:
    asked = None if retry_after is None else retry_after_seconds(retry_after)
    if asked is not None:
        return asked
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0**attempt) * random.uniform(0.5, 1.0)


def retry_after_seconds(value: str) -> float | None:
    """What a Retry-After header says, in seconds from now (a number, or an HTTP date); None where it is neither."""
    if value.strip().replace(".", "", 1).isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
