"""Parse risky files in another process, so that a crash, a hang or a bomb costs one document and nothing else."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from readthrough import errors
from readthrough.documents.base import DEFAULT_LIMITS, Loader, LoadLimits
from readthrough.errors import DocumentError, ReadthroughError
from readthrough.sandbox.child import Child
from readthrough.types import Document, Page, Section

WORKER_MODULE = "readthrough.documents.worker"
# A worker is replaced after this many documents, or once one of them used this share of the memory allowed.
WORKER_DOCUMENTS = 100
WORKER_MEMORY_RATIO = 0.25


class Sandbox:
    """One worker process that loads documents one after the other, started when it is first needed.

    Use it as a context manager, or `close` it. Calls from several threads wait for each other; for
    concurrent parsing use several sandboxes.
    """

    def __init__(self, limits: LoadLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._lock = Lock()
        self._worker: Child | None = None
        self._documents = 0

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
            self._worker = worker = self._worker or Child(WORKER_MODULE)
            self._documents += 1
            deadline = time.monotonic() + self._limits.most_seconds
            try:
                worker.send(json.dumps(request).encode() + b"\n", deadline)
                answer = json.loads(worker.receive(self._limits.memory_bytes, deadline))
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
            if worn or self._documents >= WORKER_DOCUMENTS:
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
        self._documents = 0


def _error_from(values: dict[str, Any]) -> ReadthroughError:
    kind = getattr(errors, values["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, ReadthroughError)):
        kind = DocumentError
    return kind(values["message"], path=values["path"], hint=values["hint"])


def _document_from(values: dict[str, Any]) -> Document:
    pages = tuple(Page(**page) for page in values.pop("pages"))
    sections = tuple(Section(tuple(item["path"]), item["start"], item["end"]) for item in values.pop("sections"))
    return Document(pages=pages, sections=sections, **values)
