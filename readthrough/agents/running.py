"""Running a workflow: checkpoints, resuming, budgets, and what is written to the run log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from readthrough.agents.answering import NOT_REACHED, Reply
from readthrough.agents.recipe import changes, recipe
from readthrough.errors import BudgetError, UsageError
from readthrough.types import Answer, Usage

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from readthrough.agents.base import Question, Workflow
    from readthrough.agents.services import Services

_STEPS_A_CHUNK = 8
_MORE_STEPS = 1_000


def run(
    workflow: Workflow,
    question: Question,
    services: Services,
    saver: BaseCheckpointSaver[Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Answer:
    """Run a workflow to its end, or until a budget ends it, and return the Answer.

    Every step is written to the run log; with a `saver`, the graph's state after every step too, under the run's
    id, so that `resume` can go on. `settings` is kept beside the recipe, for whoever resumes.

    Raises:
        ReadthroughError: of any kind that the model, the shelf or the workflow raise.
    """
    made_of = {**recipe(workflow, services.model, services.shelf), "settings": dict(settings or {})}
    services.run = services.runs.start(question.text, workflow.name, services.model.name, question.choices, made_of)
    with services.runs.hold(services.run):
        return _go_on(workflow, question, services, saver)


def resume(workflow: Workflow, question: Question, services: Services, saver: BaseCheckpointSaver[Any]) -> Answer:
    """Go on with the run `services.run` from its last checkpoint; at most one step is repeated.

    Raises:
        UsageError: workflow, model or documents are not what they were, or another process is at it.
    """
    found = services.runs.find(services.run)
    changed = changes(found.recipe, recipe(workflow, services.model, services.shelf))
    if changed:
        raise UsageError(
            f"run {found.id} cannot be resumed: changed since then: {'; '.join(changed)}",
            hint="ask the question again",
        )
    with services.runs.hold(found.id):
        return _go_on(workflow, question, services, saver)


def _go_on(
    workflow: Workflow, question: Question, services: Services, saver: BaseCheckpointSaver[Any] | None
) -> Answer:
    started = time.perf_counter()
    before = sum((replace(step.usage, seconds=step.seconds) for step in services.runs.steps(services.run)), Usage())
    services.budget.hold(workflow.last_step(question, services))
    graph = workflow.build()
    if saver is not None:
        graph = graph.copy({"checkpointer": saver})
    state, stopped = _invoke(workflow, graph, question, services)
    answer = workflow.conclude(state, question, services)
    usage = before + services.budget.spent
    answer = replace(
        answer,
        usage=replace(usage, seconds=round(before.seconds + time.perf_counter() - started, 3)),
        stopped=stopped or answer.stopped,
        workflow=workflow.name,
        model=services.model.name,
        run=services.run,
        skipped_files=services.shelf.skipped,
    )
    services.runs.finish(services.run, answer.to_dict())
    return answer


def _invoke(
    workflow: Workflow, graph: CompiledStateGraph[Any, Services, Any, Any], question: Question, services: Services
) -> tuple[dict[str, Any], str | None]:
    """The last state, and the budget that ended the run before its end."""
    chunks = len(services.shelf.chunk_ids())
    config: RunnableConfig = {
        "configurable": {"thread_id": services.run},
        "recursion_limit": _MORE_STEPS + _STEPS_A_CHUNK * chunks,
    }
    given: dict[str, Any] | None = question.to_state()
    state: dict[str, Any] = dict(given or {})
    saved = graph.get_state(config).values if graph.checkpointer else None
    if saved:
        given, state = None, dict(saved)
    durability: Literal["sync"] | None = "sync" if graph.checkpointer else None
    try:
        for values in graph.stream(given, config, context=services, stream_mode="values", durability=durability):
            state = dict(values)
    except BudgetError as error:
        return {**state, **_early(workflow, state, services)}, error.budget
    return state, None


def _early(workflow: Workflow, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """The best that can be said of what was read, within what was held back for it."""
    try:
        with services.budget.finishing(), services.budget.in_time():
            return workflow.finish_early(state, services)
    except BudgetError:
        return {"reply": Reply(NOT_REACHED, abstained=True).keep(services)}
