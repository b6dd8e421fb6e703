"""What a batch is to do: which files of a folder, what is wanted of each, with what, and within what limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from readthrough.config import Settings, Spec
from readthrough.errors import ConfigError, UsageError
from readthrough.spec import names_file
from readthrough.types import Limits

Kind = Literal["ask", "extract", "summarize"]

WHOLE = "."
"""The path of the folder as a whole, for what is asked of all its documents together."""

_ANSWERING = ("model", "index", "embedder", "chunker", "encoding", "ocr", "base_url", "window_tokens")
"""The settings that change answers."""


@dataclass(frozen=True)
class Work:
    """One thing that is wanted of every document, or of the folder as a whole.

    Attributes:
        kind: what it is, as the output says it.
        question: what is asked; of an extraction or a summary, what it is about.
        choices: the options of a multiple-choice question.
        workflow: what answers it; the job's where it is None.
        whole: it is wanted of all documents together.
    """

    kind: Kind
    question: str
    choices: tuple[str, ...] | None = None
    workflow: Spec | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise UsageError("a question of the batch is empty")

    @property
    def id(self) -> str:
        """Names the work within its job, whatever it is answered with."""
        return digest([self.kind, self.question, self.choices, self.whole])[:16]


@dataclass(frozen=True)
class Job:
    """A batch.

    Attributes:
        folder: the folder of the documents.
        works: what is wanted.
        out: the file of the results; its suffix says how they are written.
        include: patterns of the files to take, as .gitignore writes them; empty for all.
        exclude: patterns of the files to leave out.
        recursive: take the files of folders within the folder too.
        options: options of the workflow.
        document_limits: the most that one document may take.
        limits: the most that all may take together, in this run.
        tries: after so many tries that got no further, a document is set aside.
        workers: how many documents are at work at a time; 0 for what fits the model.
    """

    folder: Path
    works: tuple[Work, ...]
    out: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    recursive: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    document_limits: Limits = field(default_factory=Limits)
    limits: Limits = field(default_factory=Limits)
    tries: int = 3
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.works:
            raise UsageError("the batch has nothing to do", hint="give it questions, --extract or --summarize")
        if len({work.id for work in self.works}) < len(self.works):
            raise UsageError("the batch asks the same twice")
        if self.tries < 1 or self.workers < 0:
            raise UsageError(f"tries = {self.tries}, workers = {self.workers}: both must be positive")

    @property
    def name(self) -> str:
        """Under which the table knows the job: the file of its results."""
        return str(self.out.absolute())

    def options_of(self, work: Work) -> Mapping[str, Any]:
        """The job's options of the workflow, where a work has none of its own."""
        return self.options if work.workflow is None else {}

    def works_of(self, path: str) -> tuple[Work, ...]:
        """What is wanted of one document, or of the folder as a whole."""
        return tuple(work for work in self.works if work.whole == (path == WHOLE))

    def recipe(self, work: Work, content: str, settings: Settings) -> str:
        """SHA-256 of all that an answer depends on: the document's `content` hash, the work, and what answers it.

        Raises:
            ConfigError: the workflow's file cannot be read.
        """
        kept = settings.to_keep()
        used = {name: kept[name] for name in _ANSWERING if name in kept}
        return digest([content, work.id, _said(work.workflow or settings.workflow), self.options_of(work), used])

    def describe(self) -> dict[str, Any]:
        """The job as plain values, for people who look at the table."""
        return {
            "folder": str(self.folder.absolute()),
            "works": [{"kind": work.kind, "question": work.question, "whole": work.whole} for work in self.works],
            "include": list(self.include),
            "exclude": list(self.exclude),
        }


def _said(workflow: Spec) -> Any:
    """A workflow's spec; where it names a file, what that says."""
    if not names_file(workflow):
        return workflow
    try:
        return Path(str(workflow)).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the workflow cannot be read: {error}", path=str(workflow)) from error


def digest(value: Any) -> str:
    """SHA-256 of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()
