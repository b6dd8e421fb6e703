"""Runs a batch: looks at the folder, lets workers answer what is open, and writes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from readthrough.batch import output
from readthrough.batch.answering import Stop, Tools, Worker
from readthrough.batch.files import Found, files_of
from readthrough.batch.job import WHOLE, Job, Work, digest
from readthrough.batch.leases import Leases
from readthrough.batch.open import QUESTIONS_AT_ONCE, open_table, opened
from readthrough.batch.table import Changes, Result, Table
from readthrough.config import Settings
from readthrough.models.open import backend_of
from readthrough.types import Event, Usage

if TYPE_CHECKING:
    pass

TRANSIENT = ("EndpointError", "DeadlineError", "CircuitOpenError")
"""Errors of an endpoint: what failed by one is tried again whenever the batch is run."""

ENDPOINT_WORKERS = 4
_LOST_IN_A_ROW = 3
_POLL_SECONDS = 0.5


@dataclass
class Listener:
    """Who hears of a batch: `on_event` of progress, `on_result` of each new answer."""

    on_event: Callable[[Event], None] | None = None
    on_result: Callable[[Work, Result], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run of a batch ended.

    Attributes:
        counts: how many documents are in each state; the folder as a whole is none.
        left: how many, the folder as a whole too, are not done yet.
        changes: what was new in the folder.
        asked: how many answers were made now.
        failed: how many answers failed or were stopped by a budget, of documents that could be read.
        usage: what the answers of now took.
        seconds: of wall time.
        drained: it was asked to end before all was done.
    """

    counts: dict[str, int]
    left: int
    changes: Changes
    asked: int
    failed: int
    usage: Usage
    seconds: float
    drained: bool

    @property
    def lost(self) -> int:
        """How many documents failed or were set aside."""
        return self.counts.get("failed", 0) + self.counts.get("aside", 0)

    @property
    def partial(self) -> bool:
        """Whether something is missing."""
        return bool(self.lost or self.failed or self.left)


def run(job: Job, settings: Settings, listener: Listener | None = None, stop: Stop | None = None) -> Outcome:
    """Answer what is open of a batch, and write its results; run again after a kill it goes on where it was.

    Args:
        job: what is to be done.
        settings: the model, the index, and the home folder with library, run log and table.
        listener: hears of progress.
        stop: set by somebody else, it lets the answers of now be finished and ends the run.

    Raises:
        ReadthroughError: the folder, the file of results or the model cannot be used, or the endpoint is down. What
            was answered until then is kept.
    """
    output.check(job.out)
    table = open_table(settings)
    try:
        with Leases(table, settings.home) as leases:
            return _Run(job, settings, table, leases, listener or Listener(), stop or Stop()).all()
    finally:
        table.close()


def enter(job: Job, table: Table, settings: Settings) -> Changes:
    """Bring the table to what is in the job's folder now.

    Raises:
        MissingPathError: there is no such folder.
    """
    known = table.known(job.name)

    def content_of(path: str, size_bytes: int, changed_ns: int) -> str | None:
        content, *was = known.get(path, ("", 0, 0))
        return content if was == [size_bytes, changed_ns] else None

    found = [item for item in files_of(job, content_of) if isinstance(item, Found)]
    if any(work.whole for work in job.works):
        content = digest([(file.path, file.content) for file in found])
        found.append(Found(WHOLE, content, 0, 0))
    table.register(job.name, job.describe())
    return table.enter(job.name, found, lambda file: _recipe(job, file, settings))


def _recipe(job: Job, file: Found, settings: Settings) -> str:
    return digest([file.content, *(job.recipe(work, file.content, settings) for work in job.works_of(file.path))])


def workers_of(job: Job, settings: Settings) -> int:
    """How many documents are at work at a time: where the model is here, as many as it takes questions."""
    at_once = -(-QUESTIONS_AT_ONCE // len(job.works)) if backend_of(settings.model) == "local" else ENDPOINT_WORKERS
    return job.workers or at_once


@dataclass
class _Counted:
    """What the workers of this process have done so far."""

    asked: int = 0
    usage: Usage = field(default_factory=Usage)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Run:
    """One run of a batch in this process."""

    def __init__(
        self, job: Job, settings: Settings, table: Table, leases: Leases, listener: Listener, stop: Stop
    ) -> None:
        self._job = job
        self._settings = settings
        self._table = table
        self._leases = leases
        self._listener = listener
        self._stop = stop
        self._counted = _Counted()
        self._started = time.monotonic()

    def all(self) -> Outcome:
        """Do all that is open, and write the results."""
        changes = enter(self._job, self._table, self._settings)
        self._table.retry(self._job.name, TRANSIENT)
        self._leases.free_the_dead(self._job.name)
        output.write(self._job, self._table)
        try:
            if self._left():
                self._work()
        finally:
            output.write(self._job, self._table)
        if self._stop.error is not None:
            raise self._stop.error
        return Outcome(
            self._table.counts(self._job.name, whole=False),
            self._left(),
            changes,
            self._counted.asked,
            self._table.failed_results(self._job.name),
            self._counted.usage,
            time.monotonic() - self._started,
            bool(self._stop),
        )

    def _work(self) -> None:
        workers = workers_of(self._job, self._settings)
        with opened(self._settings, self._listener.on_event) as tools:
            self._tell()
            with ThreadPoolExecutor(workers, thread_name_prefix="readthrough-batch") as pool:
                for _ in range(workers):
                    pool.submit(self._work_alone, tools)
                self._watch()
            self._tell()

    def _watch(self) -> None:
        """Wait in the main thread, where Ctrl-C is heard, until all is done or told to end."""
        while self._left() and not self._stop.wait(_POLL_SECONDS):
            self._leases.free_the_dead(self._job.name)
            self._tell()

    def _work_alone(self, tools: Tools) -> None:
        """Take documents until none is left; one that another process holds may still come free."""
        name = self._job.name
        worker = Worker(self._leases.name, self._job, self._table, tools, self._stop, self._heard)
        try:
            while not self._stop:
                claim = self._table.claim(name, self._leases.name, self._leases.lease_seconds)
                if claim is not None:
                    worker.answer(claim)
                elif not self._left() or self._stop.wait(_POLL_SECONDS):
                    return
        except BaseException as error:  # noqa: BLE001  told by the thread that waits for this one
            self._stop.set(error)

    def _left(self) -> int:
        counts = self._table.counts(self._job.name)
        return counts.get("waiting", 0) + counts.get("running", 0)

    def _heard(self, work: Work, result: Result) -> None:
        """Count a new result, and hand it on."""
        usage = (result.answer or {}).get("usage")
        with self._counted.lock:
            self._counted.asked += 1
            self._counted.usage += Usage(**usage) if usage else Usage()
        output.append(self._job.out, output.row(result.path, work, result))
        if self._listener.on_result is not None:
            self._listener.on_result(work, result)

    def _tell(self) -> None:
        if self._listener.on_event is None:
            return
        counts = self._table.counts(self._job.name)
        total = sum(counts.values())
        done = total - counts.get("waiting", 0) - counts.get("running", 0)
        lost = counts.get("failed", 0) + counts.get("aside", 0)
        note = f"{lost} failed" if lost else ""
        usage = self._counted.usage
        self._listener.on_event(Event("batch", done, total, "documents", note))
        money = "" if usage.cost is None else f"${usage.cost:,.2f}"
        tokens = usage.prompt_tokens + usage.completion_tokens
        self._listener.on_event(Event("tokens", tokens, unit="tokens", note=money))
