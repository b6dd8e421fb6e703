"""Atomic facts of a text: how a model is asked for them, how its reply is read, and the table that keeps them.

A row holds the facts of one span of a document, by one model and one prompt. It goes when its document goes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from readthrough.models.base import ModelBackend, Request

EXTRACT = """{text}

Write down the atomic facts of the text above, all of them, in its order and in its language. An atomic fact is one \
short sentence that states one thing and can be understood by itself: it has names where the text has pronouns. With \
each fact give its key elements: the names, nouns, numbers, verbs and adjectives that it is about, each as short as \
it would stand in an index."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "fact": {"type": "string", "maxLength": 300},
                    "key_elements": {"type": "array", "items": {"type": "string", "maxLength": 60}, "maxItems": 6},
                },
                "required": ["fact", "key_elements"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["facts"],
    "additionalProperties": False,
}

PROMPT_VERSION = hashlib.sha256(json.dumps([EXTRACT, SCHEMA]).encode()).hexdigest()[:12]

TABLE = """CREATE TABLE extracts (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, recipe TEXT NOT NULL, start INTEGER NOT NULL,
    stop INTEGER NOT NULL, facts TEXT NOT NULL, UNIQUE (document, recipe, start, stop))"""

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact with its key elements as the model wrote them, and the span of the sentence that it was made from."""

    text: str
    elements: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Extract:
    """The facts of the span `[start, end)` of a document; it may have none."""

    start: int
    end: int
    facts: tuple[Fact, ...]


def recipe(model: ModelBackend) -> str:
    """What must be the same for facts to be the same: the model and the prompt."""
    return f"{model.identity} {PROMPT_VERSION}"


def ask_for_facts(text: str, max_tokens: int) -> Request:
    """The request for the facts of a text."""
    return Request.user(EXTRACT.format(text=text), max_tokens=max_tokens, schema=SCHEMA)


def read_facts(reply: str) -> list[tuple[str, tuple[str, ...]]]:
    """The facts of a reply with their key elements, in order, each once; of one that was cut, those that are whole."""
    found: dict[str, tuple[str, ...]] = {}
    rest = reply.partition("[")[2]
    while rest := rest.lstrip(" ,\n"):
        try:
            item, end = _DECODER.raw_decode(rest)
        except json.JSONDecodeError:  # the end of the list, or of a reply that was cut
            break
        rest = rest[end:]
        if fact := _clean(item["fact"]):
            found.setdefault(fact, tuple(filter(None, map(_clean, item["key_elements"]))))
    return list(found.items())


def add(connection: sqlite3.Connection, recipe: str, rows: Iterable[tuple[int, Extract]]) -> None:
    """Keep extracts of the documents with these rows, in the caller's transaction; a row that is gone is passed over."""
    connection.executemany(
        """INSERT OR REPLACE INTO extracts (document, recipe, start, stop, facts)
        SELECT key, ?2, ?3, ?4, ?5 FROM documents WHERE key = ?1""",
        (
            (row, recipe, extract.start, extract.end, json.dumps([astuple(fact) for fact in extract.facts]))
            for row, extract in rows
        ),
    )


def load(connection: sqlite3.Connection, recipe: str, documents: Sequence[int]) -> Iterator[tuple[int, Extract]]:
    """The extracts of the rows `documents`, each with its row, in order."""
    select = """SELECT document, start, stop, facts FROM extracts WHERE recipe = ?
        AND document IN (SELECT value FROM json_each(?)) ORDER BY document, start, stop"""
    for row, start, end, facts in connection.execute(select, (recipe, json.dumps(list(documents)))):
        made = (Fact(text, tuple(elements), *span) for text, elements, *span in json.loads(facts))
        yield row, Extract(start, end, tuple(made))


def _clean(text: str) -> str:
    """One line, without the half characters that JSON can spell and no file can hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
