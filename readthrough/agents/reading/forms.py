"""Replies that are forms: JSON that satisfies a request's schema, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from readthrough.agents.runs.services import Services
from readthrough.errors import ModelError, PromptTooLongError
from readthrough.models.base import Request
from readthrough.models.structured import InvalidReply, parse

REPAIRS = 2


def fill(services: Services, requests: Sequence[Request]) -> list[Any]:
    """The values that the model writes for requests with a schema, in order.

    A reply that its limit of tokens cut is no JSON: it is asked for again with twice the limit, `REPAIRS` times at
    most. What is not valid is kept nowhere.

    Raises:
        ModelError: a reply did not satisfy its schema in the end.
    """
    values: dict[int, Any] = {}
    waiting = dict(enumerate(requests))
    problem = ""
    for attempt in range(1 + REPAIRS):
        try:
            completions = services.complete(list(waiting.values()))
        except PromptTooLongError:
            if attempt == 0:
                raise
            break  # no room for the repair: what was wrong before it is what the user must learn
        for (number, request), completion in zip(list(waiting.items()), completions, strict=True):
            try:
                values[number] = parse(completion.text, request.schema or {})
                del waiting[number]
            except InvalidReply as error:
                cut = completion.finish == "length"
                problem = f"it was cut at {request.max_tokens} tokens" if cut else str(error)
                waiting[number] = replace(request, max_tokens=2 * request.max_tokens) if cut else request
        if not waiting:
            return [values[number] for number in range(len(requests))]
    raise ModelError(
        f"{services.model.name}: no reply satisfied the schema, after {REPAIRS} repairs: {problem}",
        hint="allow more tokens, or ask a larger model",
    )
