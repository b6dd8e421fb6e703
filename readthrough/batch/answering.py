"""One worker of a batch: takes a document, answers what is wanted of it, and keeps each answer at once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.api import Book
from readthrough.batch.files import on_disk
from readthrough.batch.job import WHOLE, Job, Work
from readthrough.batch.table import Claim, Result, ResultState, State, Table
from readthrough.config import Settings
from readthrough.documents.load import is_document
from readthrough.errors import (
    CircuitOpenError,
    ConfigError,
    EndpointError,
    InputError,
    LibraryError,
    NotTextError,
    ReadthroughError,
    UsageError,
    WeightsError,
)
from readthrough.memory.runs import new_run
from readthrough.models.gathering import calling
from readthrough.opening import Models, Texts
from readthrough.types import Answer, Usage

if TYPE_CHECKING:
    from readthrough.memory.library import Library
    from readthrough.memory.runs import RunLog
    from readthrough.memory.shelf import Shelf

PAUSE_SECONDS = 1.0
"""Before an endpoint that failed is asked again; longer each time."""

_FATAL = (LibraryError, WeightsError, ConfigError)
"""What would fail for every other document as well."""


class LentBook(Book):
    """A Book whose library, models and run log are the batch's own, and stay open."""

    def __init__(self, tools: Tools, shelf: Shelf, texts: Texts) -> None:
        super().__init__(tools.library, shelf, tools.settings, texts=texts)
        self._tools = tools
        self._models = tools.models
        self._runs = tools.runs

    def has(self, run: str) -> bool:
        """Whether the run was begun."""
        return self.runs.has(run)

    def beside(self) -> LentBook:
        """Another over the same texts: a book answers one question at a time."""
        return LentBook(self._tools, self._shelf, self._texts)

    def close(self) -> None:
        """Nothing of it is this book's own."""


@dataclass(frozen=True)
class Tools:
    """What all workers of a process share."""

    library: Library
    models: Models
    runs: RunLog
    settings: Settings
    side_by_side: Executor | None = None
    """Answers the questions of a document beside each other; None where they take turns."""


def read_document(job: Job, table: Table, tools: Tools, path: str) -> LentBook:
    """A document of a batch as a Book; of the folder as a whole, all that could be read.

    Raises:
        InputError: it cannot be read.
    """
    names = [path]
    if path == WHOLE:
        names = [row.path for row in table.documents(job.name) if row.state == "done" and row.path != WHOLE]
        if not names:
            raise InputError("there is no document that can be read", path=str(job.folder))
    texts = Texts([on_disk(job.folder, name) for name in names], given=frozenset({"model"}))
    return LentBook(tools, texts.shelve(tools.library, tools.settings), texts)


class Stop:
    """Whether the workers are to end: when what they are at is done, or because something is wrong for all."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.error: BaseException | None = None

    def set(self, error: BaseException | None = None) -> None:
        """Let them end; the first error is what the batch ends with."""
        self.error = self.error or error
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than until it is set; whether it is."""
        return self._event.wait(seconds)


