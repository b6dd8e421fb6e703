"""Runs a grid: asks every system every example that has no result yet, and keeps each result at once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from readthrough.api import Book, read
from readthrough.config import Settings, Spec
from readthrough.errors import (
    LibraryError,
    MissingExtraError,
    ReadthroughError,
    UsageError,
    WeightsError,
)
from readthrough.evaluation.base import Example
from readthrough.evaluation.checking import check_examples
from readthrough.evaluation.grid import Cell, Grid
from readthrough.evaluation.peak import watch_memory
from readthrough.evaluation.store import Result, Store
from readthrough.evaluation.systems import System, answer_key, made_by
from readthrough.evaluation.texts import Texts
from readthrough.evaluation.verifying import verified
from readthrough.models.base import ModelBackend
from readthrough.models.open import backend_of
from readthrough.opening import Models
from readthrough.types import Event

LOCK = ".lock"
FAILED = {"score": 0.0}
"""The scores of an answer that failed."""

_FATAL = (LibraryError, WeightsError, MissingExtraError)
"""What would fail for every other example as well."""

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One example for one system.

    Attributes:
        key: that of its result.
        content: SHA-256 of the example.
        cell: the task.
        example: the example.
        among: how many examples are about the same texts.
        system: the system.
        made: how the result is made (`systems.made_by`).
    """

    key: str
    content: str
    cell: Cell
    example: Example
    among: int
    system: System
    made: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        results: the results of the whole grid, as far as they are there, in order.
        asked, kept, failed: how many answers were asked for now, were there from before, and have an error.
        left: how many were not come to, because the budget was spent.
    """

    results: list[Result]
    asked: int
    kept: int
    failed: int
    left: int


@dataclass
class Listener:
    """Who hears of a run: `on_event` of progress, `on_result` of each new result."""

    on_event: Callable[[Event], None] | None = None
    on_result: Callable[[Result], None] | None = None


def evaluate(grid: Grid, folder: Path, settings: Settings, listener: Listener | None = None) -> Outcome:
    """Run what of a grid has no result in `folder` yet, or one with an error; texts are read into `settings.home`.

    Every finished answer is kept at once: a run that is interrupted or killed goes on where it was.

    Raises:
        ReadthroughError: a task, a metric or a document is wrong (before a model is loaded), a model cannot be
            opened, the folder cannot be used, or another run is at work in it.
    """
    from filelock import FileLock, Timeout

    total = check_examples(grid) * len(grid.systems)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            store = Store(folder, make=True)
            try:
                return _Run(grid, folder, settings, store, listener or Listener()).all(total)
            finally:
                store.close()
    except Timeout as error:
        raise UsageError("another run is at work in this folder", path=str(folder), hint="wait for it") from error


class _Run:
    """One run of a grid."""

    def __init__(self, grid: Grid, folder: Path, settings: Settings, store: Store, listener: Listener) -> None:
        self._grid = grid
        self._settings = settings
        self._store = store
        self._listener = listener
        self._texts = Texts(folder)
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._stop = threading.Event()
        self._reading_seconds: dict[tuple[str, ...], float] = {}
        self._asked = self._kept = 0
        self._total = 0
        self._end = time.monotonic() + (grid.budget_seconds or float("inf"))

    def all(self, total: int) -> Outcome:
        """Run the grid, one model after the other."""
        self._total = total
        self._store.start(_now(), self._grid.text)
        # What a system has read must help no other, nor the next grid: see `_answer_all`.
        models = Models(self._settings.model_copy(update={"readings_bytes": 0}), None, self._listener.on_event)
        for spec in self._grid.models:
            if self._over():
                break
            try:
                model = models.get(spec)
                self._work(self._units(spec, model), model)
            finally:
                models.close()
        results = self._store.results()
        failed = sum(result.error is not None for result in results)
        return Outcome(results, self._asked, self._kept, failed, max(0, total - self._asked - self._kept))

    def _units(self, spec: Spec, model: ModelBackend) -> Iterator[list[Job]]:
        """What one system is to be asked about the same texts, without what has a result; for all systems and texts."""
        systems = [(each, made_by(each, model, self._settings)) for each in self._grid.systems if each.model == spec]
        for cell in self._grid.cells:
            examples = iter(cell.task.examples(model.count_tokens))
            for _, group in groupby(examples, key=lambda example: [self._texts.hash(each) for each in example.sources]):
                asked = list(group)
                for system, made in systems:
                    jobs = self._new(list(self._jobs(cell, asked, system, made)))
                    for first in range(min(self._grid.parallel, len(jobs))):
                        yield jobs[first :: self._grid.parallel]

    def _jobs(self, cell: Cell, examples: Sequence[Example], system: System, made: Mapping[str, Any]) -> Iterator[Job]:
        """Examples about the same texts, for one system."""
        for example in examples:
            content = self._texts.content(next(iter(cell.spec)), example)
            key = answer_key(content, system, made, self._grid.limits)
            yield Job(key, content, cell, example, len(examples), system, made)

    def _new(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs without a result; those with one are brought to what the example says now."""
        keys = [job.key for job in jobs]
        self._store.plan(keys)
        found = {key: result for key, result in self._store.find(keys).items() if result.error is None}
        for job in jobs:
            if job.key in found:
                self._refresh(found[job.key], job)
                self._kept += 1
        self._tell()
        return [job for job in jobs if job.key not in found]

    def _refresh(self, result: Result, job: Job) -> None:
        """Score a result again where the task, its options or the right answers are not what they were."""
        now = replace(result, **self._described(job))
        if not now.same(result):
            scores, error = _tried(lambda: job.cell.task.score(job.example, now.answer or {}))
            self._store.write(replace(now, scores=FAILED if scores is None else scores, error=error))

    def _work(self, units: Iterator[list[Job]], model: ModelBackend) -> None:
        """Do the units, side by side where the grid wants it; the first error of general kind ends all."""
        if self._grid.parallel == 1:
            self._work_alone(units, model)
            return
        with ThreadPoolExecutor(self._grid.parallel) as pool:
            workers = [pool.submit(self._work_alone, units, model) for _ in range(self._grid.parallel)]
            try:
                for worker in workers:
                    worker.result()
            except BaseException:  # Ctrl-C too: what is being answered is still kept, and nothing new is begun
                self._stop.set()
                raise

    def _work_alone(self, units: Iterator[list[Job]], model: ModelBackend) -> None:
        try:
            while not self._over():
                with self._planning:
                    unit = next(units, None)
                if unit is None:
                    return
                self._answer_all(unit, model)
        except BaseException:
            self._stop.set()
            raise

    def _answer_all(self, jobs: Sequence[Job], model: ModelBackend) -> None:
        """Read the texts that the jobs share, and ask each."""
        if backend_of(jobs[0].system.model) == "local":
            model.close()  # drops the KV that it keeps: no system gains by what another has read
        started = time.perf_counter()
        book, error = _tried(lambda: self._read(jobs[0], model))
        read_from = (jobs[0].system.index, *(self._texts.hash(source) for source in jobs[0].example.sources))
        took = self._reading_seconds.setdefault(read_from, time.perf_counter() - started)
        reading_seconds = took / jobs[0].among
        if book is None:
            for job in jobs:
                self._keep(self._result(job, None, error, 0.0, reading_seconds))
            return
        with book:
            for job in jobs:
                if self._over():
                    return
                self._keep(self._answer(job, book, reading_seconds))

    def _read(self, job: Job, model: ModelBackend) -> Book:
        settings, system = self._settings, job.system
        return read(
            *dict.fromkeys(self._texts.path(source) for source in job.example.sources),
            model=None if system.own_models else model,
            index=system.index,
            chunker=settings.chunker if system.file is None else None,  # a file may name its own
            workflow="retrieve",  # each question names its own: the settings' may be a file that changes the chunks
            encoding=settings.encoding,
            home=settings.home,
            size_limit_bytes=settings.size_limit_bytes,
            readings_bytes=0,
            keep_replies=False,
            device=settings.device,
            dtype=settings.dtype,
            on_event=self._listener.on_event,
        )

    def _answer(self, job: Job, book: Book, reading_seconds: float) -> Result:
        example, workflow = job.example, job.system.workflow
        spec = workflow if isinstance(workflow, str) else dict(workflow)
        peak = watch_memory() if self._grid.parallel == 1 else None
        started = time.perf_counter()
        answer, error = _tried(
            lambda: verified(book.ask(example.question, example.choices, spec, limits=self._grid.limits), book)
        )
        result = self._result(job, answer, error, time.perf_counter() - started, reading_seconds)
        return replace(result, memory_bytes=peak() if peak else None)

    def _result(
        self, job: Job, answer: dict[str, Any] | None, error: dict[str, Any] | None, seconds: float, reading: float
    ) -> Result:
        scores: dict[str, float] | None = None
        if answer is not None:
            given = answer
            scores, error = _tried(lambda: job.cell.task.score(job.example, given))
        limits = {name: value for name, value in asdict(self._grid.limits).items() if value is not None}
        return Result(
            key=job.key,
            content=job.content,
            system=job.system.to_dict(),
            limits=limits,
            answer=answer,
            scores=FAILED if scores is None else scores,
            error=error,
            seconds=seconds,
            reading_seconds=reading,
            made=job.made,
            finished=_now(),
            **self._described(job),
        )

    def _described(self, job: Job) -> dict[str, Any]:
        """What a result says of its task and example."""
        example = job.example
        told = ("question", "choices", "answers", "metric", "type", "tags", "evidence")
        return {
            "task": job.cell.spec,
            "example": example.id,
            "sources": tuple(self._texts.kept(source) for source in example.sources),
            **{name: getattr(example, name) for name in told},
        }

    def _keep(self, result: Result) -> None:
        self._store.write(result)
        with self._lock:
            self._asked += 1
        self._tell()
        if self._listener.on_result is not None:
            self._listener.on_result(result)

    def _tell(self) -> None:
        if self._listener.on_event is not None:
            self._listener.on_event(Event("evaluate", self._asked + self._kept, self._total, "answers"))

    def _over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._end


def _tried(work: Callable[[], T]) -> tuple[T | None, dict[str, Any] | None]:
    """What some work returns, or the error that it ends with, as a result keeps it."""
    try:
        return work(), None
    except _FATAL:
        raise
    except Exception as error:  # noqa: BLE001  a mistake in one workflow must not end a run of hours: its rows name it
        told = {"type": type(error).__name__, "message": str(error)}
        if not isinstance(error, ReadthroughError):
            told["traceback"] = "".join(traceback.format_exception(error))
        return None, told


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
