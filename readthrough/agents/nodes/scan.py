"""The next window of the text, in order: the heart of a graph that reads everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.nodes.base import ScanningNode
from readthrough.agents.reading.passages import prompt_tokens, windows
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.types import Event


@dataclass(frozen=True)
class ScanNode(ScanningNode):
    """Takes the next window of chunks in reading order (`more`), until all were taken (`done`).

    Attributes:
        window_tokens: the most tokens of a window.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"passages"})
    bounded: ClassVar[frozenset[str]] = frozenset({"more"})

    window_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.window_tokens < 1:
            raise ValueError("a window must hold something")

    @property
    def outcomes(self) -> tuple[str, ...]:
        """`more` with a window, `done` without one."""
        return ("more", "done")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Plan the windows once, then take one a visit."""
        plan, at = state.get("own") or (services.put_json(self._windows(services)), 0)
        steps = services.get_json(plan)
        if at == len(steps):
            return {"outcome": "done", "passages": [], "own": (plan, at)}
        services.emit(Event("read", at + 1, len(steps), "windows"))
        return {"outcome": "more", "passages": steps[at], "origin": "read", "own": (plan, at + 1)}

    @property
    def shown_tokens(self) -> int:
        """A window."""
        return self.window_tokens

    def visits(self, services: Services) -> int:
        """A window a visit."""
        return len(self._windows(services))

    def _windows(self, services: Services) -> list[list[int]]:
        tokens = prompt_tokens(services)
        try:
            return windows(services.shelf.chunk_ids(), tokens, self.window_tokens)
        except ValueError as error:
            raise PromptTooLongError(str(error), hint="raise window_tokens, or make smaller chunks") from error
