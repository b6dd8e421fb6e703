"""The built-in workflows as graphs for a LangGraph server: what `langgraph.json` names.

A graph is asked with `{"question": ..., "choices": ...}` and ends with `{"answer": ..., "run": ...}`, the answer as
`Answer.to_dict` gives it. What it reads, and with which model, is its context (`Reading`), or the same keys under
`configurable`. The server's checkpointer keeps every step: a run that was killed goes on where it was.

Whoever may ask such a graph may name paths: they can read every file that the server can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NotRequired

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict  # pydantic refuses typing's own before Python 3.12

from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs.running import begin, finish
from readthrough.agents.runs.services import Services
from readthrough.config import Overrides, load_settings
from readthrough.errors import UsageError
from readthrough.models.base import ModelBackend
from readthrough.opening import Models, Texts, open_library, open_runs
from readthrough.spec import build


@dataclass
class Reading:
    """What a graph reads: the context of every served graph.

    Attributes:
        paths: files and folders.
        model: as `--model` takes it; the server's settings where left out.
        home: the folder of library and runs; the server's settings where left out.
        index: the index to search; the server's settings where left out.
        as_of: a position after which nothing is read; to the end where left out.
    """

    paths: list[str] = field(default_factory=list)
    model: str | None = None
    home: str | None = None
    index: str | None = None
    as_of: str | None = None

    @classmethod
    def of(cls, configurable: Mapping[str, Any]) -> Reading:
        """The reading that a config's `configurable` describes; other keys are the server's own."""
        return cls(**{name: configurable[name] for name in _KEYS if configurable.get(name) is not None})


_KEYS = tuple(each.name for each in fields(Reading))


class Asked(TypedDict):
    """The input of every served graph."""

    question: str
    choices: NotRequired[list[str] | None]


class Answered(TypedDict):
    """The output of every served graph."""

    answer: dict[str, Any]
    run: str


class State(Asked, total=False):
    """What the graph around a workflow keeps."""

    run: str
    answer: dict[str, Any]


def graph_of(name: str) -> CompiledStateGraph[State, Reading, Asked, Answered]:
    """The workflow `name` of the catalogue as a graph without a checkpointer: a node begins the run, one answers."""

    def start(state: State, runtime: Runtime[Reading]) -> dict[str, Any]:
        with _opened(name, runtime) as (workflow, services):
            return {"run": begin(workflow, Question.of(state), services)}

    def answer(state: State, runtime: Runtime[Reading]) -> dict[str, Any]:
        started, question = time.perf_counter(), Question.of(state)
        with _opened(name, runtime) as (workflow, services):
            services.run = state["run"]
            before = sum(step.seconds for step in services.runs.steps(services.run))
            limit: RunnableConfig = {"recursion_limit": workflow.most_steps(len(services.shelf.chunk_ids()))}
            with services.runs.hold(services.run):
                values = workflow.build().invoke(question.to_state(), limit, context=services)
                made = workflow.conclude(values, question, services)
                made = finish(workflow, made, services, before + time.perf_counter() - started)
        return {"answer": made.to_dict()}

    graph = StateGraph(State, context_schema=Reading, input_schema=Asked, output_schema=Answered)
    graph.add_node("start", start)
    graph.add_node("answer", answer)
    graph.add_edge(START, "start")
    graph.add_edge("start", "answer")
    graph.add_edge("answer", END)
    return graph.compile(name=name)


@contextmanager
def _opened(name: str, runtime: Runtime[Reading]) -> Iterator[tuple[Workflow, Services]]:
    """The workflow, and what it works with, as the graph's context says."""
    reading = runtime.context or Reading.of(get_config().get("configurable", {}))
    if not reading.paths:
        raise UsageError("there is no text to read", hint="give `paths` in the context, or under `configurable`")
    overrides = Overrides(model=reading.model, home=reading.home, index=reading.index, as_of=reading.as_of)
    settings = load_settings(overrides).settings
    library, runs = open_library(settings), open_runs(settings)
    try:
        shelf = Texts(reading.paths).shelve(library, settings)
        workflow: Workflow = build("workflows", name, {}, {"index": settings.index})
        yield workflow, Services(_model(reading.model), shelf, runs, keep_replies=settings.keep_replies)
    finally:
        runs.close()
        library.close()


@lru_cache(maxsize=2)
def _model(spec: str | None) -> ModelBackend:
    """A model stays open between questions."""
    settings = load_settings(Overrides(model=spec)).settings
    return Models(settings, None, None).get(settings.model)


def _factory(name: str) -> Callable[[RunnableConfig], CompiledStateGraph[State, Reading, Asked, Answered]]:
    def make(config: RunnableConfig) -> CompiledStateGraph[State, Reading, Asked, Answered]:
        given = {key: value for key, value in config.get("configurable", {}).items() if key in _KEYS}
        return graph_of(name).with_config(configurable=given) if given else graph_of(name)

    make.__name__ = make.__qualname__ = name.replace("-", "_")
    make.__doc__ = f"The workflow `{name}`, reading what the config's `configurable` says."
    return make


retrieve = _factory("retrieve")
route = _factory("route")
memory_agent = _factory("memory-agent")
chain_of_agents = _factory("chain-of-agents")
map_reduce = _factory("map-reduce")
graph_reader = _factory("graph-reader")
retrieve_then_reason = _factory("retrieve-then-reason")
tree_walk = _factory("tree-walk")
gist_lookup = _factory("gist-lookup")
episodes = _factory("episodes")
probe_and_consolidate = _factory("probe-and-consolidate")
clarify = _factory("clarify")
self_shots = _factory("self-shots")
sculptor = _factory("sculptor")
recursive = _factory("recursive")
verify_claim = _factory("verify-claim")
iterative_summary = _factory("iterative-summary")
write_long = _factory("write-long")
extract = _factory("extract")
full_context = _factory("full-context")
