"""A text that names a keeper every twenty paragraphs, and a model that sees and names those in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import shelve

KEEPERS = ["Ann Weller", "Bob Marsh", "Carl Reed", "Dora Finch", "Emil Stone", "Fay Brook"]
COUNT = "How many keepers did the lighthouse have?"


def shelve_keepers(folder: Path) -> Shelf:
    """The text in a library of its own."""
    parts = ["The wind blew over the grey sea all day, and nobody came to the shore."] * 20 * len(KEEPERS)
    for number, name in enumerate(KEEPERS):
        parts[number * 20] = f"{name} became keeper number {number} of the lighthouse."
    (folder / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return shelve(folder / "home", folder / "book.txt")


def names_all(request: Request) -> str:
    """The keepers in front of it; of notes put together, and at the end, all that they name."""
    return ", ".join(name for name in KEEPERS if name in request.messages[-1].content) or "Nobody."


def sees_keepers(request: Request, options: Sequence[str]) -> list[float]:
    """Yes where a keeper is in front of it."""
    if list(options) != ["Yes", "No"]:
        return [1.0 / len(options)] * len(options)
    sure = any(name in request.messages[-1].content for name in KEEPERS)
    return [0.95, 0.05] if sure else [0.02, 0.98]


def counting() -> ScriptedModel:
    """A model that counts keepers."""
    return ScriptedModel(replies=names_all, choices=sees_keepers)
