"""A graph that a user wrote, as a workflow."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.nodes.base import AskingNode, Node, State
from readthrough.agents.nodes.covering import covered
from readthrough.agents.nodes.manager import ManagerNode
from readthrough.agents.nodes.material import PASSAGE_TOKENS
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import quotes_for
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.spec.checking import distances, in_loops, scan_of, unbounded
from readthrough.agents.spec.graph import END, Graph
from readthrough.types import Answer, Cost

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime


@dataclass(frozen=True)
class GraphWorkflow(Workflow):
    """A graph of nodes of the catalogue.

    Attributes:
        name: what the user called it: the file's name.
        graph: the graph.
        written: what the file says, with the index that was taken; enough to read the graph again.
    """

    name: str  # type: ignore[misc]  # a built-in's name is its class's, a graph's its own
    graph: Graph = field(repr=False)
    written: Mapping[str, Any] = field(repr=False, hash=False)

    def options(self) -> dict[str, Any]:
        """What the file says."""
        return dict(self.written)

    def sources(self) -> tuple[str, ...]:
        """This module, and those of the nodes."""
        return (*super().sources(), *sorted({type(node).__module__ for node in self.graph.nodes.values()}))

    def most_steps(self, chunks: int) -> int:
        """Each choice, and each window of the text, is followed by a walk over every node at most."""
        choices = len(self._bounded_branches()) * (self.graph.rounds or 0)
        return (len(self.graph.nodes) + 1) * (choices + chunks + 2)

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """The nodes under their names; a node that chooses is followed by the ways it may choose."""
        from langgraph.graph import END as LAST
        from langgraph.graph import START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {name: self._visit(name, node) for name, node in self.graph.nodes.items()})
        graph.add_edge(START, self.graph.first)
        for name, ways in self.graph.ways.items():
            targets: dict[Hashable, str] = {
                outcome: LAST if target == END else target for outcome, target in ways.items()
            }
            if self.graph.nodes[name].outcomes:
                graph.add_conditional_edges(name, _outcome, targets)
            else:
                graph.add_edge(name, *targets.values())
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply, the quotes that stand for it, and what was read, retrieved and skipped."""
        reply = Reply.kept(services, state["reply"])
        coverage = ledger(services, **covered(state, services))
        return reply.to_answer(question, quotes_for(services, question, reply, state.get("pointers", [])), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer of the graph's manager from the notes or passages so far."""
        manager = self._manager()
        if manager is None or not (state.get("notes") or state.get("passages")):
            return super().finish_early(state, services)
        return manager.work(state, services.using(manager.model))

    def last_step(self, question: Question, services: Services) -> Cost:
        """The manager's calls."""
        manager = self._manager()
        if manager is None:
            return Cost()
        likely = manager.cost(question, services.using(manager.model), PASSAGE_TOKENS)
        return with_spare(likely, manager.answer_tokens)

    def estimate(self, question: Question, services: Services) -> Cost:
        """The most it can take: every window and every round, and every way of a branch."""
        calls = prompt = written = 0
        for name, node in self.graph.nodes.items():
            own = _for(node, services)
            scan = scan_of(self.graph, name)
            rounds = (self.graph.rounds or 0) + 1 if name in in_loops(self.graph) else 1
            visits = rounds if scan is None else max(rounds, scan.visits(services))
            cost = node.cost(question, own, PASSAGE_TOKENS if scan is None else scan.shown_tokens)
            first = node.first_cost(question, own)
            calls += visits * cost.calls + first.calls
            prompt += visits * cost.prompt_tokens + first.prompt_tokens
            written += visits * cost.completion_tokens
        return Cost(calls=calls, prompt_tokens=prompt, completion_tokens=written)

    def _visit(self, name: str, node: Node) -> Callable[[State, Runtime[Services]], dict[str, Any]]:
        rounds = self.graph.rounds if name in self._bounded_branches() else None
        way_out = self._way_out(name) if rounds is not None else ""

        def visit(state: State, runtime: Runtime[Services]) -> dict[str, Any]:
            past = state.get("rounds", {})
            if rounds is not None and past.get(name, 0) >= rounds:
                runtime.context.decide("the rounds are over", rounds=rounds)
                return {"outcome": way_out}
            own = state.get("own", {})
            update = node.work({**state, "own": own.get(name)}, _for(node, runtime.context))
            if "own" in update:
                update["own"] = {**own, name: update["own"]}
            if rounds is not None:
                update["rounds"] = {**past, name: past.get(name, 0) + 1}
            return update

        visit.__doc__ = type(node).__doc__
        return visit

    def _bounded_branches(self) -> set[str]:
        """The branches that `rounds` bounds."""
        return {name for name in in_loops(self.graph) if len(unbounded(self.graph, name)) > 1}

    def _way_out(self, name: str) -> str:
        """The outcome from which the end is nearest."""
        near = distances(self.graph)
        ways = unbounded(self.graph, name)
        return min(ways, key=lambda outcome: near[ways[outcome]])

    def _manager(self) -> ManagerNode | None:
        return next((node for node in self.graph.nodes.values() if isinstance(node, ManagerNode)), None)


def _for(node: Node, services: Services) -> Services:
    return services.using(node.model) if isinstance(node, AskingNode) else services


def _outcome(state: State) -> str:
    return state["outcome"]
