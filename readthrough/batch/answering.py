"""One worker of a batch: takes a document, answers what is wanted of it, and keeps each answer at once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.agents.runs.pool import Pool
from readthrough.api import Book
from readthrough.batch.job import WHOLE, Job, Recipes, Work, digest
from readthrough.batch.table import Claim, Result, State, Table
from readthrough.config import Settings
from readthrough.documents.folder import display_name, path_named
from readthrough.documents.load import is_document
from readthrough.errors import (
    CircuitOpenError,
    ConfigError,
    DocumentError,
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
    from readthrough.batch.leases import Leases
    from readthrough.memory.library import Library
    from readthrough.memory.runs import RunLog
    from readthrough.memory.shelf import Shelf

PAUSE_SECONDS = 1.0
"""Before an endpoint that failed is asked again; longer each time."""

TRANSIENT = ("EndpointError", "DeadlineError", "CircuitOpenError")
"""Errors of an endpoint: what failed by one is tried again whenever the batch is run."""

LOST_IN_A_ROW = 3
"""When an endpoint failed for so many documents, and for none it did not, it is taken to be down."""

_FATAL = (LibraryError, WeightsError, ConfigError)
"""What would fail for every other document as well."""

_ANSWER_STEPS = 1_000_000_000
"""An answer that is there counts more than any steps of one that is not."""


class LentBook(Book):
    """A Book whose library, models and run log are the batch's own, and stay open."""

    def __init__(self, tools: Tools, shelf: Shelf, texts: Texts, pools: Sequence[Pool] = ()) -> None:
        super().__init__(tools.library, shelf, tools.settings, texts=texts)
        self.pools = pools
        self._tools = tools
        self._models = tools.models
        self._runs = tools.runs

    def has(self, run: str) -> bool:
        """Whether the run was begun."""
        return self.runs.has(run)

    def beside(self) -> LentBook:
        """Another over the same texts: a book answers one question at a time."""
        return LentBook(self._tools, self._shelf, self._texts, self.pools)

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
    pool: Pool = field(default_factory=Pool)
    """What all documents together may take."""


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
    return read_together(job, tools, names)


def read_together(job: Job, tools: Tools, paths: Sequence[str]) -> LentBook:
    """Documents of a batch as one Book.

    Raises:
        InputError: one of them cannot be read.
    """
    texts = Texts([path_named(str(job.folder / path)) for path in paths], given=frozenset({"model"}))
    pools = (tools.pool, Pool(job.document_limits))
    return LentBook(tools, texts.shelve(tools.library, tools.settings), texts, pools)


class Stop:
    """Whether the workers are to end: when what they are at is done, or because something is wrong for all."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self.spent: str | None = None

    def spend(self, limit: str) -> None:
        """Let them end because `limit`, one for all documents together, leaves nothing for more."""
        self.spent = self.spent or limit
        self._event.set()

    def set(self, error: BaseException | None = None) -> None:
        """Let them end; the first error is what the batch ends with."""
        self.error = self.error or error
        self._event.set()

    def hear(self, path: str, error: dict[str, Any] | None) -> None:
        """Take note of how an answer about a document ended, or its reading; an endpoint that is down ends all."""
        with self._lock:
            if error is None or error["type"] not in TRANSIENT:
                self._lost.clear()
                return
            self._lost.add(path)
            down = len(self._lost) >= LOST_IN_A_ROW
        if down:
            what = f"the endpoint failed for {LOST_IN_A_ROW} documents in a row: {error['message']}"
            hint = "when it is back, the same command goes on; what was answered is kept"
            self.set(EndpointError(what, hint=hint))

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than until it is set; whether it is."""
        return self._event.wait(seconds)


class LeaseLost(Exception):
    """The document is another worker's by now, or another than it was: what was made of it is not wanted."""


