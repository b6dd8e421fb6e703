"""A JSON Schema as what is to be looked for in a text: values, forms of named fields, lists of like items.

What cannot be followed is refused here, with its place in the schema, before any model is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from readthrough.errors import ConfigError

Schema = dict[str, Any]
Kind = Literal["value", "form", "list"]

TEXT_CHARACTERS = 300
"""The most characters of a text where the schema sets no `maxLength`: a model that goes round in circles must end."""
LIST_ITEMS = 32
"""The most items that are written at once where the schema sets no `maxItems`."""

_ANNOTATIONS = frozenset((
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly",
))  # fmt: skip
_OF_VALUES = frozenset((
    "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf",
))  # fmt: skip
_OF_KIND: dict[Kind, frozenset[str]] = {
    "value": _OF_VALUES | {"enum", "const"},
    "form": frozenset({"properties", "required", "additionalProperties"}),
    "list": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
}
_KINDS: dict[str, Kind] = dict.fromkeys(("string", "number", "integer", "boolean"), "value")
_KINDS |= {"object": "form", "array": "list"}
_UNIONS = ("anyOf", "oneOf", "allOf")
# Other formats say what a text means, and hold for any.
_FORMATS = frozenset(("date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"))
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a schema.

    Attributes:
        path: the names that lead to it; those within an item of a list begin at the item.
        kind: `value`, `form` or `list`.
        schema: the part itself, without references and without null.
        nullable: whether it may be null.
        required: whether it must be there.
        fields: those of a form, in order.
        item: that of a list.
    """

    path: tuple[str, ...]
    kind: Kind
    schema: Schema
    nullable: bool
    required: bool
    fields: tuple[Field, ...] = ()
    item: Field | None = None

    @property
    def key(self) -> str:
        """The path as one name."""
        return ".".join(self.path)

    @property
    def type(self) -> str:
        """The JSON type: `string`, `number`, `integer`, `boolean`, `object`, `array`, or `enum`."""
        return "enum" if "enum" in self.schema else str(self.schema["type"])

    @property
    def is_date(self) -> bool:
        """Whether it is a day, which the answer has as `YYYY-MM-DD`."""
        return self.schema.get("format") == "date" and self.type == "string"

    @property
    def plain(self) -> bool:
        """Whether it is a value, or a list of values."""
        return self.kind == "value" or (self.item is not None and self.item.kind == "value")

    @property
    def options(self) -> tuple[Any, ...]:
        """The values to choose from, where it is a choice; yes and no are one."""
        return (True, False) if self.type == "boolean" else tuple(self.schema.get("enum", ()))

    def blanks(self) -> Iterator[Field]:
        """What is looked for by itself: the values and lists of a form and of the forms in it, in order."""
        if self.kind != "form":
            yield self
        for field in self.fields:
            yield from field.blanks()

    def asked(self) -> str:
        """What is looked for, as a question."""
        described = str(self.schema.get("description", "")).strip()
        if described.endswith("?"):
            return described
        *around, own = (words_of(name) for name in self.path or ("value",))
        named = str(self.schema.get("title") or own)
        of = f" of the {around[-1]}" if around else ""
        form = {"value": "What is the {}{}?", "list": "What are the {}{}?", "form": "What is the {}{}?"}[self.kind]
        if self.type == "boolean":
            form = "Is it so: {}{}?"
        return f"{form.format(named, of)} {described}".strip()


def words_of(name: str) -> str:
    """The words of a name: `unitPrice_net` -> `unit price net`."""
    parts = _NAME_PARTS.findall(name)
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in parts) or name


