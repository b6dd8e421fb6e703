"""The JSON Schema of the YAML files of evaluations, for editors, made from the parts of the catalogue."""

from __future__ import annotations

from typing import Any

from readthrough.agents.spec.schema import Schema, model_schema, part_schema
from readthrough.catalogue import names

_FILE = {"type": "string", "pattern": r"\.ya?ml$", "description": "a file with a workflow"}


def grid_schema() -> Schema:
    """The JSON Schema (2020-12) of a grid."""
    definitions: dict[str, Any] = {}
    tasks = part_schema("tasks", definitions, "what is asked", _spanned)
    workflows = part_schema("workflows", definitions, "how it is read", _spanned)
    systems = {
        "workflows": _list({"anyOf": [_FILE, workflows]}, "how texts are read"),
        "models": _list(model_schema(definitions), "who answers; the settings' model where left out"),
        "indexes": _list({"enum": names("indexes")}, "what finds chunks; the settings' index where left out"),
    }
    limits = {
        "seconds": _positive("number", "the most seconds that an answer may take"),
        "tokens": _positive("integer", "the most tokens that are read and written for an answer"),
        "calls": _positive("integer", "the most calls of the model for an answer"),
        "text_tokens": _positive("integer", "the longest text that an example may be about"),
    }
    properties = {
        "tasks": _list(tasks, "what is asked; a list of values for an option makes a task of each"),
        "systems": {**_closed(systems), "required": ["workflows"], "description": "each workflow with each model"},
        "limits": _closed(limits),
        "budget": _closed({"seconds": _positive("number", "the most seconds that a run may take")}),
        "parallel": _positive("integer", "how many questions are asked side by side"),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An evaluation of readthrough",
        **_closed(properties),
        "required": ["tasks", "systems"],
        "$defs": definitions,
    }


def _spanned(option: Schema) -> Schema:
    """An option, or a list of values for it."""
    value = {name: said for name, said in option.items() if name not in ("description", "default")}
    told = {name: said for name, said in option.items() if name not in value}
    return {**told, "anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "minItems": 1, "items": items, "description": description}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _positive(kind: str, description: str) -> Schema:
    return {"type": kind, "exclusiveMinimum": 0, "description": description}
