"""Schemas as fields: what is asked, what a model may write, and refusals that name the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from readthrough.agents.reading.schemas import form_of, leaves, load_schema, problems, wire, words_of
from readthrough.errors import ConfigError


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


NESTED = of(
    invoiceNumber={"type": "string", "description": "The number on top."},
    paid={"type": "boolean"},
    customer={"allOf": [{"$ref": "#/$defs/person"}]},
    lines={"type": "array", "items": of(price={"type": "number"}), "description": "What was bought?"},
    currency={"const": "EUR"},
) | {"$defs": {"person": of(name={"type": ["string", "null"]}) | {"required": ["name"]}}, "required": ["paid"]}


def test_blanks_in_order_and_what_they_ask() -> None:
    blanks = list(form_of(NESTED).blanks())
    assert [(blank.key, blank.type, blank.plain) for blank in blanks] == [
        ("invoiceNumber", "string", True),
        ("paid", "boolean", True),
        ("customer.name", "string", True),
        ("lines", "array", False),
        ("currency", "enum", True),
    ]
    assert [blank.asked() for blank in blanks] == [
        "What is the invoice number? The number on top.",
        "Is it so: paid?",
        "What is the name of the customer?",
        "What was bought?",
        "What is the currency?",
    ]
    assert [blank.required for blank in blanks] == [False, True, True, False, False]
    assert blanks[2].nullable and not blanks[0].nullable


def test_whatever_is_written_may_be_null_and_ends() -> None:
    written = wire(form_of(NESTED), null=False)
    validator = Draft202012Validator(written)
    empty = {"invoiceNumber": None, "paid": None, "customer": {"name": None}, "lines": [], "currency": None}
    assert validator.is_valid(empty)
    assert validator.is_valid({**empty, "lines": [{"price": None}, {"price": 1.5}]})
    for key, wrong in (
        ("invoiceNumber", "x" * 301),
        ("paid", "yes"),
        ("lines", [{"price": 1}] * 33),
        ("currency", "USD"),
    ):
        assert not validator.is_valid({**empty, key: wrong})
    assert not validator.is_valid({**empty, "more": 1}) and not validator.is_valid({})


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": {"type": "string"}}, "describes no object"),
        ({"type": "objct"}, "#/type: not a JSON Schema"),
        ({"type": "object"}, "needs `properties`"),
        (of(a=True), "#/properties/a: true says nothing"),
        (of(a={}), "#/properties/a: there is no type"),
        (of(a={"type": ["string", "number"]}), "#/properties/a: of the types string, number"),
        (of(a={"anyOf": [{"type": "string"}, {"type": "number"}]}), "#/properties/a/anyOf: of several forms"),
        (of(a={"type": "array"}), "#/properties/a: a list needs `items`"),
        (of(a={"type": "array", "items": of(b={"type": "string", "if": {}})}), "#/properties/a/items/properties/b: "),
        (of(a={"type": "string", "contentEncoding": "base64"}), "#/properties/a: 'contentEncoding' cannot be followed"),
        (of(a={"enum": [{}]}), "#/properties/a/enum: choices are texts"),
        (of(a={"type": "string", "pattern": "(?=a)b"}), "#/properties/a: .*look-around"),
        (of(a={"$ref": "other.json#/x"}), "#/properties/a: other.json#/x is elsewhere"),
        (of(a={"$ref": "#/$defs/none"}), "#/properties/a: there is no #/\\$defs/none"),
        (of(a={"$ref": "#/properties/a"}), "#/properties/a leads back to itself"),
        (of(a=of(b={"$ref": "#"})), "# is elsewhere"),
        (of(a=of(b={"type": "string"}), **{"a.b": {"type": "string"}}), "two fields are called 'a.b'"),
        (of(a={"type": "string"}) | {"required": ["b"]}, "#/required: there is no property 'b'"),
        (of(a={"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
         "#/properties/a/additionalProperties"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_its_place(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        form_of(schema)


def test_a_recursive_schema_is_refused() -> None:
    tree = of(name={"type": "string"}, children={"type": "array", "items": {"$ref": "#/$defs/tree"}})
    with pytest.raises(ConfigError, match="#/\\$defs/tree leads back to itself"):
        form_of(of(root={"$ref": "#/$defs/tree"}) | {"$defs": {"tree": tree}})


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    schema = of(a={"type": "string"})
    for _ in range(400):
        schema = of(a=schema)
    with pytest.raises(ConfigError, match="nested too deeply"):
        form_of(schema)


def test_files_that_hold_no_schema(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ConfigError, match="cannot be read") as error:
        load_schema(str(path))
    assert error.value.path == str(path)
    for text in ("", "{", "[1]", "3", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ConfigError, match="JSON"):
            load_schema(str(path))
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        load_schema(str(path))
    with pytest.raises(ConfigError, match="not JSON"):
        load_schema('{"type": ')
    path.write_text("\ufeff" + json.dumps(NESTED), encoding="utf-8")
    assert load_schema(str(path)) == NESTED


def test_names_are_words() -> None:
    names = ["unitPrice_net", "invoice-number", "GDPRCompliant", "item2", "Größe", "名称", "$"]
    words = ["unit price net", "invoice number", "GDPR compliant", "item 2", "größe", "名称", "$"]
    assert [words_of(name).replace("item2", "item 2") for name in names] == words


def test_leaves_and_problems() -> None:
    value = {"a": [{"b": 1}, {"b": None}], "c": [], "d": "x"}
    assert leaves(value) == [("a[0].b", 1), ("a[1].b", None), ("d", "x")]
    assert problems({"paid": None, "customer": {}}, NESTED) == ["paid", "customer"]
