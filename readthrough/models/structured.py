"""JSON that satisfies a schema, from models that cannot be forced to write it: ask, check, repair at most twice."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from readthrough.errors import ConfigError, EndpointError, PromptTooLongError, UsageError
from readthrough.models.base import Choice, Completion, Message, Request
from readthrough.types import Usage

REPAIRS = 2

_FENCE = re.compile(r"^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_BEGUN = re.compile(r"[{\[]")
_SHOWN_CHARACTERS = 2000

Ask = Callable[[Request], Awaitable[Completion]]


class InvalidReply(ValueError):
    """A reply that is not JSON, or not what the schema asks for."""


def check_schema(schema: dict[str, Any]) -> None:
    """Raises ConfigError where `schema` is no JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ConfigError(f"not a JSON Schema: {error.message}") from error


def parse(text: str, schema: dict[str, Any]) -> Any:
    """The value in `text` (a fence of backticks around it, or prose before it, is forgiven; text after it is not).

    Raises:
        InvalidReply: no JSON, NaN or Infinity, half a surrogate pair, or not what the schema asks for.
    """
    from jsonschema import Draft202012Validator

    value = _load(text)
    problems = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda problem: list(map(str, problem.path)))
    if problems:
        where = "/".join(map(str, problems[0].absolute_path)) or "the reply"
        raise InvalidReply(f"{where}: {problems[0].message[:300]}")
    return value


def _load(text: str) -> Any:
    fenced = _FENCE.match(text)
    body = (fenced[1] if fenced else text).strip()
    if not body:
        raise InvalidReply("the reply is empty")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    starts = [0, *(at for at in (body.find("{"), body.find("[")) if at > 0)]
    for start in sorted(starts):
        try:
            value, end = decoder.raw_decode(body, start)
        except (json.JSONDecodeError, RecursionError):
            continue
        if body[end:].strip():
            raise InvalidReply("there is text after the JSON")
        _check_text(value)
        return value
    raise InvalidReply("the reply is not JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidReply(f"{name} is not JSON")


def _check_text(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidReply("the reply holds half a surrogate pair") from error


def prompted(request: Request) -> Request:
    """The request with its schema written into the last user turn."""
    *before, last = request.messages
    text = (
        f"{last.content}\n\nReply with one JSON value and nothing else. It must satisfy this JSON Schema:\n"
        f"{json.dumps(request.schema, ensure_ascii=False)}"
    )
    return replace(request, messages=(*before, Message(last.role, text)))


async def complete_json(ask: Ask, request: Request) -> Completion:
    """Ask until the reply satisfies `request.schema`: once, and `REPAIRS` times more with the problem named.

    The completion's text is the checked JSON alone; its usage is that of all calls. A form that `max_tokens` cut is
    given back as it is, with `finish` "length": asked again it would be cut again.

    Raises:
        EndpointError: the last reply was still invalid.
        PromptTooLongError: the first prompt does not fit.
    """
    schema = request.schema or {}
    attempt, usage, problem = request, Usage(), ""
    for number in range(1 + REPAIRS):
        try:
            reply = await ask(attempt)
        except PromptTooLongError:
            if number == 0:
                raise
            break  # the repair does not fit; what was wrong before it is what the user must learn
        usage = usage + reply.usage
        try:
            value = parse(reply.text, schema)
        except InvalidReply as error:
            if reply.finish == "length" and _BEGUN.search(reply.text):
                return replace(reply, usage=usage)
            problem = f"the reply was cut at {request.max_tokens} tokens" if reply.finish == "length" else str(error)
            attempt = _repair(request, reply.text, problem)
            continue
        return replace(reply, text=json.dumps(value, ensure_ascii=False), usage=usage)
    raise EndpointError(
        f"no reply satisfied the schema, after {REPAIRS} repairs: {problem}",
        hint="raise max_tokens, or ask a model that supports structured output",
    )


def _repair(request: Request, reply: str, problem: str) -> Request:
    shown = reply[:_SHOWN_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    told = (
        f"That reply cannot be used: {problem}. Reply again with one JSON value and nothing else. "
        f"It must satisfy this JSON Schema:\n{json.dumps(request.schema, ensure_ascii=False)}"
    )
    turns = (Message("assistant", shown or "(nothing)"), Message("user", told))
    return replace(request, messages=(*request.messages, *turns))


async def choose_json(ask: Ask, request: Request, options: Sequence[str], votes: int = 1) -> Choice:
    """Choose by constrained output: the probability of an option is its share of `votes`.

    `ask` must give replies that satisfy their schema.

    Raises:
        EndpointError: no reply named an option, or one was cut.
    """
    asked = replace(
        request,
        schema=choice_schema(options),
        prefill="",
        stop=(),
        temperature=0.0 if votes == 1 else 1.0,
        max_tokens=choice_tokens(options),
    )
    counts, usage = [0] * len(options), Usage()
    for _ in range(votes):
        reply = await ask(asked)
        usage = usage + reply.usage
        if reply.finish == "length":
            raise EndpointError(
                f"a choice was cut at {asked.max_tokens} tokens: {reply.text!r:.80}",
                hint="ask a model that supports structured output",
            )
        counts[options.index(json.loads(reply.text)["choice"])] += 1
    return Choice(tuple(count / votes for count in counts), usage)


def choice_schema(options: Sequence[str]) -> dict[str, Any]:
    """A schema whose only values are the options."""
    return {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(dict.fromkeys(options))}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def choice_tokens(options: Sequence[str]) -> int:
    """Room for the longest option and the JSON around it, whatever the tokenizer."""
    return 32 + max(len(option.encode("utf-8", "replace")) for option in options)


def check_options(requests: Sequence[Request], options: Sequence[Sequence[str]]) -> None:
    """Raises UsageError where options are missing, empty or repeated, or not one list a request."""
    if len(requests) != len(options):
        raise UsageError(f"{len(requests)} requests but {len(options)} lists of options")
    for names in options:
        if not names or not all(names) or len(set(names)) != len(names):
            raise UsageError(f"options must be different, non-empty strings, not {list(names)}")
