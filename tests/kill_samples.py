"""Runs that are killed at a chosen moment, in processes of their own; what the tests and a benchmark share.

A moment is a call of the model, a step's line in the run log, or a write of the checkpoints.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readthrough import catalogue
from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.spec.flow import Around, open_flow
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.spec import names_file
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve
from tests.library_samples import open_library

# Its processes begin as copies of one that has imported everything and done nothing: quick, and safe to copy.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.kill_samples", "langgraph.graph", "langgraph.checkpoint.sqlite"])

WINDOW_TOKENS = 4096


GRAPHS = [str(path) for path in sorted((Path(__file__).parents[1] / "examples" / "graphs").glob("*.yaml"))]
"""The example graphs; each is a workflow here."""


@dataclass(frozen=True)
class Case:
    """A workflow, by its name or its file, over a book, in a home folder; the checkpoints there, or in a database."""

    workflow: str
    home: Path
    book: Path
    database: str | None = None

    def flow(self) -> Workflow:
        """The workflow with its default options, but for an index that needs no vectors, and a model that is given."""
        if names_file(self.workflow):
            return open_flow(self.workflow, Around(given=frozenset({"model", "index"}), index="bm25")).workflow
        part = catalogue.find("workflows", self.workflow)
        flow: Workflow = part(index="bm25") if "index" in part.__dataclass_fields__ else part()
        return flow


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or how far it came.

    Attributes:
        answer: the Answer as JSON without run and usage; None for a killed run.
        calls: how often the model was called.
        moments: how many moments there were.
        largest_step_calls: the most calls of one step, as the run log has them.
        steps: the steps in the run log.
    """

    answer: str | None
    calls: int
    moments: int
    largest_step_calls: int
    steps: int


class _Moments:
    """Counts moments, in a file that outlives the process, and ends the process at the chosen one."""

    def __init__(self, path: Path, kill_at: int | None) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self._kill_at = kill_at
        self._count = 0
        self._lock = threading.Lock()

    def pass_by(self, kind: bytes) -> None:
        with self._lock:  # checkpoints are written by threads
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self._count += 1
            os.write(self._file, kind)


def prepared(workflow: str, home: Path, book: Path) -> Case:
    """A case whose book is in the library already."""
    library = open_library(home)
    library.shelve([book])
    library.close()
    return Case(workflow, home, book)


def copied(case: Case, home: Path) -> Case:
    """The case in a copy of its home folder."""
    shutil.copytree(case.home, home)
    return replace(case, home=home)


def go(case: Case, resumed: str | None = None, kill_at: int | None = None) -> Outcome:
    """Run a case, or go on with the run `resumed`, in another process, which is killed at the moment `kill_at`."""
    process = _PROCESSES.Process(target=_work, args=(case, resumed, kill_at))
    (case.home / "answer.json").unlink(missing_ok=True)
    process.start()
    process.join()
    killed = process.exitcode == -signal.SIGKILL
    if not killed and process.exitcode != 0:
        raise RuntimeError(f"{case.workflow}: the process ended with {process.exitcode}")
    moments = (case.home / "moments").read_bytes()
    runs = RunLog(case.home / "runs.sqlite")
    steps = runs.steps(runs.find("last").id) if runs.runs() else []
    runs.close()
    return Outcome(
        None if killed else (case.home / "answer.json").read_text(encoding="utf-8"),
        moments.count(b"c"),
        len(moments),
        max((step.usage.calls for step in steps), default=0),
        len(steps),
    )


def latest_run(case: Case) -> str | None:
    """The id of the latest run, None where there is none yet."""
    runs = RunLog(case.home / "runs.sqlite")
    found = runs.runs(most=1)
    runs.close()
    return found[0].id if found else None


def _work(case: Case, resumed: str | None, kill_at: int | None) -> None:
    moments = _Moments(case.home / "moments", kill_at)
    runs = RunLog(case.home / "runs.sqlite")
    with open_saver(case.database or case.home / "checkpoints.sqlite") as saver:
        _watch(runs, "log", moments, b"l")
        _watch(saver, "put", moments, b"p")
        _watch(saver, "put_writes", moments, b"w")

        def replies(request: Request) -> str:
            moments.pass_by(b"c")
            return says_what_it_reads(request)

        def choices(request: Request, options: Any) -> list[float]:
            moments.pass_by(b"c")
            return decides(request, options)

        model = ScriptedModel(replies=replies, choices=choices, window_tokens=WINDOW_TOKENS)
        _watch(model, "_likelihood", moments, b"c")
        services = Services(model, shelve(case.home, case.book), runs)
        if resumed is None:
            answer = run(case.flow(), Question(QUESTION), services, saver)
        else:
            services.run = resumed
            answer = resume(case.flow(), Question(QUESTION), services, saver)
    values = answer.to_dict()
    del values["run"], values["usage"]
    (case.home / "answer.json").write_text(json.dumps(values), encoding="utf-8")


def _watch(whose: Any, method: str, moments: _Moments, kind: bytes) -> None:
    inner = getattr(whose, method)

    def watched(*arguments: Any, **options: Any) -> Any:
        moments.pass_by(kind)
        return inner(*arguments, **options)

    setattr(whose, method, watched)
