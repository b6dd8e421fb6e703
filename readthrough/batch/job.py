"""What a batch is to do: which files of a folder, what is wanted of each, with what, and within what limits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from readthrough.agents.base import Question
from readthrough.config import Settings, Spec
from readthrough.documents.folder import display_name
from readthrough.errors import ConfigError, UsageError
from readthrough.spec import names_file
from readthrough.types import Limits

Kind = Literal["ask", "extract", "summarize"]
Engine = Literal["threads", "ray"]

WHOLE = "."
"""The path of the folder as a whole, for what is asked of all its documents together."""

_ANSWERING = ("model", "index", "embedder", "chunker", "encoding", "ocr", "as_of", "base_url", "window_tokens")
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
        Question(self.question, self.choices)  # what is wrong with it would be wrong for every document

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
        abstain_below: an answer to a question of a lower confidence (0 to 1) is refused.
        tries: after so many tries that got no further, a document is set aside.
        workers: how many documents are at work at a time; 0 for what fits the model.
        engine: what the workers are: threads of this process, or actors of Ray with a model each.
        gpus_a_worker: the share of a GPU that each actor takes; None for a whole one where a local model finds one.
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
    abstain_below: float | None = None
    tries: int = 3
    workers: int = 0
    engine: Engine = "threads"
    gpus_a_worker: float | None = None

    def __post_init__(self) -> None:
        if not self.works:
            raise UsageError("the batch has nothing to do", hint="give it questions, --extract or --summarize")
        if len({work.id for work in self.works}) < len(self.works):
            raise UsageError("the batch asks the same twice")
        if self.tries < 1 or self.workers < 0:
            raise UsageError(f"tries = {self.tries}, workers = {self.workers}: both must be positive")
        Limits(abstain_below=self.abstain_below)  # which says what is wrong with it
        if self.gpus_a_worker is not None and (self.engine != "ray" or self.gpus_a_worker < 0):
            raise UsageError(f"gpus a worker = {self.gpus_a_worker}: a positive number, for --engine ray")

    @property
    def name(self) -> str:
        """Under which the table knows the job: the file of its results."""
        return name_of(self.out)

    def absolute(self) -> Job:
        """The same job for a process that is at work in another folder."""
        return replace(self, folder=self.folder.absolute(), out=self.out.absolute())

    def options_of(self, work: Work) -> Mapping[str, Any]:
        """The job's options of the workflow, where a work has none of its own."""
        return self.options if work.workflow is None else {}

    def limits_of(self, work: Work) -> Limits:
        """What one answer of its own has to keep; what all have to keep together is no part of it."""
        return Limits(abstain_below=self.abstain_below if work.kind == "ask" else None)

    def works_of(self, path: str) -> tuple[Work, ...]:
        """What is wanted of one document, or of the folder as a whole."""
        return tuple(work for work in self.works if work.whole == (path == WHOLE))

    def describe(self) -> dict[str, Any]:
        """The job as plain values, for people who look at the table."""
        return {
            "folder": display_name(self.folder.absolute()),
            "works": [
                {"id": work.id, "kind": work.kind, "question": work.question, "whole": work.whole}
                for work in self.works
            ],
            "include": list(self.include),
            "exclude": list(self.exclude),
        }


class Recipes:
    """What the answers of a job are made of; an answer need not be asked for where there is one of the same recipe."""

    def __init__(self, job: Job, settings: Settings) -> None:
        """Look at the settings and at the workflows' files, once: what changes later is for the next run.

        Raises:
            ConfigError: a workflow's file cannot be read.
        """
        kept = settings.to_keep()
        used = {name: kept[name] for name in _ANSWERING if name in kept}
        self._job = job
        self._made_with = {
            work.id: [
                _said(work.workflow or settings.workflow),
                job.options_of(work),
                used,
                *([] if (below := job.limits_of(work).abstain_below) is None else [below]),
            ]
            for work in job.works
        }

    def of(self, path: str, content: str) -> dict[str, str]:
        """The recipe of each work on a document, by the work's id: SHA-256 of `content`, the work and what does it."""
        return {work.id: digest([content, work.id, *self._made_with[work.id]]) for work in self._job.works_of(path)}


def name_of(out: Path) -> str:
    """The name of the job that writes `out`."""
    return display_name(os.path.abspath(out))


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
