"""The documented JSON of every surface, as JSON Schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

NUMBER = {"type": "number"}
TEXT_OR_NULL = {"type": ["string", "null"]}
EVIDENCE = {
    "document": {"type": "string"},
    "start": {"type": "integer"},
    "end": {"type": "integer"},
    "quote": {"type": "string", "minLength": 1},
    "page": {"type": ["integer", "null"]},
    "line": {"type": ["integer", "null"]},
    "section": TEXT_OR_NULL,
    "supports": {"type": "array", "items": {"type": "integer"}},
    "verified": {"type": "boolean"},
}
STATES = ("tokens", "read", "retrieved", "compressed", "gisted", "skipped", "unread")
COVERAGE = {state: {"type": "integer", "minimum": 0} for state in STATES}
USAGE = {
    **{key: {"type": "integer"} for key in ("prompt_tokens", "cached_tokens", "completion_tokens", "calls")},
    "seconds": NUMBER,
    "cost": {"type": ["number", "null"]},
}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema of an object with these properties, all of them, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ANSWER = closed(
    {
        "schema": {"const": 1},
        "question": {"type": "string"},
        "choices": {"type": ["array", "null"], "items": {"type": "string"}},
        "answer": {"type": "string"},
        "abstained": {"type": "boolean"},
        "confidence": {"type": ["number", "null"]},
        "stopped": TEXT_OR_NULL,
        "evidence": {"type": "array", "items": closed(EVIDENCE)},
        "coverage": closed(COVERAGE),
        "skipped_files": {"type": "array", "items": closed({"path": {"type": "string"}, "reason": {"type": "string"}})},
        "usage": closed(USAGE),
        "workflow": {"type": "string"},
        "model": {"type": "string"},
        "plan": {"type": "string"},
        "run": {"type": "string", "minLength": 1},
        "as_of": {
            "anyOf": [
                {"type": "null"},
                closed(
                    {
                        **{
                            name: {"type": "string", "minLength": 1} for name in ("position", "document", "document_id")
                        },
                        **{name: {"type": "integer", "minimum": 0} for name in ("end", "unread_tokens")},
                        "page": {"type": ["integer", "null"]},
                        "line": {"type": ["integer", "null"]},
                        "section": TEXT_OR_NULL,
                    }
                ),
            ]
        },
    }
)
HITS = closed(
    {
        "schema": {"const": 1},
        "hits": {
            "type": "array",
            "items": closed(
                {key: EVIDENCE[key] for key in ("document", "start", "end", "quote", "page", "line", "section")}
                | {"score": NUMBER}
            ),
        },
    }
)
DEFINITION = {
    "name": {"type": "string", "minLength": 1},
    "kind": {
        "enum": ["function", "method", "class", "type", "alias", "constant", "macro", "module", "impl", "prototype"]
    },
    "line": {"type": "integer", "minimum": 1},
    "signature": {"type": "string", "minLength": 1},
}
FILE = {
    "path": {"type": "string"},
    "language": {"type": "string"},
    "rank": {"type": "number", "minimum": 0, "maximum": 1},
    "definitions": {"type": "array", "minItems": 1, "items": closed(DEFINITION)},
}
MAP = closed(
    {
        "schema": {"const": 1},
        "tokens": {"type": "integer", "minimum": 0},
        "files": {"type": "array", "items": closed(FILE)},
        "files_left": {"type": "integer", "minimum": 0},
        "definitions_left": {"type": "integer", "minimum": 0},
        "text": {"type": "string"},
    }
)
ERROR = closed(
    {
        "schema": {"const": 1},
        "error": closed(
            {"type": {"type": "string"}, "message": {"type": "string"}, "path": TEXT_OR_NULL, "hint": TEXT_OR_NULL}
        ),
    }
)


def checked(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The one JSON object that `text` is, if it has the schema."""
    value: dict[str, Any] = json.loads(text)
    jsonschema.validate(value, schema)
    return value
