"""What a server turned out to support, found out by asking and remembered for the process."""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass, field
from typing import Any

from readthrough.models.base import Completion, Request
from readthrough.models.structured import prompted

log = logging.getLogger(__name__)

FORMATS = ("json_schema", "json_object", "prompt")

_OPTIONAL = ("stream_options", "logprobs", "temperature", "stop")
_REFUSING = frozenset({400, 404, 415, 422, 500, 501})
_FORMAT_WORDS = re.compile(r"response_format|json_schema|json_object|structured|guided|grammar|literal_error")
_UNSUPPORTED = re.compile(
    r"unsupported|not support|does not|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed|invalid"
    r"|must be|less than|at most|not available"
)


@dataclass
class Traits:
    """A server's traits. It starts as fully able; `learn` takes away what it refuses, so asking again comes to an end.

    Attributes:
        structure: the index in `FORMATS` of the best form of structured output that it takes.
        limit_field: what it calls the most tokens to generate.
        refused: optional parameters that it refuses.
    """

    structure: int = 0
    limit_field: str = "max_tokens"
    refused: set[str] = field(default_factory=set)

    def body(self, model: str, request: Request) -> dict[str, Any]:
        """The parameters of a call, without what the server refuses."""
        asked = prompted(request) if request.schema is not None and self.structure > 0 else request
        messages = [{"role": message.role, "content": message.content} for message in asked.messages]
        if request.prefill:
            messages.append({"role": "assistant", "content": request.prefill})
        body: dict[str, Any] = {"model": model, "messages": messages, self.limit_field: request.max_tokens}
        optional: dict[str, Any] = {"temperature": request.temperature}
        if request.stop:
            optional["stop"] = list(request.stop)
        body.update({key: value for key, value in optional.items() if key not in self.refused})
        if request.schema is not None and FORMATS[self.structure] != "prompt":
            body["response_format"] = _response_format(FORMATS[self.structure], request.schema)
        return body

    def allowed(self, extra: dict[str, Any]) -> dict[str, Any]:
        """`extra` parameters, or none of them where one is refused."""
        return {} if self.refused & extra.keys() else extra

    def learn(self, status: int, text: str, body: dict[str, Any]) -> bool:
        """Does the server's refusal of `body` teach something that makes asking again worth while?"""
        said = text.lower()
        if status not in _REFUSING:
            return False
        if "max_completion_tokens" in said and "max_tokens" in body:
            self.limit_field = "max_completion_tokens"
            return True
        if "response_format" in body and _FORMAT_WORDS.search(said):
            used = FORMATS.index(body["response_format"]["type"])
            self.structure = max(self.structure, used + 1)
            log.info("the endpoint refuses %s; using %s", FORMATS[used], FORMATS[self.structure])
            return True
        for name in _OPTIONAL:
            if name in body and re.search(rf"\b(top_)?{name}\b", said) and _UNSUPPORTED.search(said):
                log.warning("the endpoint refuses the parameter %s; it is left out from now on", name)
                self.refused.add(name)
                return True
        return False

    def ignores_schema(self, completion: Completion) -> bool:
        """Did a server that was sent a schema reply in prose? From then on the schema goes into the prompt."""
        prose = completion.finish == "stop" and completion.text.strip() and not set("{[") & set(completion.text)
        if not prose or FORMATS[self.structure] == "prompt":
            return False
        log.info("the endpoint takes a schema and ignores it; putting it into the prompt from now on")
        self.structure = FORMATS.index("prompt")
        return True


@functools.cache
def traits_of(base_url: str, model: str) -> Traits:
    """The traits of one model at one address: the same object for the whole process."""
    return Traits()


def _response_format(form: str, schema: dict[str, Any]) -> dict[str, Any]:
    if form == "json_object":
        return {"type": "json_object", "schema": schema}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": _is_strict(schema)}}


def _is_strict(schema: Any) -> bool:
    """Does a schema keep the rules of OpenAI's strict mode: all properties required, no others allowed?"""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != names:
            return False
    return all(map(_is_strict, schema.values()))