class Worker:
    """Answers documents one after the other, under a name that its leases bear."""

    def __init__(
        self, name: str, job: Job, table: Table, tools: Tools, stop: Stop, on_result: Callable[[Work, Result], None]
    ) -> None:
        self._name = name
        self._job = job
        self._table = table
        self._tools = tools
        self._stop = stop
        self._on_result = on_result

    def answer(self, claim: Claim) -> None:
        """Answer what is open of a document, and give it back."""
        path = claim.path
        wanted = self._open_works(claim)
        if self._is_poison(claim, wanted):
            what = f"given up after {claim.tries - 1} tries that got no further: the process died each time"
            error = {"type": "DocumentError", "message": what, "path": path, "hint": "`readthrough batch retry`"}
            self._table.leave(self._job.name, self._name, path, "aside", error)
            return
        book: LentBook | None = None
        try:
            if any(work.whole for work in self._job.works):
                book = read_document(self._job, self._table, self._tools, path)  # what cannot be must be known by then
            wanted = [(work, recipe) for work, recipe in wanted if not self._copied(path, work, recipe)]
            if wanted:
                book = book or read_document(self._job, self._table, self._tools, path)
            state: State = "done" if book is None or self._ask(path, wanted, book) else "waiting"
        except InputError as error:
            passed_over = isinstance(error, NotTextError) and not is_document(Path(path))
            state = "skipped" if passed_over else "failed"
            self._table.leave(self._job.name, self._name, path, state, self._told(error))
        else:
            self._table.leave(self._job.name, self._name, path, state)

    def _ask(self, path: str, wanted: list[tuple[Work, str]], book: LentBook) -> bool:
        """Keep the answers to what is wanted of a document; whether there was time for all of it."""

        def one(work: Work, recipe: str) -> bool:
            if self._stop:
                return False
            with calling(book.model):
                self._keep(work, self._asked(path, work, recipe, book.beside()))
            return True

        pool = self._tools.side_by_side
        each = map if pool is None else pool.map
        return all(list(each(one, *zip(*wanted, strict=True)))) if wanted else True

    def _open_works(self, claim: Claim) -> list[tuple[Work, str]]:
        """What has no answer yet, with the recipe of the answer."""
        done = {key: row.recipe for key, row in self._results(claim.path).items() if row.state in ("done", "failed")}
        recipes = [
            (work, self._job.recipe(work, claim.content, self._tools.settings)) for work in self._works(claim.path)
        ]
        return [(work, recipe) for work, recipe in recipes if done.get(work.id) != recipe]

    def _is_poison(self, claim: Claim, wanted: list[tuple[Work, str]]) -> bool:
        """Whether too many tries got no further than the one before; a step that was done since is further."""
        open_runs = [row.run for row in self._results(claim.path).values() if row.state == "open"]
        done = len(self._works(claim.path)) - len(wanted)
        steps = sum((len(self._tools.runs.steps(run)) for run in open_runs), done * _STEPS)
        if steps > claim.steps:
            self._table.forward(self._job.name, claim.path, steps)
            return False
        return claim.tries > self._job.tries

    def _copied(self, path: str, work: Work, recipe: str) -> bool:
        """Take the answer of a document with the same content, unless it speaks of that one by its path."""
        twin = self._table.twin(recipe)
        answer = twin.answer if twin is not None else None
        if twin is None or answer is None or twin.path in answer["answer"]:
            return False
        self._keep(work, replace(twin, path=path, work=work.id, answer=self._moved(answer, twin.path, path)))
        return True

    def _asked(self, path: str, work: Work, recipe: str, book: LentBook) -> Result:
        """The answer to one work, after as many tries as it takes and may take."""
        begun = self._begun(path, work, recipe)
        for tried in count(1):
            try:
                answer = self._run(begun, work, book)
                break
            except EndpointError as error:
                pause_seconds = PAUSE_SECONDS * 2 ** (tried - 1)
                if isinstance(error, CircuitOpenError):
                    pause_seconds += error.again_seconds
                if tried == self._job.tries or self._stop.wait(pause_seconds):
                    return self._failed(begun, error)
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001  a mistake with one document must not end a batch of hours
                return self._failed(begun, error)
        told = self._told_answer(path, answer)
        state: ResultState = "stopped" if answer.resumable else "done"
        return replace(begun, state=state, run=answer.run, answer=told, finished=time.time())

    def _begun(self, path: str, work: Work, recipe: str) -> Result:
        """The open result of a work, with the run that a worker before left, unless that one is still at it."""
        before = self._results(path).get(work.id)
        mine = before is not None and before.recipe == recipe and not self._tools.runs.is_held(before.run)
        result = Result(path, work.id, recipe, "open", before.run if before is not None and mine else new_run())
        self._table.keep(self._job.name, result)  # before its first call: whoever comes after a kill finds the run
        return result

    def _run(self, begun: Result, work: Work, book: LentBook) -> Answer:
        """Go on with the run of a work where there is one, or begin it under its id."""
        limits, run = self._job.document_limits, begun.run
        if book.has(run):
            try:
                return book.resume(run, limits=limits)
            except UsageError:  # another version of readthrough or of the model began it
                run = new_run()
                self._table.keep(self._job.name, replace(begun, run=run))
        options = self._job.options_of(work)
        return book.ask(work.question, work.choices, work.workflow, limits=limits, run=run, **options)

    def _keep(self, work: Work, result: Result) -> None:
        self._table.keep(self._job.name, result)
        self._on_result(work, result)

    def _failed(self, begun: Result, error: Exception) -> Result:
        return replace(begun, state="failed", error=self._told(error), finished=time.time())

    def _told(self, error: Exception) -> dict[str, Any]:
        """An error as the table keeps it."""
        if isinstance(error, ReadthroughError):
            told: dict[str, Any] = error.to_dict()["error"]
            return told | {"path": self._relative(told["path"])}
        trace = "".join(traceback.format_exception(error))
        return {"type": type(error).__name__, "message": str(error), "path": None, "hint": None, "traceback": trace}

    def _told_answer(self, path: str, answer: Answer) -> dict[str, Any]:
        """An Answer as the table keeps it: its paths begin in the folder, wherever that lies tomorrow."""
        told = answer.to_dict()
        if path == WHOLE:
            lost = [row for row in self._table.documents(self._job.name) if row.state in ("failed", "aside")]
            told["skipped_files"] = [{"path": row.path, "reason": (row.error or {})["message"]} for row in lost]
        for item in (*told["evidence"], *told["skipped_files"]):
            key = "document" if "document" in item else "path"
            item[key] = self._relative(item[key])
        return told

    def _relative(self, path: str | None) -> str | None:
        root = f"{self._job.folder}/"
        return path.removeprefix(root) if path is not None else None

    def _moved(self, answer: dict[str, Any], old: str, new: str) -> dict[str, Any]:
        """The answer of another document of the same content, as this one's, which has cost nothing."""
        evidence = [item | {"document": new} if item["document"] == old else item for item in answer["evidence"]]
        return answer | {"evidence": evidence, "usage": asdict(Usage())}

    def _works(self, path: str) -> tuple[Work, ...]:
        return self._job.works_of(path)

    def _results(self, path: str) -> dict[str, Result]:
        return self._table.results(self._job.name, path)


_STEPS = 1_000_000
"""An answer that is there counts more than any steps of one that is not."""
