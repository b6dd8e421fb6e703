"""Answers about texts longer than a model's window, with verified evidence.

    import readthrough as rt

    book = rt.read("book.epub")
    answer = book.ask("Who is the keeper of the light?")
    print(answer, answer.evidence)

Importing this package is quick: torch, transformers and langgraph are loaded when a book is read or asked.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from readthrough.api import Book as Book
    from readthrough.api import read as read
    from readthrough.batch.api import run_batch as run_batch
    from readthrough.errors import ReadthroughError as ReadthroughError
    from readthrough.filters import Filter as Filter
    from readthrough.questions import Asked as Asked
    from readthrough.resuming import resume as resume
    from readthrough.types import Answer as Answer
    from readthrough.types import Coverage as Coverage
    from readthrough.types import Document as Document
    from readthrough.types import Event as Event
    from readthrough.types import Evidence as Evidence
    from readthrough.types import Hit as Hit
    from readthrough.types import Limits as Limits

_EXPORTS = {
    "Answer": "readthrough.types",
    "Asked": "readthrough.questions",
    "Book": "readthrough.api",
    "Coverage": "readthrough.types",
    "Document": "readthrough.types",
    "Event": "readthrough.types",
    "Evidence": "readthrough.types",
    "Filter": "readthrough.filters",
    "Hit": "readthrough.types",
    "Limits": "readthrough.types",
    "ReadthroughError": "readthrough.errors",
    "read": "readthrough.api",
    "resume": "readthrough.resuming",
    "run_batch": "readthrough.batch.api",
}

__all__ = [*_EXPORTS, "__version__"]  # noqa: PLE0604  all of them are strings


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
