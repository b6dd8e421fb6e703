"""Server-sent events as a reply. A stream that breaks off is an error: what came before it is no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from readthrough.errors import EndpointError
from readthrough.models.base import Request
from readthrough.models.endpoint.address import Address
from readthrough.models.endpoint.replies import (
    Reply,
    check_error,
    check_length,
    check_text,
    decode_json,
    finished,
    parse_reply,
    stop_at,
)

if TYPE_CHECKING:
    from openai._response import AsyncAPIResponse

_EVENTS = "text/event-stream"


async def read_stream(
    response: AsyncAPIResponse[Any], request: Request, address: Address, put: Callable[[str], None]
) -> Reply:
    """Read a streamed response to its end, handing over the text as it comes.

    Raises:
        EndpointError: the stream breaks off, or holds what cannot be used.
        APIConnectionError: it breaks off before any text; asking again repeats nothing.
    """
    from httpx2 import HTTPError
    from openai import APIConnectionError

    content_type = response.headers.get("content-type", "")
    if _EVENTS not in content_type:  # some servers answer a streamed request in one piece
        reply = parse_reply(decode_json(await response.text(), content_type, address), request, address)
        put(reply.text)
        return reply
    gathered = _Gathered(request, address, put)
    try:
        async for line in response.iter_lines():
            if line.startswith("data:") and gathered.add(line.removeprefix("data:").strip()):
                break
    except HTTPError as error:
        if not gathered.text:
            raise APIConnectionError(request=response.http_request) from error
        raise EndpointError(
            f"{address.shown} broke off its stream after {len(gathered.text)} characters; they are not kept"
        ) from None
    return gathered.reply()


class _Gathered:
    """What came so far. Text that may be the beginning of a stop string is held back."""

    def __init__(self, request: Request, address: Address, put: Callable[[str], None]) -> None:
        self.text = ""
        self._request, self._address, self._put = request, address, put
        self._held = max((len(mark) for mark in request.stop), default=1) - 1
        self._handed = 0
        self._echo = request.prefill
        self._finish: Any = None
        self._usage: Any = None

    def add(self, data: str) -> bool:
        """Take one event; True when nothing more is wanted."""
        if data == "[DONE]":
            return True
        try:
            event = json.loads(data)
            check_error(event, self._address)
            self._usage = event.get("usage") or self._usage
            for choice in event.get("choices") or ():
                self._finish = choice.get("finish_reason") or self._finish
                self.text += (choice.get("delta") or {}).get("content") or ""
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise EndpointError(
                f"{self._address.shown} sent a broken event: {self._address.redact(str(error))}"
            ) from None
        check_length(len(self.text), self._request, self._address)
        if self._echo and self._echo.startswith(self.text[: len(self._echo)]):
            if len(self.text) < len(self._echo):
                return False
            self.text = self.text.removeprefix(self._echo)
        self._echo = ""
        if stop_at(self.text, self._request.stop) is not None:
            self._finish = "stop"
            return True
        self._hand_over(len(self.text) - self._held)
        return False

    def reply(self) -> Reply:
        """The reply, once the stream is at its end."""
        reply = finished(self.text, self._finish, self._usage, self._request, self._address)
        self.text = reply.text
        self._hand_over(len(self.text))
        return reply

    def _hand_over(self, end: int) -> None:
        piece = self.text[self._handed : max(end, self._handed)]
        if piece:
            check_text(piece, self._request, self._address)
            self._put(piece)
            self._handed += len(piece)
