"""Batches in processes of their own that die at a chosen moment; what tests and a benchmark share."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from readthrough.batch import open as opening
from readthrough.batch import running
from readthrough.batch.job import Job
from readthrough.batch.leases import Leases
from readthrough.config import Settings
from readthrough.documents.loaders.text import TextLoader
from readthrough.memory.sqlite_file import SqliteFile
from readthrough.models.scripted import ScriptedModel

# Its processes begin as copies of one that has imported everything and done nothing: quick, and safe to copy.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["tests.batch_processes", "readthrough.agents.workflows.retrieve", "langgraph.checkpoint.sqlite"]
)

CALLS = "calls"
"""The file in the home folder to which every call of the scripted model adds a byte."""
POISON = "poison"


@dataclass(frozen=True)
class Child:
    """How a batch is run in a process.

    Attributes:
        job, settings: as `running.run` takes them.
        kill_at: the process ends at its n-th write of the table, before that is kept.
        poison: what ends the process where a document says so: its `loader`, or the `model`.
        host: the name of its machine, where it is to be another.
        lease_seconds: how long its leases last.
        hang: its model never answers.
    """

    job: Job
    settings: Settings
    kill_at: int | None = None
    poison: str = ""
    host: str = ""
    lease_seconds: float = 60.0
    hang: bool = False


def start(child: Child) -> BaseProcess:
    """Begin a batch in a process."""
    process = _PROCESSES.Process(target=_work, args=(child,), daemon=True)
    process.start()
    return process


def finish(child: Child) -> int:
    """Run a batch in a process to its end; returns its exit code, negative where a signal ended it."""
    process = start(child)
    process.join()
    return process.exitcode or 0


def calls(settings: Settings) -> int:
    """How often the scripted model was called, by all processes."""
    path = settings.home / CALLS
    return path.stat().st_size if path.exists() else 0


def writes(settings: Settings) -> int:
    """How often the table was written by the last process that had a `kill_at`."""
    return (settings.home / "writes").stat().st_size


def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for something.

    Raises:
        TimeoutError: it does not come.
    """
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError("it did not come")
        time.sleep(0.01)


def _work(child: Child) -> None:
    logging.disable(logging.WARNING)
    if child.host:
        socket.gethostname = lambda: child.host  # type: ignore[assignment]
    running.Leases = partial(Leases, lease_seconds=child.lease_seconds)  # type: ignore[misc,assignment]
    running._POLL_SECONDS = 0.05
    if child.kill_at is not None:
        opening.SqliteFile = partial(_DyingFile, child.settings.home / "writes", child.kill_at)  # type: ignore[misc,assignment]
    ScriptedModel._record = _watched(child, ScriptedModel._record)  # type: ignore[method-assign]
    if child.poison == "loader":
        load = TextLoader.load

        def poisoned(self: TextLoader, path: Path, name: str) -> Any:
            _die_of(path.read_text())
            return load(self, path, name)

        TextLoader.load = poisoned  # type: ignore[method-assign]
    running.run(child.job, child.settings)


def _watched(child: Child, record: Callable[..., Any]) -> Callable[..., Any]:
    """A model's calls, counted; they end the process, or hang, where that is wanted."""
    child.settings.home.mkdir(parents=True, exist_ok=True)
    log = os.open(child.settings.home / CALLS, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def watched(self: ScriptedModel, kind: Any, request: Any, *rest: Any) -> Any:
        os.write(log, b"c")
        if child.poison == "model":
            _die_of(request.messages[-1].content)
        while child.hang:
            time.sleep(60)
        return record(self, kind, request, *rest)

    return watched


def _die_of(text: str) -> None:
    if POISON in text:
        time.sleep(0.2)  # the others are at work by then
        os.kill(os.getpid(), signal.SIGKILL)


class _DyingFile(SqliteFile):
    """A file whose n-th write ends the process."""

    def __init__(self, log: Path, kill_at: int, *arguments: Any) -> None:
        self._log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self._left = kill_at
        super().__init__(*arguments)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        with super().write() as db:
            yield db
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            os.write(self._log, b"w")
