"""The JSON Schema of the YAML files, for editors, made from the parts of the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from readthrough.agents.spec.graph import MOST_NODES, MOST_ROUNDS
from readthrough.catalogue import find, names
from readthrough.documents.chunking import chunker_options
from readthrough.spec import described

_EDGE = r"^\s*[\w-]+(\s*->\s*[\w-]+)+\s*$"
_NODE_NAME = "^[A-Za-z][A-Za-z0-9_-]*$"

Schema = dict[str, Any]


def yaml_schema() -> Schema:
    """The JSON Schema (2020-12) of a YAML file."""
    definitions: dict[str, Any] = {}
    properties: Schema = {
        "workflow": part_schema("workflows", definitions, "a built-in workflow, with its options"),
        "graph": _graph(part_schema("nodes", definitions, "what the node does")),
        "model": model_schema(definitions),
        "chunker": _chunker(),
        "index": {"enum": names("indexes"), "description": "the index that finds chunks"},
        "as_of": {"type": "string", "description": "a position after which nothing is read: chapter 12, p. 120, 40%"},
        "prompts": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "texts in place of prompts: of the workflow's by their names, or of nodes by theirs",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A workflow of readthrough",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": ["workflow"]}, {"required": ["graph"]}],
        "$defs": definitions,
    }


def part_schema(
    point: str, definitions: dict[str, Any], description: str, change: Callable[[Schema], Schema] | None = None
) -> Schema:
    """A part of the catalogue: its name, or its name with options, each of which `change` may change."""
    options = {name: _options(find(point, name), definitions) for name in names(point)}
    if change is not None:
        for schema in options.values():
            schema["properties"] = {name: change(option) for name, option in schema.get("properties", {}).items()}
    bare = [name for name, schema in options.items() if not schema.get("required")]
    return _one_of(bare, options, description)


def _one_of(bare: list[str], options: Mapping[str, Schema], description: str) -> Schema:
    return {
        "description": description,
        "anyOf": [
            {"enum": bare},
            {
                "type": "object",
                "properties": {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in options.items()},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    }


def _options(part: type, definitions: dict[str, Any]) -> Schema:
    """The options of a part's dataclass, described by its docstring."""
    schema = TypeAdapter(part).json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    said = described(part)
    for name, option in schema.get("properties", {}).items():
        option.pop("title", None)
        if name in said:
            option["description"] = said[name]
    schema.pop("title", None)
    about = inspect.cleandoc(part.__doc__ or "").partition("\n")[0]
    return {**schema, "description": about, "additionalProperties": False}


def _graph(node: Schema) -> Schema:
    name = {"type": "string"}
    return {
        "type": "object",
        "description": "a graph of nodes",
        "required": ["nodes", "edges"],
        "additionalProperties": False,
        "properties": {
            "nodes": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MOST_NODES,
                "propertyNames": {"pattern": _NODE_NAME, "not": {"enum": ["start", "end"]}},
                "additionalProperties": node,
            },
            "edges": {
                "type": "array",
                "items": {"type": "string", "pattern": _EDGE},
                "description": "`a -> b`, or a chain `start -> a -> b`",
            },
            "branch": {
                "type": "object",
                "description": "for each node that chooses: the node that each outcome leads to",
                "additionalProperties": {"type": "object", "additionalProperties": name},
            },
            "limits": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "rounds": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": MOST_ROUNDS,
                        "description": "how often each branch of a loop may choose before the way to the end is taken",
                    }
                },
            },
        },
    }


def model_schema(definitions: dict[str, Any]) -> Schema:
    """A model: its name, or a backend with options."""
    options: dict[str, Schema] = {name: {"type": "object"} for name in names("models")}
    options["local"]["properties"] = {"plan": _plan(definitions)}
    named = {"type": "string", "description": "a name, a folder, a hub id or openai:MODEL@URL"}
    return {"description": "the model that answers", "anyOf": [named, _one_of(names("models"), options, "a backend")]}


def _plan(definitions: dict[str, Any]) -> Schema:
    from readthrough.compression.plan import DENSE, KEYS, Plan
    from readthrough.compression.store import FORMS, Store

    store = _options(Store, definitions)
    del store["properties"]["form"]
    said = described(Plan)
    properties = {}
    for key, (point, usual) in KEYS.items():
        one = part_schema(point, definitions, "") if point else _one_of(FORMS, dict.fromkeys(FORMS, store), "")
        properties[key] = {**one, "anyOf": [{"enum": [usual]}, *one["anyOf"]], "description": said[key]}
    plan = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"description": "how attention is computed; exactly where left out", "anyOf": [{"enum": [DENSE]}, plan]}


def _chunker() -> Schema:
    options = {}
    for name in names("chunkers"):
        properties = {
            option: {**TypeAdapter(kind).json_schema(), "default": default}
            for option, (kind, default) in chunker_options(name).items()
        }
        options[name] = {"type": "object", "properties": properties, "additionalProperties": False}
    return _one_of(list(options), options, "how texts are split; by their kind where left out")
