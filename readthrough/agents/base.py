"""The extension point of `agents`: a Workflow builds a LangGraph graph that answers a question.

A workflow is a frozen dataclass: its fields are its options. `build` returns a real `CompiledStateGraph`; what
its nodes work with (model, shelf, run log) travels in the graph's context as `Services`, never in its state.
State holds ids, spans, hashes and counters; texts stay on the shelf and in the run log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from readthrough.agents.runs.services import Services
from readthrough.errors import UsageError
from readthrough.types import Answer, Cost, Coverage

if TYPE_CHECKING:
    from langgraph.graph import StateGraph
    from langgraph.graph.state import CompiledStateGraph

MOST_CHOICES = 26
"""Options are named by the letters A to Z."""

_STEPS_A_CHUNK = 8
_MORE_STEPS = 1_000


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

    def to_state(self) -> dict[str, Any]:
        """The input of every workflow's graph."""
        return {"question": self.text, "choices": None if self.choices is None else list(self.choices)}

    @property
    def with_choices(self) -> str:
        """The question and all its options, as one text to look for."""
        return " ".join([self.text, *(self.choices or ())])

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Question:
        """The question of a graph's state."""
        choices = state.get("choices")
        return cls(state["question"], tuple(choices) if choices else None)


@dataclass(frozen=True)
class Workflow(ABC):
    """A way to answer a question. `name` is its name in the catalogue.

    Attributes:
        prompts: texts in place of prompts, by the name of each (see `readthrough.agents.reading.prompts`).
    """

    name: ClassVar[str]

    prompts: Mapping[str, str] = field(default_factory=dict, kw_only=True, hash=False)

    @property
    def prepares(self) -> bool:
        """Whether a run makes what is kept for every later question about the texts: one run does, before others."""
        return False

    @abstractmethod
    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """The compiled graph: input `{"question": str, "choices": list | None}`, context `Services`.

        Nodes are added by `add_nodes`, which notes them in the run log. Every loop has a bound of its own. The
        final state holds what `conclude` needs to make the Answer.
        """

    @abstractmethod
    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The Answer of a state, without usage, run and model, which `run` fills in.

        The state is a finished one, or one that a budget ended early, with what `finish_early` added.
        """

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """What to add to the state of a run that a budget has ended, to answer from what was read so far.

        May call the model within what `last_step` asked to be held back. The default answers that nothing is known.
        """
        from readthrough.agents.reading.answering import Reply

        return {"reply": Reply.unreached().keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """What `finish_early` takes, a long reply with it: held back from a budget until then.

        `seconds` is filled in by the runner.
        """
        return Cost()

    def estimate(self, question: Question, services: Services) -> Cost:
        """How many calls and tokens a run will take. `seconds` is filled in by the runner.

        Raises:
            UsageError: this workflow cannot say.
        """
        raise UsageError(f"{self.name} cannot say what it will take", hint="leave out --dry-run")

    def most_steps(self, chunks: int) -> int:
        """More steps than a run over `chunks` chunks can take; only a mistake in a graph would pass it."""
        return _MORE_STEPS + _STEPS_A_CHUNK * chunks

    def sources(self) -> tuple[str, ...]:
        """The modules whose source a run depends on: one that has changed does not resume it."""
        return (type(self).__module__,)

    def options(self) -> dict[str, Any]:
        """The options as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}

    def run(self, question: Question, services: Services) -> Answer:
        """Run the graph to its end, without checkpoints. See `readthrough.agents.runs.running.run`."""
        from readthrough.agents.runs.running import run

        return run(self, question, services)


def add_nodes(graph: StateGraph[Any, Services, Any, Any], nodes: Mapping[str, Callable[..., Any]]) -> None:
    """Add nodes `(state, runtime) -> state` whose work is noted in the run log, a step each."""
    from readthrough.agents.runs.stepping import noted

    for name, node in nodes.items():
        action: Any = noted(name, node)
        graph.add_node(name, action)


def ledger(services: Services, **states: Sequence[int]) -> Coverage:
    """The coverage of a run: `states` names the chunk ids of each state; what is in none is unread, as is all that
    stands after the position that the texts are read up to.

    A chunk that is named twice counts in the state that is named first. Where the model drops or quantises KV, what was
    read or retrieved is compressed.
    """
    tokens = services.shelf.count_tokens(services.model)
    left = dict(tokens)
    sums = {name: sum(left.pop(chunk, 0) for chunk in chunks) for name, chunks in states.items()}
    if services.model.compresses:
        sums["compressed"] = sums.pop("read", 0) + sums.pop("retrieved", 0) + sums.get("compressed", 0)
    after = services.as_of.unread_tokens if services.as_of is not None else 0
    return Coverage(tokens=sum(tokens.values()) + after, unread=sum(left.values()) + after, **sums)
