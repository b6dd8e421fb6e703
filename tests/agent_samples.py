"""What tests of the workflows share: a shelf of made-up books, and scripted models that read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs.services import Services
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Event
from tests.library_samples import open_library, story

FACT = "The brass key of the lighthouse was hidden under the third stair by Ann Weller."
QUESTION = "Who hid the brass key of the lighthouse?"


def write_book(folder: Path, paragraphs: int = 30, fact: str = FACT) -> Path:
    """A book of `paragraphs` paragraphs with one fact in the middle."""
    parts = story(7, paragraphs).split("\n\n")
    parts.insert(len(parts) // 2, fact)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "book.txt"
    path.write_text("\n\n".join(parts), encoding="utf-8")
    return path


def shelve(home: Path, *paths: Path) -> Shelf:
    """The shelf of some files, in a library that needs no weights."""
    return open_library(home).shelve(paths)


def says_what_it_reads(request: Request) -> str:
    """A model that answers `Ann Weller` where the fact is in front of it, and else passes on what it knew.

    A form is filled in with that, once in every place.
    """
    said = "Ann Weller hid it." if "Ann Weller" in request.messages[-1].content else "Nothing about it."
    return said if request.schema is None else json.dumps(fill_in(request.schema, said, request.schema))


def fill_in(schema: dict[str, Any], said: str, root: dict[str, Any]) -> Any:
    """A small value that satisfies a schema: lists have one item, texts are `said`, numbers the least they may be."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema["type"]
    if isinstance(kinds, list):
        return fill_in({**schema, "type": kinds[0]}, said, root)
    if kinds == "object":
        return {name: fill_in(part, said, root) for name, part in schema["properties"].items()}
    if kinds == "array":
        return [fill_in(schema["items"], said, root)]
    return said if kinds == "string" else schema.get("minimum", 0)


def decides(request: Request, options: Sequence[str]) -> list[float]:
    """Yes where the fact is in front of it; of numbered passages the one with the fact; else the first option."""
    prompt = request.messages[-1].content
    if list(options) == ["Yes", "No"]:
        return [0.95, 0.05] if "Ann Weller" in prompt else [0.05, 0.95]
    wanted = next((n for n in range(len(options)) if f"[{n + 1}] {FACT[:20]}" in prompt), 0)
    return [1.0 if place == wanted else 0.0 for place in range(len(options))]


def final(answer: Answer) -> dict[str, Any]:
    """What must be the same however a run went: all but its id and what it took."""
    return {key: value for key, value in answer.to_dict().items() if key not in ("run", "usage")}


def run(
    workflow: Workflow, shelf: Shelf, question: Question, model: ScriptedModel | None = None
) -> tuple[Answer, ScriptedModel, list[Event]]:
    """Run a workflow over a shelf with a scripted model: the answer, the model with its calls, the events."""
    model = model or ScriptedModel(replies=says_what_it_reads, choices=decides)
    events: list[Event] = []
    services = Services(model=model, shelf=shelf, runs=RunLog(), on_event=events.append)
    return workflow.run(question, services), model, events
