"""Parse risky files in another process, so that a crash, a hang or a bomb costs one document and nothing else."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import readthrough
from readthrough import errors
from readthrough.documents.base import DEFAULT_LIMITS, Loader, LoadLimits
from readthrough.documents.worker import LENGTH_BYTES
from readthrough.errors import DocumentError, ReadthroughError
from readthrough.types import Document, Page, Section

WORKER_MODULE = "readthrough.documents.worker"
# A worker is replaced after this many documents, or once one of them used this share of the memory allowed.
WORKER_DOCUMENTS = 100
WORKER_MEMORY_RATIO = 0.25
BLOCK_BYTES = 1 << 20
# Nothing secret goes to a process that parses files of strangers.
KEPT_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TESSDATA_PREFIX",
)  # fmt: skip


class Sandbox:
    """One worker process that loads documents one after the other, started when it is first needed.

    Use it as a context manager, or `close` it. Calls from several threads wait for each other; for
    concurrent parsing use several sandboxes.
    """

    def __init__(self, limits: LoadLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._lock = Lock()
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, loader: type[Loader], path: Path, name: str, encoding: str | None = None) -> Document:
        """Load `path` with `loader` in the worker.

        Raises:
            DocumentError: whatever the loader raised, or: it crashed, took too long, or needed too much memory.
        """
        request = {
            "loader": f"{loader.__module__}:{loader.__qualname__}",
            "path": os.path.abspath(path),
            "name": name,
            "encoding": encoding,
            "limits": asdict(self._limits),
        }
        with self._lock:
            self._worker = worker = self._worker or _Worker()
            try:
                answer = worker.ask(request, self._limits)
            except TimeoutError as error:
                self._stop()
                reason = f"took longer than {self._limits.most_seconds:g} seconds to parse"
                raise DocumentError(reason, path=name) from error
            except (BrokenPipeError, EOFError) as error:
                reason = f"the parser crashed ({worker.cause_of_death()})"
                self._stop()
                raise DocumentError(reason, path=name, hint="the file is broken, or a bomb") from error
            except BaseException:  # an interrupt: the answer that comes late must not be taken for the next one
                self._stop()
                raise
            worn = answer.get("peak_bytes", 0) > WORKER_MEMORY_RATIO * self._limits.memory_bytes
            if worn or worker.documents >= WORKER_DOCUMENTS:
                self._stop()
        if "error" in answer:
            raise _error_from(answer["error"])
        return _document_from(answer["document"])

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


class _Worker:
    """A running `readthrough.documents.worker` and the pipes to it."""

    def __init__(self) -> None:
        self.documents = 0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process; `stop` closes it
        # -P: the current folder must not be searched for modules, or a file in it could pose as one of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER_MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,  # an interrupt in the terminal is for the parent, which then ends the worker
        )

    def ask(self, request: dict[str, Any], limits: LoadLimits) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            TimeoutError: there was no complete answer in time.
            EOFError, BrokenPipeError: the worker ended, or announced an answer larger than its memory.
        """
        self.documents += 1
        deadline = time.monotonic() + limits.most_seconds
        if self._process.stdin is None or self._process.stdout is None:
            raise EOFError
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            size = int.from_bytes(self._receive(LENGTH_BYTES, selector, deadline), "big")
            if size > limits.memory_bytes:
                raise EOFError
            answer: dict[str, Any] = json.loads(self._receive(size, selector, deadline))
        return answer

    def _receive(self, size: int, selector: selectors.BaseSelector, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            block = os.read(ready[0][0].fd, min(size - len(data), BLOCK_BYTES))
            if not block:
                raise EOFError
            data += block
        return data

    def cause_of_death(self) -> str:
        """Why the worker ended, in words: its signal, or the last line that it wrote."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it stopped answering"
        if code < 0:
            return signal.Signals(-code).name
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")

    def stop(self) -> None:
        """Kill the process and close what belongs to it."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)  # with what it started: it leads a session of its own
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with suppress(BrokenPipeError):  # an unsent rest of a request: there is no one left to read it
                    stream.close()


def _environment() -> dict[str, str]:
    """The environment of the worker: it finds the same modules as this process, and nothing secret."""
    kept = {key: os.environ[key] for key in KEPT_ENVIRONMENT if key in os.environ}
    package_root = str(Path(readthrough.__file__).resolve().parent.parent)
    folders = [os.path.abspath(entry) for entry in sys.path if entry]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*folders, package_root]))
    return kept


def _error_from(values: dict[str, Any]) -> ReadthroughError:
    kind = getattr(errors, values["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, ReadthroughError)):
        kind = DocumentError
    return kind(values["message"], path=values["path"], hint=values["hint"])


def _document_from(values: dict[str, Any]) -> Document:
    pages = tuple(Page(**page) for page in values.pop("pages"))
    sections = tuple(Section(tuple(item["path"]), item["start"], item["end"]) for item in values.pop("sections"))
    return Document(pages=pages, sections=sections, **values)
