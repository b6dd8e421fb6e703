"""Runs a batch: looks at the folder, lets workers answer what is open, and writes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from readthrough.agents.runs.pool import Pool
from readthrough.batch import output
from readthrough.batch.answering import TRANSIENT, Stop, Tools, Worker
from readthrough.batch.files import Found, files_of
from readthrough.batch.job import WHOLE, Job, Recipes, Work, digest
from readthrough.batch.leases import Leases
from readthrough.batch.open import QUESTIONS_AT_ONCE, open_table, opened
from readthrough.batch.table import Changes, Result, Table
from readthrough.config import Settings
from readthrough.models.open import backend_of
from readthrough.types import Event, Usage

ENDPOINT_WORKERS = 4
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
        stopped: the budget for all documents that ended it, None for none.
    """

    counts: dict[str, int]
    left: int
    changes: Changes
    asked: int
    failed: int
    usage: Usage
    seconds: float
    drained: bool
    stopped: str | None = None

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
            return Run(job, settings, table, leases, listener or Listener(), Stop() if stop is None else stop).all()
    finally:
        table.close()


def enter(job: Job, table: Table, settings: Settings) -> Changes:
    """Bring the table to what is in the job's folder now; what failed by an endpoint waits again.

    Raises:
        MissingPathError: there is no such folder.
        ConfigError: a workflow's file cannot be read.
    """
    known = table.known(job.name)

    def content_of(path: str, size_bytes: int, changed_ns: int) -> str | None:
        content, *was = known.get(path, ("", 0, 0))
        return content if was == [size_bytes, changed_ns] else None

    found = [item for item in files_of(job, content_of, settings.home) if isinstance(item, Found)]
    if any(work.whole for work in job.works):
        content = digest([(file.path, file.content) for file in found])
        found.append(Found(WHOLE, content, 0, 0))
    table.register(job.name, job.describe())
    changes = table.enter(job.name, found, Recipes(job, settings).of)
    table.retry(job.name, TRANSIENT)
    return changes


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


class Run:
    """One run of a batch: what those who start its workers need of it."""

    def __init__(
        self, job: Job, settings: Settings, table: Table, leases: Leases, listener: Listener, stop: Stop
    ) -> None:
        self.job = job
        self.settings = settings
        self.table = table
        self._leases = leases
        self._listener = listener
        self.stop = stop
        self._counted = _Counted()
        self._pool = Pool(job.limits)
        self._started = time.monotonic()

    def all(self) -> Outcome:
        """Do all that is open, and write the results."""
        changes = enter(self.job, self.table, self.settings)
        self.free_the_dead()
        output.write(self.job, self.table)
        try:
            if self.left() and not self.stop:
                self._work()
        finally:
            output.write(self.job, self.table)
        if self.stop.error is not None:
            raise self.stop.error
        return Outcome(
            self.table.counts(self.job.name, whole=False),
            self.left(),
            changes,
            self._counted.asked,
            sum(1 for failure in self.table.failures(self.job.name) if failure.work),
            self._counted.usage,
            time.monotonic() - self._started,
            bool(self.stop) and self.stop.spent is None,
            self.stop.spent,
        )

    def _work(self) -> None:
        if self.job.engine == "ray":
            from readthrough.batch import ray

            self.tell()
            ray.work(self)
        else:
            self._work_in_threads()

    def _work_in_threads(self) -> None:
        workers = workers_of(self.job, self.settings)
        with opened(self.settings, self._listener.on_event) as opened_tools:
            tools = replace(opened_tools, pool=self._pool)
            self.tell()
            with ThreadPoolExecutor(workers, thread_name_prefix="readthrough-batch") as pool:
                at_work = {pool.submit(self._work_alone, tools) for _ in range(workers)}
                try:
                    while at_work and not self.stop:  # in the main thread, where Ctrl-C is heard
                        at_work = wait(at_work, _POLL_SECONDS).not_done
                        self.free_the_dead()
                        self.tell()
                except BaseException as error:
                    self.stop.set(error)  # or the pool would wait until all is done
                    raise
            self.tell()

    def _work_alone(self, tools: Tools) -> None:
        """Take documents until none is left; one that another process holds may still come free."""
        try:
            worker = Worker(self._leases, self.job, self.table, tools, self.stop, self.heard)
            while not self.stop:
                if not worker.take() and (not self.left() or self.stop.wait(_POLL_SECONDS)):
                    return
        except BaseException as error:  # noqa: BLE001  told by the thread that waits for this one
            self.stop.set(error)

    def free_the_dead(self) -> None:
        """Let others have what dead processes of this machine held."""
        self._leases.free_the_dead(self.job.name)

    def left(self) -> int:
        """How many documents are not done yet."""
        counts = self.table.counts(self.job.name)
        return counts.get("waiting", 0) + counts.get("running", 0)

    def heard(self, work: Work, result: Result) -> None:
        """Count a new result, and hand it on."""
        usage = (result.answer or {}).get("usage")
        with self._counted.lock:
            self._counted.asked += 1
            self._counted.usage += Usage(**usage) if usage else Usage()
        if self.job.engine == "ray":  # what actors take is known here when they are done with a document
            self._pool.spend(Usage(**usage) if usage else Usage())
            for limit, left in zip(self._pool.names(), self._pool.left(0.0).values(), strict=True):
                if left <= 0:
                    self.stop.spend(limit)
        output.append(self.job.out, output.row(result.path, work, result))
        if self._listener.on_result is not None:
            self._listener.on_result(work, result)

    def tell(self) -> None:
        """Tell the listener how far it is."""
        if self._listener.on_event is None:
            return
        counts = self.table.counts(self.job.name)
        total = sum(counts.values())
        done = total - counts.get("waiting", 0) - counts.get("running", 0)
        lost = counts.get("failed", 0) + counts.get("aside", 0)
        note = f"{lost} failed" if lost else ""
        usage = self._counted.usage
        self._listener.on_event(Event("batch", done, total, "documents", note))
        money = "" if usage.cost is None else f"${usage.cost:,.2f}"
        tokens = usage.prompt_tokens + usage.completion_tokens
        self._listener.on_event(Event("tokens", tokens, unit="tokens", note=money))
