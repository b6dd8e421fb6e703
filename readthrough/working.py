"""What a Book works with: the library, the texts as chunkers split them, models, the run log; one answer at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from readthrough.config import Settings
from readthrough.errors import ReadthroughError
from readthrough.opening import Models, Texts, key, open_checkpoints, open_runs, read_calibrations
from readthrough.types import Event, Limits

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from readthrough.agents.base import Workflow
    from readthrough.agents.runs.pool import Pool
    from readthrough.agents.runs.services import Services
    from readthrough.agents.spec.flow import Flow
    from readthrough.memory.library import Library
    from readthrough.memory.runs import RunLog
    from readthrough.memory.shelf import Shelf
    from readthrough.models.base import ModelBackend
    from readthrough.retrieval.base import Embedder

OnEvent = Callable[[Event], None]
OnText = Callable[[str], None]
OnApproval = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Prepared:
    """A workflow, what it works with, and what the run log keeps of the settings."""

    workflow: Workflow
    services: Services
    kept: Mapping[str, Any]


class Working:
    """The parts of a Book that are opened on first use, and closed with it.

    Attributes:
        pools: what all answers take from, together with those of other books that have the same.
    """

    def __init__(
        self,
        library: Library,
        shelf: Shelf,
        settings: Settings,
        *,
        model: Any = None,
        on_event: OnEvent | None = None,
        texts: Texts | None = None,
    ) -> None:
        self.pools: Sequence[Pool] = ()
        self._library = library
        self._shelf = shelf
        self._settings = settings
        self._on_event = on_event
        self._texts = texts or Texts()
        self._shelves = {_split_by(settings): shelf}
        self._models = Models(settings, model, on_event)
        self._runs: RunLog | None = None
        self._lock = threading.Lock()
        self._services_now: Services | None = None

    @property
    def settings(self) -> Settings:
        """The settings that the texts were read with."""
        return self._settings

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and folders that were read, as they were given."""
        return tuple(str(path) for path in self._texts.paths)

    @property
    def embedder(self) -> Embedder:
        """The embedder of the library; its weights are loaded on first use."""
        return self._library.embedder

    @property
    def run(self) -> str:
        """The id of the latest run, empty before the first."""
        return self._services_now.run if self._services_now is not None else ""

    @property
    def model(self) -> ModelBackend:
        """The model, opened on first use and shared by all questions."""
        return self._models.get(self._settings.model)

    @property
    def runs(self) -> RunLog:
        """The log of all runs in the settings' home folder."""
        if self._runs is None:
            self._runs = open_runs(self._settings)
        return self._runs

    def _flow(
        self, spec: str | dict[str, Any] | None, options: dict[str, Any], given: frozenset[str] | None = None
    ) -> Flow:
        """A workflow, and what its file wants; `given` are the settings that win over the file, those of `read`."""
        from readthrough.agents.spec.flow import Around, open_flow

        around = Around(self._settings.index, self._texts.given if given is None else given, options)
        return open_flow(spec or self._settings.workflow, around)

    def _shelved(self, settings: Settings) -> Shelf:
        """The texts as the settings' chunker splits them, up to their position."""
        split = _split_by(settings)
        if split not in self._shelves:
            self._shelves[split] = self._texts.shelve(self._library, settings)
        return self._shelves[split]

    def _services(
        self,
        settings: Settings,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        on_approval: OnApproval | None = None,
    ) -> Services:
        from readthrough.agents.runs.budget import Budget
        from readthrough.agents.runs.services import Services

        model, shelf = self._models.get(settings.model), self._shelved(settings)
        services = Services(model, shelf, self.runs, on_event=self._on_event, on_text=on_text)
        services.open_model, services.keep_replies = self._models.get, self._settings.keep_replies
        services.calibrations = read_calibrations(self._settings)
        services.budget, services.on_approval = Budget(limits, self.pools), on_approval
        self._services_now = services
        return services

    def prepare(
        self,
        workflow: str | dict[str, Any] | None = None,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        on_approval: OnApproval | None = None,
        **options: Any,
    ) -> Prepared:
        """The workflow that is run for these arguments of `ask`, and what it works with. Nothing is asked."""
        as_of = options.pop("as_of", None)
        flow = self._flow(workflow, options)
        settings = self._with(flow, as_of)
        return Prepared(flow.workflow, self._services(settings, on_text, limits, on_approval), self._to_keep(settings))

    def prepares(self, workflow: str | dict[str, Any] | None = None, **options: Any) -> bool:
        """Whether a run makes what is kept for those after it; of one that cannot be begun it is left to the run to say
        why."""
        options.pop("as_of", None)
        with suppress(ReadthroughError):
            return self._flow(workflow, options).workflow.prepares
        return False

    def _with(self, flow: Flow, as_of: str | None = None) -> Settings:
        """The settings that a workflow is run with; `as_of` wins over its file."""
        given = {} if as_of is None else {"as_of": as_of}
        return self._settings.model_copy(update={**flow.settings, **given})

    @contextmanager
    def at_work(self, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Iterator[BaseCheckpointSaver[Any]]:
        """One model, one answer at a time: others wait. Gives the saver of checkpoints, the one that was handed over
        or the file in the home folder."""
        with self._lock, open_checkpoints(self._settings, checkpointer) as saver:
            yield saver

    def _to_keep(self, settings: Settings) -> dict[str, Any]:
        """What `reopen` needs; a model that was handed over ready must be handed over again."""
        from readthrough.agents.runs.recipe import to_reopen

        return to_reopen(settings, self.paths, self._models.given is not None)

    def close(self) -> None:
        """Give back the model (unless it was handed over ready), the run log and the library."""
        self._models.close()
        if self._runs is not None:
            self._runs.close()
        self._library.close()
        self._runs = None


def _split_by(settings: Settings) -> tuple[str, str | None]:
    """What tells the shelves of the same texts apart."""
    return key(settings.chunker), settings.as_of
