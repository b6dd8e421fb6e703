"""Calls of an endpoint: each within its deadline, repeated where that can help."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from readthrough.errors import DeadlineError
from readthrough.models.deadline import seconds_left
from readthrough.models.endpoint.address import Address
from readthrough.models.endpoint.faults import from_sdk
from readthrough.models.loop import Loop

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

RETRIES = 5

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
_CONNECT_SECONDS = 10.0

T = TypeVar("T")


class Connection:
    """An endpoint's client on a loop of its own; opened by the first call."""

    def __init__(self, address: Address, api_key: str | None, deadline_seconds: float) -> None:
        self.address = address
        self.deadline_seconds = deadline_seconds
        self.loop = Loop("readthrough-endpoint")
        self._api_key = api_key
        self._client: AsyncOpenAI | None = None

    def __repr__(self) -> str:
        return f"Connection({self.address.shown})"

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[float]:
        """All that is awaited inside ends within `deadline_seconds`; yields the loop's time at which it will.

        Only cancellation ends a call in time whatever the other side does: a read timeout starts anew with every
        byte, and a server that drips bytes would hold a call for ever.

        Raises:
            DeadlineError: the deadline passed.
            BudgetError: the caller's own time (`readthrough.models.deadline`) passed before that.
        """
        left = seconds_left()
        seconds = self.deadline_seconds if left is None else min(left, self.deadline_seconds)
        try:
            async with asyncio.timeout(seconds) as limit:
                yield limit.when() or 0.0
        except TimeoutError:
            seconds_left()
            raise DeadlineError(
                f"{self.address.shown} gave no complete answer within {self.deadline_seconds:g} s",
                hint="raise deadline_seconds",
            ) from None

    async def call(self, request: Callable[[AsyncOpenAI], Awaitable[T]], ends: float) -> T:
        """One call, repeated while that can help and be done before `ends`.

        Raises:
            DeadlineError: the server wants to be asked again after `ends`.
            EndpointError: the server or the line failed for good.
            PromptTooLongError: the server says that the prompt does not fit.
        """
        from openai import OpenAIError

        attempt = 0
        while True:
            try:
                return await request(self.client())
            except OpenAIError as error:
                fault = from_sdk(error, self.address)
            if not fault.transient or attempt == RETRIES:
                raise fault.error from None  # the SDK's error holds the request, and with it the key
            wait = _wait_seconds(fault.retry_after, attempt)
            if asyncio.get_running_loop().time() + wait >= ends:
                raise DeadlineError(
                    f"{fault.error.message}; asking again in {wait:.1f} s would pass the deadline of "
                    f"{self.deadline_seconds:g} s",
                    hint="raise deadline_seconds",
                ) from None
            log.info("%s; asking again in %.1f s", fault.error.message, wait)
            await asyncio.sleep(wait)
            attempt += 1

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
