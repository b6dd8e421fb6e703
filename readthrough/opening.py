"""What `readthrough.api` opens: texts on a shelf, models, and the settings that a workflow's file changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.config import Settings, Spec
from readthrough.errors import LibraryError
from readthrough.spec import names_file
from readthrough.types import Event

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from readthrough.agents.reading.confidence import Calibration
    from readthrough.memory.conversations import Turn
    from readthrough.memory.library import Library
    from readthrough.memory.recall import Recall
    from readthrough.memory.runs import Run, RunLog
    from readthrough.memory.shelf import Shelf
    from readthrough.models.base import ModelBackend

CHECKPOINTS = "checkpoints.sqlite"
"""The file in the home folder that holds the checkpoints of runs."""

CALIBRATIONS = "calibrations.json"
"""The file in the home folder that says how sure models are."""


@dataclass(frozen=True)
class Texts:
    """What `read` was called with: paths, standard input, and the names of the settings that were given."""

    paths: Sequence[str | Path] = ()
    stdin: bytes | None = None
    given: frozenset[str] = frozenset()

    def shelve(self, library: Library, settings: Settings) -> Shelf:
        """The texts in the library, up to the settings' position, split by their chunker.

        Raises:
            UsageError, InputError: they have no such position, or no paths can be read (see `Library`).
        """
        from readthrough.documents.base import Loading
        from readthrough.documents.chunking import open_chunker

        chunker = None if settings.chunker is None else open_chunker(settings.chunker)
        vectors = settings.index not in ("bm25", "late-interaction")
        shelf = library.shelve(
            [str(path) for path in self.paths],
            loading=Loading(settings.encoding, settings.ocr),
            stdin=self.stdin,
            vectors=vectors and settings.as_of is None,
            chunker=chunker,
        )
        if settings.as_of is not None:
            shelf = library.as_of(shelf, settings.as_of, chunker)
            if vectors:
                library.vectors.ensure(shelf.chunk_array())
        if settings.index == "late-interaction":
            library.token_vectors.ensure(shelf.chunk_array())
        return shelf


class Models:
    """The models of a Book, each opened on first use; `given` is one that was handed over in place of the settings'."""

    def __init__(self, settings: Settings, given: Any, on_event: Callable[[Event], None] | None) -> None:
        self._settings = settings
        self._on_event = on_event
        self.given = given
        self._opened: dict[str, ModelBackend] = {}
        self._lock = threading.Lock()

    def get(self, spec: Spec) -> ModelBackend:
        """The model that `spec` names."""
        with self._lock:
            if key(spec) not in self._opened:
                given = self.given if spec == self._settings.model else None
                self._opened[key(spec)] = self._open(given or spec)
            return self._opened[key(spec)]

    def close(self) -> None:
        """Give them back, but not the one that was handed over."""
        for model in self._opened.values():
            if model is not self.given:
                model.close()
        self._opened.clear()

    def _open(self, spec: Any) -> ModelBackend:
        from readthrough.models.base import ModelBackend
        from readthrough.models.open import open_model

        if isinstance(spec, ModelBackend):
            return spec
        settings = self._settings
        return open_model(
            spec,
            device=settings.device,
            dtype=settings.dtype,
            window_tokens=settings.window_tokens,
            base_url=settings.base_url,
            deadline_seconds=settings.deadline_seconds,
            readings=settings.readings,
            readings_bytes=settings.readings_bytes,
            on_event=self._on_event,
        )


def with_file(settings: Settings, given: frozenset[str]) -> Settings:
    """The settings, with what the workflow's YAML file says of chunker, index and position, where they name one.

    Raises:
        ConfigError: something in the file is wrong.
    """
    if not names_file(settings.workflow):
        return settings
    from readthrough.agents.spec.flow import Around, open_flow

    wanted = open_flow(settings.workflow, Around(settings.index, given)).settings
    return settings.model_copy(update={name: wanted[name] for name in ("chunker", "index", "as_of") if name in wanted})


