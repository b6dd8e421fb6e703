"""Does what lies in front matter for the question? What does not is skipped without being read in full.

Decided by how much the passages raise the question, log p(question | passages) less log p(question), which small
models know far better than they can say it; without logits by asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.finding import raised
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.nodes.covering import cover
from readthrough.agents.nodes.material import running_text
from readthrough.agents.passages import unwrap
from readthrough.agents.services import Services
from readthrough.models.base import Request
from readthrough.types import Cost

MATTERS = """{text}

Question: {question}
Does the text above say anything that helps to answer this question? Answer Yes or No."""


@dataclass(frozen=True)
class GateNode(AskingNode):
    """Chooses whether the passages matter for the question (`matters`) or not (`skip`).

    Attributes:
        raised_above: how much the passages must raise the question, in log-probability a token.
        yes_above: how probable the model's yes must be, where it gives no logits.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("passages",),)

    raised_above: float = 0.0
    yes_above: float = 0.5

    @property
    def outcomes(self) -> tuple[str, ...]:
        """`matters`, or `skip`."""
        return ("matters", "skip")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Decide; what does not matter is skipped."""
        if state["passages"] and self._matters(state, services):
            return {"outcome": "matters"}
        return {"outcome": "skip", "covered": cover(state, services, "skipped", state["passages"])}

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """The passages once, and the question twice."""
        asked = services.model.count_tokens([question.text])[0]
        return Cost(calls=2, prompt_tokens=shown_tokens + 2 * asked)

    def _matters(self, state: Mapping[str, Any], services: Services) -> bool:
        question = state["question"]
        text = unwrap(running_text(services.shelf.get(state["passages"])))
        if "logits" not in services.model.capabilities:
            request = Request.user(MATTERS.format(text=text, question=question))
            return services.choose([request], [["Yes", "No"]])[0].probabilities[0] > self.yes_above
        gain = raised(services, question, [text])[0]
        services.decide("do the passages matter?", raised=gain)
        return gain > self.raised_above
