"""The extension point of `agents`: a Workflow builds a LangGraph graph that answers a question.

A workflow is a frozen dataclass: its fields are its options. `build` returns a real `CompiledStateGraph`; what
its nodes work with (model, shelf, run log) travels in the graph's context as `Services`, never in its state.
State holds ids, spans, hashes and counters; texts stay on the shelf and in the run log.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from readthrough.errors import UsageError
from readthrough.memory.runs import RunLog
from readthrough.models.base import Choice, Completion, Likelihood, ModelBackend, Request
from readthrough.types import Answer, Coverage, Event, Usage

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

    from readthrough.memory.shelf import Shelf

Counted = TypeVar("Counted", Completion, Choice, Likelihood)

MOST_CHOICES = 26
"""Options are named by the letters A to Z."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, with the options to choose from where it is multiple choice."""

    text: str
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("the question is empty", hint="ask something, in quotes")
        if self.choices is not None and not 2 <= len(self.choices) <= MOST_CHOICES:
            raise UsageError(f"a multiple-choice question has 2 to {MOST_CHOICES} choices, not {len(self.choices)}")
        if self.choices is not None and not all(choice.strip() for choice in self.choices):
            raise UsageError("a choice is empty", hint="give every --choice a text")


@dataclass
class Services:
    """What the nodes of one run work with. The model is wrapped so that every call is counted."""

    model: ModelBackend
    shelf: Shelf
    runs: RunLog
    run: str = ""
    on_event: Callable[[Event], None] | None = None
    on_text: Callable[[str], None] | None = None
    usage: Usage = field(default_factory=Usage)

    def emit(self, event: Event) -> None:
        """Tell whoever listens how far the run is."""
        if self.on_event is not None:
            self.on_event(event)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """`ModelBackend.complete`, counted."""
        return self._count(self.model.complete(requests)) if requests else []

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """`ModelBackend.choose`, counted."""
        return self._count(self.model.choose(requests, options)) if requests else []

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """`ModelBackend.likelihood`, counted."""
        return self._count(self.model.likelihood(requests, continuations)) if requests else []

    def write(self, request: Request) -> Completion:
        """Complete the request whose text the user reads: streamed where somebody listens."""
        if self.on_text is None:
            return self.complete([request])[0]
        return self._count([self.model.stream(request, self.on_text)])[0]

    def _count(self, results: list[Counted]) -> list[Counted]:
        for result in results:
            self.usage = self.usage + result.usage
        return results


@dataclass(frozen=True)
class Workflow(ABC):
    """A way to answer a question. `name` is its name in the catalogue."""

    name: ClassVar[str]

    @abstractmethod
    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """The compiled graph: input `{"question": str, "choices": list | None}`, context `Services`.

        The final state holds what `conclude` needs to make the Answer.
        """

    @abstractmethod
    def conclude(self, state: dict[str, Any], question: Question, services: Services) -> Answer:
        """The Answer of a finished state, without usage, run and model, which `run` fills in."""

    def run(self, question: Question, services: Services) -> Answer:
        """Run the graph to its end and return the Answer.

        Raises:
            ReadthroughError: of any kind that the model, the shelf or the workflow raise.
        """
        started = time.perf_counter()
        services.run = services.run or services.runs.start(question.text, self.name, services.model.name)
        services.usage = Usage()
        given = {"question": question.text, "choices": list(question.choices) if question.choices else None}
        state = self.build().invoke(given, {"recursion_limit": 10_000}, context=services)
        answer = self.conclude(dict(state), question, services)
        answer = replace(
            answer,
            usage=replace(services.usage, seconds=round(time.perf_counter() - started, 3)),
            workflow=self.name,
            model=services.model.name,
            run=services.run,
            skipped_files=services.shelf.skipped,
        )
        services.runs.finish(services.run, answer.to_dict())
        return answer


def ledger(services: Services, **states: Sequence[int]) -> Coverage:
    """The coverage of a run: `states` names the chunk ids of each state; what is in none is unread.

    A chunk that is named twice counts in the state that is named first.
    """
    tokens = services.shelf.count_tokens(services.model)
    left = dict(tokens)
    sums = {name: sum(left.pop(chunk, 0) for chunk in chunks) for name, chunks in states.items()}
    return Coverage(tokens=sum(tokens.values()), unread=sum(left.values()), **sums)
