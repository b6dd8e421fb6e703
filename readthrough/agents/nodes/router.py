"""Which way of reading fits the question? A scored choice over ways that the user describes.

Source: LC-Boost, arXiv 2405.15318, where a model decides how to access the text.

Differs from the paper: it is decided once, before anything is read, by probabilities and not by a written action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from readthrough.agents.base import MOST_CHOICES, Question
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.reading.prompts import check
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.types import Cost

ROUTE = """A question is to be answered about a long text.

Question: {question}

What kind of question is it?
{routes}
Answer with the letter."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class RouterNode(AskingNode):
    """Chooses by the kind of question: the outcomes are the names of `routes`.

    Attributes:
        routes: for each outcome the kind of question it is for, in words.
        prompt: what it is told; `{question}` and `{routes}` are filled in.
    """

    routes: dict[str, str] = field(kw_only=True, hash=False)
    prompt: str = ROUTE

    def __post_init__(self) -> None:
        check(self.prompt, ROUTE)
        if not 2 <= len(self.routes) <= MOST_CHOICES:
            raise ValueError(f"a router chooses between 2 to {MOST_CHOICES} routes, not {len(self.routes)}")
        for name, kind in self.routes.items():
            if not kind.strip():
                raise ValueError(f"the route {name!r} does not say what it is for")

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The names of the routes."""
        return tuple(self.routes)

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Choose, every route having stood at every letter: small models favour a letter."""
        names = self.outcomes
        count = len(names) if "logits" in services.model.capabilities else 1
        orders = [names[shift:] + names[:shift] for shift in range(count)]
        letters = _LETTERS[: len(names)]
        requests = [Request.user(self._text(state["question"], order)) for order in orders]
        choices = services.choose(requests, [list(letters)] * count)
        mean = dict.fromkeys(names, 0.0)
        for order, choice in zip(orders, choices, strict=True):
            for name, share in zip(order, choice.probabilities, strict=True):
                mean[name] += share / count
        services.decide("which route?", **mean)
        return {"outcome": max(names, key=mean.__getitem__)}

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """A call a route."""
        calls = len(self.routes)
        asked = services.model.count_tokens([self._text(question.text, self.outcomes)])[0]
        return Cost(calls=calls, prompt_tokens=calls * asked)

    def _text(self, question: str, order: tuple[str, ...]) -> str:
        lines = [f"{letter}. {self.routes[name]}" for letter, name in zip(_LETTERS, order, strict=False)]
        return self.prompt.format(question=question, routes="\n".join(lines))