def as_kept(settings: Settings, given: frozenset[str], run: Run) -> Settings:
    """The settings as they were for a run; a model that was given to `read` wins."""
    kept = run.recipe.get("settings", {})
    update = {"chunker": kept.get("chunker"), "as_of": kept.get("as_of")}
    if "model" not in given and kept.get("model") not in (None, settings.to_keep()["model"]):
        update["model"] = kept["model"]
    return settings.model_copy(update=update)


def key(spec: Spec | None) -> str:
    """A spec as the key of a dictionary."""
    return json.dumps(spec, sort_keys=True)


def open_library(settings: Settings, on_event: Callable[[Event], None] | None = None) -> Library:
    """The library in the folder that the settings name, kept within the size that they allow.

    Raises:
        LibraryError: it cannot be opened.
        ConfigError: the embedder is none, or its model is not there; or the settings name a store that does not exist,
            or options that it lacks.
    """
    from readthrough.memory.library import Library
    from readthrough.retrieval.embedders.open import open_embedder
    from readthrough.spec import build

    return Library.open(
        settings.home,
        embedder=open_embedder(settings.embedder, settings.device),
        size_limit_bytes=settings.size_limit_bytes,
        on_event=on_event,
        store=None if settings.store == "files" else build("stores", settings.store),
    )


def open_checkpoints(
    settings: Settings, given: BaseCheckpointSaver[Any] | None = None
) -> AbstractContextManager[BaseCheckpointSaver[Any]]:
    """The checkpoints of runs: the saver that was handed over, or those of the settings."""
    from readthrough.agents.runs.checkpoints import open_saver

    return nullcontext(given) if given is not None else open_saver(checkpoints_of(settings))


def checkpoints_of(settings: Settings) -> Path | str:
    """Where checkpoints are kept: a file in the settings' home folder, or the address of their database."""
    return settings.database or settings.home / CHECKPOINTS


def open_runs(settings: Settings) -> RunLog:
    """The log of all runs in the settings' home folder.

    Raises:
        LibraryError: it cannot be opened.
    """
    from readthrough.memory.runs import RunLog

    return RunLog(settings.home / "runs.sqlite")


def open_recall(settings: Settings) -> Recall:
    """What was asked and answered before, found by words and, where the embedder is installed, by meaning.

    Raises:
        LibraryError: it cannot be opened.
        ConfigError: the embedder is none, or its model is not there.
    """
    from readthrough.memory.recall import Recall
    from readthrough.retrieval.embedders.open import open_embedder

    return Recall(settings.home, open_embedder(settings.embedder, settings.device), settings.index)


def read_calibrations(settings: Settings) -> dict[str, Calibration]:
    """How sure models are, by their names, as `readthrough eval calibrate` fitted it.

    Raises:
        LibraryError: the file cannot be read.
    """
    from readthrough.agents.reading.confidence import Calibration

    path = settings.home / CALIBRATIONS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: Calibration.from_dict(values) for name, values in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LibraryError(
            f"the calibrations cannot be read: {error}", path=str(path), hint="delete the file, and calibrate again"
        ) from error


def keep_calibration(settings: Settings, model: str, calibration: Calibration) -> Path:
    """Keep a model's calibration beside the others; returns the file.

    Raises:
        LibraryError: the file cannot be read or written.
    """
    from readthrough.memory.database import exclusive, guard

    path = settings.home / CALIBRATIONS
    with guard(path, "calibrations"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")):
            kept = {**read_calibrations(settings), model: calibration}
            written = json.dumps({name: each.to_dict() for name, each in kept.items()}, indent=1)
            aside = path.with_suffix(".new")  # a kill while it is written leaves the file as it was
            aside.write_text(written + "\n", encoding="utf-8")
            aside.replace(path)
    return path


def forget(settings: Settings, runs: Iterable[Run] | None = None, turns: Iterable[Turn] | None = None) -> None:
    """Take out of what is found again every run but these, or every turn but these, after others were deleted.

    Raises:
        LibraryError: it cannot be written.
    """
    from readthrough.memory.recall import FOLDER

    if not (settings.home / FOLDER).exists():
        return
    recall = open_recall(settings)
    try:
        if runs is not None:
            recall.keep_runs(runs)
        if turns is not None:
            recall.keep_turns(turns)
    finally:
        recall.close()
