"""Find the chunks that fit the question, or the last query the model wrote, best; each time the next ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import Node
from readthrough.agents.nodes.covering import covered
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.runs.services import Services
from readthrough.types import Event


@dataclass(frozen=True)
class RetrieveNode(Node):
    """Finds the chunks that fit best and were not read before.

    Attributes:
        k: how many.
        index: the index to search, by its name in the catalogue; the file's where left out.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"passages"})

    k: int = 12
    index: str = "hybrid"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("at least one chunk must be asked for")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Search; what was read before is left out."""
        question = Question.of(state)
        if "queries" in state:
            question = Question(services.get_json(state["queries"])[-1])
        before = covered(state, services)
        seen = {*before["read"], *before["retrieved"]}
        ranked = find_chunks(services.shelf, question, self.index, self.k + len(seen))
        found = [chunk for chunk in ranked if chunk not in seen][: self.k]
        services.emit(Event("find", len(found), len(found), "passages"))
        return {"passages": found, "origin": "retrieved"}
