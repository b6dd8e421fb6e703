"""Workers of a batch as actors of Ray: each owns a model, on any machine of a cluster, and takes from the one table.

The table stays the truth: Ray only keeps processes alive. One that is lost is replaced, and what it held is free at
once. Where the driver is lost the actors go with it, and the next run goes on from the table.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from readthrough.batch.answering import Stop, Worker
from readthrough.batch.job import Job, Work
from readthrough.batch.leases import Leases
from readthrough.batch.open import open_table, opened
from readthrough.batch.table import Result
from readthrough.config import Settings
from readthrough.errors import ConfigError, MissingExtraError, MissingPathError, ModelError, UsageError
from readthrough.models.open import backend_of

if TYPE_CHECKING:
    from readthrough.batch.running import Run

IDLE_SECONDS = 0.5
"""A worker that finds nothing waits so long: what another one holds may still come free."""

_LOST_IN_A_ROW = 3
_CLOSING_SECONDS = 10.0
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Step:
    """What a worker did when it was last told to: whether there was a document for it, and the new results."""

    worked: bool
    results: list[tuple[Work, Result]]


class Actor:
    """One worker, in a process of its own: a table, leases, models, and one document at a time."""

    def __init__(self, job: Job, settings: Settings, folder: str) -> None:
        self._job = job
        self._settings = settings
        self._folder = folder
        self._stop = Stop()
        self._stack = ExitStack()
        self._results: list[tuple[Work, Result]] = []
        self._worker: Worker | None = None

    def open(self) -> str:
        """Open all that it takes; returns the name that its leases bear.

        Raises:
            ReadthroughError: something cannot be opened here.
        """
        if not self._job.folder.is_dir():
            what = f"the machine {socket.gethostname()} does not see the folder"
            raise MissingPathError(what, path=str(self._job.folder), hint="a cluster shares it under the same path")
        os.chdir(self._folder if os.path.isdir(self._folder) else self._job.folder)
        table = open_table(self._settings)
        self._stack.callback(table.close)
        leases = self._stack.enter_context(Leases(table, self._settings.home))
        tools = self._stack.enter_context(opened(self._settings))
        self._worker = Worker(leases, self._job, table, tools, self._stop, self._heard)
        return leases.name

    def step(self) -> Step:
        """Take a document and answer it; where there is none, wait a moment.

        Raises:
            ReadthroughError: something is wrong that is so for every document.
        """
        if self._worker is None:
            raise RuntimeError("open it first")
        worked = self._worker.take()
        if self._stop.error is not None:
            raise self._stop.error
        if not worked:
            self._stop.wait(IDLE_SECONDS)
        results, self._results = self._results, []
        return Step(worked, results)

    def drain(self) -> None:
        """Let the answer of now be the last."""
        self._stop.set()

    def close(self) -> None:
        """Close all that was opened."""
        self._stack.close()

    def _heard(self, work: Work, result: Result) -> None:
        self._results.append((work, result))


@dataclass
class _Hand:
    """An actor as the driver sees it; `name` is that of its leases, empty until it is open."""

    actor: Any
    name: str = ""


def work(run: Run) -> None:
    """Have actors answer what is open of a run; errors that concern all end it through `run.stop`.

    Raises:
        MissingExtraError: ray is not installed.
        ConfigError: several machines, and a table that only one of them sees.
        UsageError: GPUs are wanted, and the cluster has none.
        ModelError: Ray itself fails.
    """
    ray = _ray()
    with _connected(ray):
        _check(ray, run.job, run.settings)
        crew = _Crew(ray, run)
        try:
            crew.work()
        except ray.exceptions.RayError as error:
            raise ModelError(f"Ray failed: {error}", hint="the same command goes on; Ray's logs say more") from error
        finally:
            crew.dismiss()


class _Crew:
    """The actors of a run."""

    def __init__(self, ray: Any, run: Run) -> None:
        self._ray = ray
        self._run = run
        # two methods at a time: `drain` must be heard while a document is answered
        self._class = ray.remote(Actor).options(
            num_cpus=0, num_gpus=_gpus(ray, run.job, run.settings), max_concurrency=2, scheduling_strategy="SPREAD"
        )
        self._at_work: dict[Any, _Hand] = {}
        self._lost_in_a_row = 0

    def work(self) -> None:
        """Keep every actor busy, and replace those that are lost, until nothing is left or the run is stopped."""
        run = self._run
        for _ in range(_workers(self._ray, run.job, run.settings)):
            self._hire()
        drained = False
        while self._open() or (self._at_work and run.left() and not run.stop):
            done, _ = self._ray.wait(list(self._at_work), timeout=IDLE_SECONDS)
            for reference in done:
                self._go_on(reference)
            if run.stop and not drained:
                drained = True
                for hand in self._open():
                    hand.actor.drain.remote()
            run.free_the_dead()

    def dismiss(self) -> None:
        """Close the actors and end their processes; what one of them still holds is free at once."""
        hands = self._at_work.values()
        closing = [hand.actor.close.remote() for hand in hands if hand.name]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSING_SECONDS)
        for hand in hands:
            self._end(hand)

    def _open(self) -> list[_Hand]:
        return [hand for hand in self._at_work.values() if hand.name]

    def _hire(self) -> None:
        run = self._run
        settings = run.settings.model_copy(update={"home": run.settings.home.absolute()})
        hand = _Hand(self._class.remote(run.job.absolute(), settings, os.getcwd()))
        self._at_work[hand.actor.open.remote()] = hand

    def _go_on(self, reference: Any) -> None:
        """Hear what an actor has done, and tell it to do more."""
        hand, exceptions = self._at_work.pop(reference), self._ray.exceptions
        try:
            value = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            self._run.stop.set(error.cause or error)
            self._end(hand)
            return
        except (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.OutOfMemoryError):
            self._replace(hand)
            return
        if isinstance(value, Step):
            for wanted, result in value.results:
                self._run.heard(wanted, result)
            if value.worked:
                self._run.tell()
        else:
            hand.name, self._lost_in_a_row = value, 0
        if self._run.stop or not self._run.left():
            self._ray.wait([hand.actor.close.remote()], timeout=_CLOSING_SECONDS)
            self._end(hand)
        else:
            self._at_work[hand.actor.step.remote()] = hand

    def _replace(self, hand: _Hand) -> None:
        """Put another actor in the place of one that is lost."""
        self._end(hand)
        self._lost_in_a_row += 1
        if self._lost_in_a_row < _LOST_IN_A_ROW:
            self._hire()
            return
        hint = "is there enough memory? Ray's logs say more"
        self._run.stop.set(ModelError(f"{_LOST_IN_A_ROW} workers in a row died before they were ready", hint=hint))

    def _end(self, hand: _Hand) -> None:
        self._ray.kill(hand.actor)
        if hand.name:
            self._run.table.expire(hand.name)


def _workers(ray: Any, job: Job, settings: Settings) -> int:
    """How many actors there are to be: as many as the GPUs take, where the job does not say."""
    from readthrough.batch.running import workers_of

    share = _gpus(ray, job, settings)
    if job.workers or not share:
        return workers_of(job, settings)
    return max(1, int(ray.cluster_resources().get("GPU", 0) / share))


def _gpus(ray: Any, job: Job, settings: Settings) -> float:
    """The share of a GPU that an actor takes; a whole one for a local model, where the job does not say."""
    if job.gpus_a_worker is not None:
        return job.gpus_a_worker
    local = backend_of(settings.model) == "local" and settings.device != "cpu"
    return 1.0 if local and ray.cluster_resources().get("GPU", 0) else 0.0


def _check(ray: Any, job: Job, settings: Settings) -> None:
    machines = sum(node["Alive"] for node in ray.nodes())
    if machines > 1 and settings.database is None:
        what = f"the cluster has {machines} machines, which do not see one table in a home folder"
        raise ConfigError(what, hint="--database postgresql://USER@HOST/DATABASE")
    if job.gpus_a_worker and not ray.cluster_resources().get("GPU", 0):
        raise UsageError(f"every worker is to have {job.gpus_a_worker} of a GPU, and the cluster has none")


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Connected to the cluster of RAY_ADDRESS, or to a local one, which is started where there is none."""
    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level="error", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray cannot be used: {error}", hint="what do RAY_ADDRESS and RAY_AUTH_MODE say?") from error
    try:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own there
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--engine ray needs the package ray", hint="pip install 'readthrough[ray]'") from error
    return ray
