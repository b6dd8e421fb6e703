"""What went wrong at an endpoint, as typed errors: transient or not, and without the secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from readthrough.errors import EndpointError, PromptTooLongError
from readthrough.models.endpoint.address import Address

if TYPE_CHECKING:
    from openai import APIStatusError

_TRANSIENT = frozenset({408, 409, 429})
_OVERLOADED = frozenset({429, 503, 529})
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|exceeds? the (available )?context|reduce the length|longer than the (model's )?maximum|max_model_len",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"(?:context|maximum|max_model_len|limit)[^0-9]{1,40}([0-9]{3,8})", re.IGNORECASE)
_HINTS = {
    401: "check OPENAI_API_KEY",
    403: "the key may not use this model",
    404: "check the model's name and that the address ends as the server wants it, usually in /v1",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error, whether asking again can help, and when the server wants to be asked again.

    Attributes:
        overloaded: the server has too much to do.
        down: the server was not reached, or it broke; not where it says when to come back.
    """

    error: EndpointError
    transient: bool = False
    retry_after: str | None = None
    overloaded: bool = False
    down: bool = False


def is_too_long(text: str) -> bool:
    """Does an endpoint's error say that the prompt does not fit?"""
    return _TOO_LONG.search(text) is not None


def limit_tokens(text: str) -> int | None:
    """The window that such an error names, if it names one."""
    found = _LIMIT.search(text)
    return int(found[1]) if found else None


def too_long(text: str, address: Address) -> PromptTooLongError:
    """The typed error for an endpoint's refusal of a long prompt."""
    limit = limit_tokens(text)
    hint = f"its window is {limit} tokens: set window_tokens" if limit else "set window_tokens to the server's window"
    return PromptTooLongError(f"{address.shown} says the prompt is too long: {address.redact(text)}", hint=hint)


def from_sdk(error: Exception, address: Address) -> Fault:
    """An error of the SDK, or of the HTTP library under it, as ours.

    Raises:
        PromptTooLongError: the server says that the prompt does not fit.
    """
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _from_status(error, address)
    cause = error.__cause__ or error
    reason = address.redact(f"{type(cause).__name__} {cause}")
    if isinstance(error, APIConnectionError):
        unreachable = EndpointError(f"{address.shown} cannot be reached: {reason}", hint="is the server running?")
        return Fault(unreachable, transient=True, down=True)
    if is_too_long(str(error)):
        raise too_long(str(error), address) from None
    return Fault(EndpointError(f"{address.shown} failed: {reason}"))


def _from_status(error: APIStatusError, address: Address) -> Fault:
    status, text, headers = error.status_code, error.response.text, error.response.headers
    if status in (400, 413, 422, 500) and is_too_long(text):
        raise too_long(text, address) from None
    if 300 <= status < 400:
        target = address.redact(headers.get("location", "elsewhere"))
        message = f"{address.shown} redirects to {target}; redirects are not followed"
        return Fault(EndpointError(message, hint="name that address, if you trust it"))
    message = f"{address.shown} answered {status}: {address.redact(text) or 'nothing'}"
    broken, retry_after = status >= 500, headers.get("retry-after")
    return Fault(
        EndpointError(message, hint=_HINTS.get(status)),
        transient=status in _TRANSIENT or broken,
        retry_after=retry_after,
        overloaded=status in _OVERLOADED,
        down=broken and retry_after is None,
    )
