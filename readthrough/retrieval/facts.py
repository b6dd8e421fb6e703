"""Atomic facts of a text: how a model is asked for them, how its reply is read, and the table that keeps them.

A row holds the facts of one span of a document, by one model and one prompt. It goes when its document goes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from typing import Any

from readthrough.models.base import ModelBackend, Request
from readthrough.types import Chunk

EXTRACT = """{passages}

Write down the atomic facts of each passage above, in the order and in the language of the text. An atomic fact is one \
short sentence that states one thing and can be understood by itself: it has names where the text has pronouns. With \
each fact give its key elements: the names, nouns, numbers, verbs and adjectives that it is about, each as short as \
it would stand in an index. Reply in JSON, with the facts of each passage under its number."""

_FACT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "fact": {"type": "string", "maxLength": 300},
        "key_elements": {"type": "array", "items": {"type": "string", "maxLength": 60}, "maxItems": 4},
    },
    "required": ["fact", "key_elements"],
    "additionalProperties": False,
}
_FACTS_A_PASSAGE = 5

TABLE = """CREATE TABLE extracts (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, recipe TEXT NOT NULL, start INTEGER NOT NULL,
    stop INTEGER NOT NULL, facts TEXT NOT NULL, UNIQUE (document, recipe, start, stop))"""

Said = list[tuple[str, tuple[str, ...]]]
"""Facts as a model wrote them, each with its key elements."""


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
    return recipe_of(model, EXTRACT, schema(1))


def recipe_of(model: ModelBackend, *asked: Any) -> str:
    """What must be the same for a reply to be the same: the model, and what it was asked, as plain values."""
    return f"{model.identity} {hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}"


def schema(passages: int) -> dict[str, Any]:
    """The form of a reply about `passages` numbered passages.

    Each has its place in it, with a fact at least, so that a model that is held to the form goes on through the text:
    a small one would write the same fact again and again, or none at all.
    """
    numbers = [str(number) for number in range(1, passages + 1)]
    return {
        "$defs": {"facts": {"type": "array", "items": _FACT, "minItems": 1, "maxItems": _FACTS_A_PASSAGE}},
        "type": "object",
        "properties": {number: {"$ref": "#/$defs/facts"} for number in numbers},
        "required": numbers,
        "additionalProperties": False,
    }


def ask_for_facts(passages: str, count: int, max_tokens: int) -> Request:
    """The request for the facts of `count` numbered passages."""
    return Request.user(EXTRACT.format(passages=passages), max_tokens=max_tokens, schema=schema(count))


def read_facts(reply: str) -> list[Said]:
    """The facts of each passage in order; of a reply that was cut, what is whole."""
    return [
        [(one_line(item["fact"]), tuple(filter(None, map(one_line, item["key_elements"])))) for item in items]
        for items in whole_json(reply).values()
    ]


def whole_json(reply: str) -> dict[str, list[dict[str, Any]]]:
    """The value of a reply, an object of lists of objects, or of as much of it as can be closed to make one."""
    text, end = reply, len(reply)
    while True:
        try:
            value: dict[str, list[dict[str, Any]]] = json.loads(text)
            return value
        except json.JSONDecodeError:
            end = reply.rfind("}", 0, end)
            if end < 0:
                return {}
            text = reply[: end + 1] + "]}"


def add(connection: sqlite3.Connection, recipe: str, rows: Iterable[tuple[int, Extract]]) -> None:
    """Keep extracts, each with its document's row (one that is gone is passed over), in the caller's transaction."""
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


def uncovered(chunks: Sequence[Chunk], extracts: Sequence[Extract]) -> list[list[int]]:
    """The runs of chunks of a document, by their ids, that its extracts (in order) do not reach over."""
    starts = [extract.start for extract in extracts]
    ends = list(accumulate((extract.end for extract in extracts), max))
    runs: list[list[int]] = [[]]
    for chunk in chunks:
        begun = bisect_right(starts, chunk.start)
        if not begun or ends[begun - 1] < chunk.end:
            runs[-1].append(chunk.id)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def one_line(text: str) -> str:
    """One line, without the half characters that JSON can spell and no file can hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
