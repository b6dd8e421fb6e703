"""What an endpoint sends back, checked: nothing of it is believed before it has the right shape."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from readthrough.errors import EndpointError
from readthrough.models.base import Request
from readthrough.models.endpoint.address import Address
from readthrough.models.endpoint.faults import is_too_long, too_long

_FINISHES: dict[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
}
# No tokenizer has tokens this long on average: more text than this for a token means the limit was ignored.
_MOST_CHARACTERS_A_TOKEN = 32
_SPARE_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A checked reply. Counts are None where the server gives none."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    first_tokens: tuple[tuple[str, float], ...] = ()


def decode_json(text: str, content_type: str, address: Address) -> dict[str, Any]:
    """The JSON object of a response's body.

    Raises:
        EndpointError: another content type, no JSON, NaN in it, no object, or an error in place of an answer.
        PromptTooLongError: that error says that the prompt does not fit.
    """
    if "json" not in content_type.lower():
        shown = address.redact(text[:200])
        raise EndpointError(
            f"{address.shown} sent {content_type or 'no content type'}, not JSON: {shown}",
            hint="is this the address of an OpenAI-compatible API?",
        )

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise EndpointError(f"{address.shown} sent broken JSON: {address.redact(str(error))}") from None
    if not isinstance(body, dict):
        raise EndpointError(f"{address.shown} sent JSON that is no object")
    check_error(body, address)
    return body


def check_error(body: dict[str, Any], address: Address) -> None:
    """Raises what `body` says, if it is an error sent with the status of a success."""
    error = body if body.get("object") == "error" else body.get("error")
    if not error:
        return
    message = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    if is_too_long(message):
        raise too_long(message, address)
    raise EndpointError(f"{address.shown} answered with an error: {address.redact(message)}")


def parse_reply(body: dict[str, Any], request: Request, address: Address) -> Reply:
    """A whole (not streamed) response as a Reply.

    Raises:
        EndpointError: a part is missing or of another kind, or the text fails `check_text`.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        finish = choice.get("finish_reason")
        text = message.get("content") or ""
        refusal = message.get("refusal")
        usage = body.get("usage") or {}
        tokens = _first_tokens(choice.get("logprobs"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(
            f"{address.shown} sent no chat completion: {type(error).__name__} {address.redact(str(error))}"
        ) from None
    if refusal:
        raise EndpointError(f"{address.shown} refused to answer: {address.redact(str(refusal))}")
    if not isinstance(text, str):
        raise EndpointError(f"{address.shown} sent a {type(text).__name__} in place of text")
    return finished(text, finish, usage, request, address, tokens)


def finished(
    text: str,
    finish: Any,
    usage: Any,
    request: Request,
    address: Address,
    first_tokens: Sequence[tuple[str, float]] = (),
) -> Reply:
    """A reply of its parts, checked.

    Raises:
        EndpointError: no or an unknown reason to finish, or the text fails `check_text`.
    """
    known = _FINISHES.get(str(finish).lower())
    if known is None:
        what = "a cut reply, with no reason to finish" if finish is None else f"a reply that ended by {finish!r}"
        raise EndpointError(f"{address.shown} sent {what}")
    if request.prefill and text.startswith(request.prefill):
        text = text.removeprefix(request.prefill)
    at = stop_at(text, request.stop)
    if at is not None:
        text, known = text[:at], "stop"
    check_text(text, request, address)
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return Reply(
        text=text,
        finish=known,
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(details, "cached_tokens") or 0,
        completion_tokens=_count(usage, "completion_tokens"),
        first_tokens=tuple(first_tokens),
    )


def check_text(text: str, request: Request, address: Address) -> None:
    """Raises EndpointError where a text is far longer than `max_tokens` allows, or holds half a surrogate pair."""
    check_length(len(text), request, address)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise EndpointError(f"{address.shown} sent half a surrogate pair, which is no text") from None


def check_length(characters: int, request: Request, address: Address) -> None:
    """Raises EndpointError where so many characters cannot be `max_tokens` tokens."""
    if characters > _MOST_CHARACTERS_A_TOKEN * request.max_tokens + _SPARE_CHARACTERS:
        raise EndpointError(f"{address.shown} sent {characters:,} characters for max_tokens={request.max_tokens}")


def check_answer(reply: Reply, request: Request, address: Address) -> None:
    """Raises EndpointError for free text of nothing, unless a stop string can be why."""
    if reply.text.strip() or (request.stop and reply.finish == "stop"):
        return
    used_up = f"it used up max_tokens={request.max_tokens} before its answer" if reply.finish == "length" else None
    raise EndpointError(f"{address.shown} answered with nothing", hint=used_up)


def stop_at(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in `text`, or None."""
    found = [at for at in (text.find(mark) for mark in stop) if at >= 0]
    return min(found, default=None)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def _first_tokens(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """The first token's alternatives and their probabilities, where the server gives any."""
    if not logprobs or not logprobs.get("content"):
        return ()
    first = logprobs["content"][0]
    alternatives = first.get("top_logprobs") or [first]
    return tuple((str(item["token"]), math.exp(min(0.0, float(item["logprob"])))) for item in alternatives)