class Worker:
    """Answers documents one after the other, under a name that its leases bear."""

    def __init__(
        self,
        leases: Leases,
        job: Job,
        table: Table,
        tools: Tools,
        stop: Stop,
        on_result: Callable[[Work, Result], None],
    ) -> None:
        self._leases = leases
        self._name = leases.name
        self._job = job
        self._table = table
        self._tools = tools
        self._stop = stop
        self._on_result = on_result
        self._recipes = Recipes(job, tools.settings)

    def take(self) -> bool:
        """Claim a document and answer it; False where there is none to be had."""
        claim = self._table.claim(self._job.name, self._name, self._leases.lease_seconds)
        if claim is None:
            return False
        self.answer(claim)
        return True

    def answer(self, claim: Claim) -> None:
        """Answer what is open of a document, and give it back.

        Raises:
            ReadthroughError: something is wrong that is so for every document. This one waits again.
        """
        state: State
        try:
            state, error = self._answer(claim)
        except LeaseLost:
            state, error = "waiting", None  # where it is this worker's still
        except BaseException:
            with suppress(LibraryError):  # what is raised tells more
                self._leave(claim.path, "waiting")
            raise
        self._leave(claim.path, state, error)

    def _answer(self, claim: Claim) -> tuple[State, dict[str, Any] | None]:
        """What becomes of a document, and why."""
        path = claim.path
        recipes = self._recipes.of(path, claim.content)
        if claim.recipe != digest([claim.content, recipes]):
            hint = "let that one end, or write to another file; the same command goes on"
            raise UsageError("another process runs this batch with other questions or settings", hint=hint)
        wanted = open_works(self._job, path, recipes, self._results(path))
        if self._is_poison(claim, done=len(recipes) - len(wanted)):
            what = f"given up after {claim.tries - 1} tries that got no further: the process died each time"
            return "aside", self._told(DocumentError(what, path=path, hint="`readthrough batch retry`"))
        book = None
        if not recipes or any(self._twin(recipe) is None for _, recipe in wanted):
            try:
                book = self._read(claim)
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001  a mistake with one document must not end a batch of hours
                told = self._told(error)
                self._stop.hear(path, told)
                passed_over = isinstance(error, NotTextError) and not is_document(Path(path))
                return "skipped" if passed_over else "failed", told
        return ("done" if self._answer_all(path, wanted, book) else "waiting"), None

    def _answer_all(self, path: str, wanted: Sequence[tuple[Work, str]], book: LentBook | None) -> bool:
        """Answer what is wanted of a document, side by side where the model is here; whether there was time for all."""

        def one(work: Work, recipe: str) -> bool:
            if self._stop:
                return False
            if book is None:
                self._answer_one(path, work, recipe, None)
            else:
                with calling(book.model):
                    self._answer_one(path, work, recipe, book.beside())
            return True

        pool = self._tools.side_by_side
        if pool is None:
            return all(one(work, recipe) for work, recipe in wanted)
        first = [] if book is None else self._preparing(wanted, book)
        results: list[bool] = []
        for part in (first, [each for each in wanted if each not in first]):
            begun = [pool.submit(one, work, recipe) for work, recipe in part]
            wait(begun)  # all of them: nobody is at a document that is given back
            results += [each.result() for each in begun]
        return all(results)

    def _preparing(self, wanted: Sequence[tuple[Work, str]], book: LentBook) -> list[tuple[Work, str]]:
        """The first work of each workflow whose runs make what is kept for all others."""
        options = self._job.options_of
        first = {digest([each[0].workflow, options(each[0])]): each for each in reversed(wanted)}
        return [each for each in first.values() if book.prepares(each[0].workflow, **options(each[0]))]

    def _read(self, claim: Claim) -> LentBook:
        book = read_document(self._job, self._table, self._tools, claim.path)
        if claim.path != WHOLE and not claim.content.startswith(book.documents[0].id):
            raise DocumentError("was changed while the batch ran", path=claim.path, hint="run the batch again")
        return book

    def _is_poison(self, claim: Claim, done: int) -> bool:
        """Whether too many tries got no further than the one before; a step that was done since is further."""
        open_runs = [row.run for row in self._results(claim.path).values() if row.state == "open"]
        steps = sum((self._tools.runs.progress(run) for run in open_runs), done * _ANSWER_STEPS)
        if steps > claim.steps:
            self._table.forward(self._job.name, self._name, claim.path, steps)
            return False
        return claim.tries > self._job.tries

    def _twin(self, recipe: str) -> Result | None:
        """The answer of a document with the same content, unless it speaks of that one by its path."""
        twin = self._table.twin(recipe)
        said = (twin.answer or {}).get("answer", "") if twin is not None else ""
        return None if twin is None or twin.path in said else twin

    def _answer_one(self, path: str, work: Work, recipe: str, book: LentBook | None) -> None:
        twin = self._twin(recipe)
        if twin is not None:
            answer = _copied(twin.answer or {}, twin.path, path)
            result = replace(twin, path=path, work=work.id, answer=answer, finished=time.time())
        elif book is not None:
            result = self._asked(path, work, recipe, book)
            self._stop.hear(path, result.error)
            stopped = (result.answer or {}).get("stopped")
            if stopped in self._tools.pool.names():
                self._stop.spend(stopped)
        else:
            raise LeaseLost  # its twin was deleted in the meantime: it is taken up again
        self._keep(result)
        self._on_result(work, result)

    def _asked(self, path: str, work: Work, recipe: str, book: LentBook) -> Result:
        """The answer to one work, after as many tries as it takes and may take."""
        begun = self._begun(path, work, recipe, book)
        for attempt in count(1):
            try:
                answer = self._run(begun, work, book)
            except EndpointError as error:
                pause_seconds = PAUSE_SECONDS * 2 ** (attempt - 1)
                if isinstance(error, CircuitOpenError):
                    pause_seconds += error.again_seconds
                if attempt == self._job.tries or self._stop.wait(pause_seconds):
                    return self._failed(begun, error)
            except (*_FATAL, LeaseLost):
                raise
            except Exception as error:  # noqa: BLE001  a mistake with one document must not end a batch of hours
                return self._failed(begun, error)
            else:
                break
        told = replace(begun, run=answer.run, answer=self._told_answer(path, answer), finished=time.time())
        return replace(told, state="stopped" if answer.resumable else "done")

    def _begun(self, path: str, work: Work, recipe: str, book: LentBook) -> Result:
        """The open result of a work, with the run that a worker before left, unless that one is still at it.

        A run of another machine begins anew: what it has read is in that one's library.
        """
        before = self._results(path).get(work.id)
        mine = before is not None and before.recipe == recipe and book.has(before.run)
        free = before is not None and mine and not self._tools.runs.is_held(before.run)
        result = Result(path, work.id, recipe, "open", before.run if before is not None and free else new_run())
        self._keep(result)  # before its first call: whoever comes after a kill finds the run
        return result

    def _run(self, begun: Result, work: Work, book: LentBook) -> Answer:
        """Go on with the run of a work where there is one, or begin it under its id."""
        run, limits = begun.run, self._job.limits_of(work)
        if book.has(run):
            try:
                return book.resume(run, limits=limits)
            except UsageError:  # another version of readthrough or of the model began it
                run = new_run()
                self._keep(replace(begun, run=run))
        options = self._job.options_of(work)
        return book.ask(work.question, work.choices, work.workflow, limits=limits, run=run, **options)

    def _keep(self, result: Result) -> None:
        if not self._table.keep(self._job.name, self._name, result):
            raise LeaseLost

    def _leave(self, path: str, state: State, error: dict[str, Any] | None = None) -> None:
        self._table.leave(self._job.name, self._name, path, state, error)

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
        root = f"{display_name(self._job.folder)}/"
        return path.removeprefix(root) if path is not None else None

    def _results(self, path: str) -> dict[str, Result]:
        return self._table.results(self._job.name, path)


def open_works(job: Job, path: str, recipes: dict[str, str], results: dict[str, Result]) -> list[tuple[Work, str]]:
    """What has no answer yet of a document, with the recipe of the answer."""
    answered = {key: row.recipe for key, row in results.items() if row.state in ("done", "failed")}
    return [(work, recipes[work.id]) for work in job.works_of(path) if answered.get(work.id) != recipes[work.id]]


def _copied(answer: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The answer of another document of the same content, as this one's; it took nothing."""
    evidence = [item | {"document": new} if item["document"] == old else item for item in answer["evidence"]]
    return answer | {"evidence": evidence, "usage": asdict(Usage())}
