"""What can be wanted of a document: answers to questions, fields of a schema, a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from readthrough.agents.reading.extracting import EXTRACT
from readthrough.agents.reading.extracting import WORKFLOW as EXTRACTION
from readthrough.agents.reading.schemas import form_of, load_schema
from readthrough.agents.reading.summarizing import WORKFLOW as SUMMARY
from readthrough.agents.reading.summarizing import summary_question
from readthrough.batch.job import Work
from readthrough.questions import Asked


def asks(questions: Iterable[Asked], whole: bool = False) -> list[Work]:
    """Questions of every document, or of the folder as a whole."""
    return [Work("ask", each.text, each.choices, whole=whole) for each in questions]


def extraction(schema: str | Mapping[str, Any], whole: bool = False) -> Work:
    """The fields of a JSON Schema: a mapping, the path of a file, or JSON.

    Raises:
        ConfigError: it cannot be read, or is no schema that can be filled in.
    """
    wanted = load_schema(schema)
    form_of(wanted)
    return Work("extract", EXTRACT, workflow={EXTRACTION: {"schema": wanted}}, whole=whole)


def summary(words: int | None = None, focus: str | None = None, whole: bool = False) -> Work:
    """A summary in about `words` words, of all or of what is said about `focus`.

    Raises:
        UsageError: `focus` is empty.
    """
    options = {} if words is None else {"words": words}
    return Work("summarize", summary_question(focus), workflow={SUMMARY: options}, whole=whole)
