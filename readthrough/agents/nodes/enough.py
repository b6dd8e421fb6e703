"""Do the notes, or the passages, state the answer yet?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.nodes.material import PASSAGE_TOKENS, material
from readthrough.agents.reading.concluding import answer_cost
from readthrough.agents.reading.looking import look
from readthrough.agents.runs.services import Services
from readthrough.types import Cost


@dataclass(frozen=True)
class EnoughNode(AskingNode):
    """Chooses whether the notes or passages state the answer (`enough`) or not (`more`).

    Attributes:
        threshold: the probability that they do, from which on it is enough.
        passage_tokens: the most tokens of passages to look at, where there are no notes.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("notes", "passages"),)

    threshold: float = 0.5
    passage_tokens: int = PASSAGE_TOKENS

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError("a threshold is a probability, from 0 to 1")

    @property
    def outcomes(self) -> tuple[str, ...]:
        """`enough`, or `more`."""
        return ("enough", "more")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Look, and compare."""
        shown = material(state, services, self.passage_tokens)
        if shown is None:
            return {"outcome": "more"}
        stated = look(services, shown.text, Question.of(state)).stated
        services.decide("is it enough?", stated=stated)
        return {"outcome": "enough" if stated >= self.threshold else "more"}

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """One look."""
        return answer_cost(services, question, self.passage_tokens, 0)