def load_schema(given: Mapping[str, Any] | str) -> Schema:
    """The schema that `given` is: a mapping, JSON text, or the path of a file.

    Raises:
        ConfigError: the file cannot be read, or it is no JSON object.
    """
    if isinstance(given, Mapping):
        return dict(given)
    path = None if given.lstrip().startswith("{") else given
    text = given if path is None else _read(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the schema is not JSON: {error}", path=path, hint="it begins with {") from error
    if not isinstance(value, dict):
        raise ConfigError(f"the schema is not a JSON object but {value!r:.60}", path=path)
    return value


def form_of(schema: Schema) -> Field:
    """The form that a JSON Schema describes.

    Raises:
        ConfigError: it is no JSON Schema, does not describe an object, or cannot be followed; the message names the
            place in the schema.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
        form = _Reader(schema).field(schema, "", (), required=True)
    except SchemaError as error:
        raise _wrong("/".join(map(str, error.absolute_path)), f"not a JSON Schema: {error.message}") from error
    except RecursionError as error:
        raise _wrong("", "it is nested too deeply") from error
    if form.kind != "form":
        raise _wrong(
            "",
            f"the schema describes no object but one of type {form.type}",
            hint='it must be {"type": "object", "properties": ...}',
        )
    keys = [blank.key for blank in form.blanks()]
    for number, blank in enumerate(form.blanks()):
        if blank.key in keys[:number]:
            raise _wrong("", f"two fields are called {blank.key!r}", hint="take the dot out of a name")
        _check_grammar(blank)
    return form


def wire(field: Field, null: bool = True) -> Schema:
    """What a model's reply must satisfy for a field: as the schema says, but anything may be null, and texts end."""
    if field.kind == "form":
        made = reply_schema({part.path[-1]: wire(part) for part in field.fields})
    elif field.kind == "list":
        item: Any = field.item
        most = min(field.schema.get("maxItems", LIST_ITEMS), LIST_ITEMS)
        return {"type": "array", "items": wire(item, null=item.kind == "form" and item.nullable), "maxItems": most}
    elif "enum" in field.schema:
        return {"enum": [*field.schema["enum"], None] if null else field.schema["enum"]}
    else:
        made = {name: field.schema[name] for name in _OF_VALUES if name in field.schema}
        made["type"] = field.schema["type"]
        if made.get("format") not in _FORMATS or field.is_date:
            made.pop("format", None)
        if made["type"] == "string" and not {"maxLength", "format", "pattern"} & made.keys():
            made["maxLength"] = TEXT_CHARACTERS
    return {**made, "type": [made["type"], "null"]} if null else made


def reply_schema(properties: Schema) -> Schema:
    """An object with these properties, all of them, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaf fields of a JSON value in order, each with its path (`items[0].price`): `supports` counts these."""
    if isinstance(value, Mapping):
        return [leaf for name, part in value.items() for leaf in leaves(part, f"{path}.{name}" if path else str(name))]
    if isinstance(value, list):
        return [leaf for number, part in enumerate(value) for leaf in leaves(part, f"{path}[{number}]")]
    return [(path, value)]


def problems(value: Any, schema: Schema) -> list[str]:
    """Where a value does not satisfy a schema: the paths of what is missing or does not fit."""
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(schema).iter_errors(value)
    return [".".join(map(str, problem.absolute_path)) or "the form" for problem in found]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the parts of one schema."""

    root: Schema

    def field(
        self, schema: Any, place: str, path: tuple[str, ...], required: bool, seen: tuple[str, ...] = ()
    ) -> Field:
        """The part `schema`, which stands at `place` behind the references `seen`."""
        schema, nullable, seen = self._plain(schema, place, seen)
        kind = _kind(schema, place)
        for name in schema:
            if name not in _OF_KIND[kind] | _ANNOTATIONS | {"type"} and not name.startswith("x-"):
                raise _wrong(place, f"{name!r} cannot be followed", hint="take it out of the schema")
        if kind == "form":
            return Field(path, kind, schema, nullable, required, fields=self._fields(schema, place, path, seen))
        if kind == "list":
            if "items" not in schema:
                raise _wrong(place, "a list needs `items`", hint='"items": {"type": "string"}')
            item = self.field(schema["items"], f"{place}/items", (), True, seen)
            return Field(path, kind, schema, nullable, required, item=item)
        return Field(path, kind, schema, nullable, required)

    def _fields(self, schema: Schema, place: str, path: tuple[str, ...], seen: tuple[str, ...]) -> tuple[Field, ...]:
        named, needed = schema.get("properties", {}), schema.get("required", ())
        if not named:
            raise _wrong(place, "an object needs `properties`")
        for name in needed:
            if name not in named:
                raise _wrong(f"{place}/required", f"there is no property {name!r}")
        if isinstance(schema.get("additionalProperties"), dict):
            raise _wrong(f"{place}/additionalProperties", "only true and false can be followed")
        return tuple(
            self.field(part, f"{place}/properties/{name}", (*path, name), name in needed, seen)
            for name, part in named.items()
        )

    def _plain(self, schema: Any, place: str, seen: tuple[str, ...]) -> tuple[Schema, bool, tuple[str, ...]]:
        """A part without references, unions and null; whether it may be null; the references it was found behind."""
        if not isinstance(schema, dict):
            raise _wrong(place, f"{json.dumps(schema)} says nothing of what is wanted", hint='"type": "string"')
        schema, nullable = dict(schema), False
        while union := next((name for name in (*_UNIONS, "$ref") if name in schema), None):
            if union == "$ref":
                reference = schema.pop("$ref")
                if reference in seen:
                    raise _wrong(place, f"{reference} leads back to itself", hint="a form must have an end")
                seen = (*seen, reference)
                schema = {**self._resolve(reference, place), **schema}
                continue
            given = schema.pop(union)
            parts = [part for part in given if part != {"type": "null"}]
            if len(parts) != 1 or not isinstance(parts[0], dict):
                raise _wrong(f"{place}/{union}", "of several forms one must be chosen", hint="a part, or null")
            nullable |= len(parts) < len(given)
            schema = {**parts[0], **schema}
        types = schema.get("type", [])
        nullable |= "null" in types and isinstance(types, list)
        if None in schema.get("enum", ()):
            schema, nullable = {**schema, "enum": [value for value in schema["enum"] if value is not None]}, True
        return schema, nullable, seen

    def _resolve(self, reference: str, place: str) -> Schema:
        found: Any = self.root
        if not reference.startswith("#/"):
            raise _wrong(place, f"{reference} is elsewhere: only `#/$defs/...` is followed")
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise _wrong(place, f"there is no {reference}")
        return found


def _kind(schema: Schema, place: str) -> Kind:
    """The kind of a part; its type stands in it alone from then on."""
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "enum" in schema:
        if not schema["enum"] or any(isinstance(value, dict | list) for value in schema["enum"]):
            raise _wrong(f"{place}/enum", "choices are texts, numbers or truth values, one at least")
        schema.pop("type", None)
        return "value"
    given = schema.get("type")
    if given is None:
        given = "object" if "properties" in schema else "array" if "items" in schema else None
    types = [each for each in ([given] if isinstance(given, str) else given or []) if each != "null"]
    if len(types) != 1:
        wrong = f"of the types {', '.join(types)} one must be chosen" if types else "there is no type"
        raise _wrong(place, wrong, hint='"type": "string"; or ["string", "null"]')
    schema["type"] = types[0]
    return _KINDS[types[0]]


def _check_grammar(field: Field) -> None:
    from llguidance import LLMatcher

    grammar = LLMatcher.grammar_from_json_schema(json.dumps(wire(field)))
    if problem := LLMatcher.validate_grammar(grammar):
        raise _wrong(
            "".join(f"/properties/{name}" for name in field.path),
            " ".join(problem.split()),
            hint="simplify the pattern or the limits",
        )


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError, ValueError) as error:  # no such file, no such home, not UTF-8, a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"the schema cannot be read: {reason}", path=path, hint="a file, or JSON text") from error


def _wrong(place: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"schema, at #{place and '/' + place.lstrip('/')}: {message}", hint=hint)
