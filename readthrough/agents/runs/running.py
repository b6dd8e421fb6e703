"""Running a workflow: checkpoints, resuming, budgets, approvals, and what is written to the run log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from readthrough.agents.reading.answering import NOT_STATED, Reply
from readthrough.agents.reading.prompts import replaced, replacements
from readthrough.agents.runs.estimating import expected
from readthrough.agents.runs.recipe import changes, key_of, recipe
from readthrough.errors import BudgetError, LibraryError, ReadthroughError, UsageError
from readthrough.types import Answer, Limits, Usage

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from readthrough.agents.base import Question, Workflow
    from readthrough.agents.runs.services import Services
    from readthrough.memory.runs import Run, Step

FINISHING = "finish early"
"""The node's name in the run log, of the step that answers from what was read when a budget is spent."""
NOT_ACCEPTED = "The answer was not accepted."

_ASKED = "__interrupt__"
"""LangGraph's key of what a graph asks."""


def run(
    workflow: Workflow,
    question: Question,
    services: Services,
    saver: BaseCheckpointSaver[Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    before: Step | None = None,
) -> Answer:
    """Run a workflow to its end, or until a budget or an open approval ends it, and return the Answer.

    Every step is written to the run log; with a `saver`, the graph's state after every step too, under the run's
    id (that of `services` where it has one), so that `resume` can go on. `settings` is kept beside the recipe, for
    whoever resumes; `before` is what was done to find out what to ask, a step with the number 0. Of a run that fails
    before its first step is done nothing is kept.

    Raises:
        ReadthroughError: of any kind that the model, the shelf or the workflow raise.
    """
    services.run = begin(workflow, question, services, settings)
    if before is not None:
        services.runs.log(services.run, before)
    try:
        with services.runs.hold(services.run):
            return _go_on(workflow, question, services, saver)
    except ReadthroughError:
        if not _taken(services):  # it was refused: there is nothing to go on with
            services.runs.delete([services.run])
            if saver is not None:
                saver.delete_thread(services.run)
        raise


def begin(workflow: Workflow, question: Question, services: Services, settings: Mapping[str, Any] | None = None) -> str:
    """Note the beginning of a run with all that it is made of; returns its id: that of `services`, if it is new."""
    made_of = {**recipe(workflow, services.model, services.shelf), "settings": dict(settings or {})}
    try:
        made_of["expected"] = asdict(expected(workflow, question, services))
    except ReadthroughError:
        made_of["expected"] = None  # it cannot say, or the run is about to say what is wrong
    made_of["key"] = key_of(question, made_of)
    made_of["abstain_below"] = services.budget.limits.abstain_below
    named = "" if services.runs.has(services.run) else services.run
    return services.runs.start(question.text, workflow.name, services.model.name, question.choices, made_of, named)


def asked_before(
    workflow: Workflow, question: Question, services: Services, settings: Mapping[str, Any] | None = None
) -> Run | None:
    """The newest run of the same question over the same texts by the same workflow, model and settings, if any."""
    made_of = {**recipe(workflow, services.model, services.shelf), "settings": dict(settings or {})}
    return services.runs.same(key_of(question, made_of))


def stands(found: Run, limits: Limits) -> bool:
    """Whether a run has an answer that it would have under these limits too.

    A refusal may be for a confidence below the limit that the run had, so it stands under the same limit alone.
    """
    answer = found.answer
    if answer is None or answer["stopped"] is not None:
        return False
    if answer["abstained"]:
        return "abstain_below" in found.recipe and found.recipe["abstain_below"] == limits.abstain_below
    least = max(limits.abstain_below or 0.0, limits.approve_below or 0.0)
    return answer["confidence"] is None or answer["confidence"] >= least


def finish(workflow: Workflow, answer: Answer, services: Services, seconds: float) -> Answer:
    """An answer of the run `services.run` with all that it took, noted as the run's answer."""
    usage = sum((step.usage for step in services.runs.steps(services.run)), Usage())
    answer = replace(
        answer,
        usage=replace(usage, seconds=round(seconds, 3)),
        workflow=workflow.name,
        model=services.model.name,
        plan=services.model.plan_name,
        run=services.run,
        skipped_files=services.shelf.skipped,
        as_of=services.as_of,
    )
    services.runs.finish(services.run, answer.to_dict())
    return answer


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
        services.runs.amend(found.id, "abstain_below", services.budget.limits.abstain_below)
        return _go_on(workflow, question, services, saver)


def _go_on(
    workflow: Workflow, question: Question, services: Services, saver: BaseCheckpointSaver[Any] | None
) -> Answer:
    started = time.perf_counter()
    before = sum(step.seconds for step in services.runs.steps(services.run))
    services.check_prices()
    services.budget.begin(services.priced(workflow.last_step(question, services)))
    try:
        with replaced(replacements(workflow)):
            state, stopped = _invoke(workflow, _compiled(workflow, saver), question, services)
            answer = _answer(workflow, state, question, services)
    finally:
        services.budget.end()
    answer = replace(answer, stopped=stopped or answer.stopped)
    return finish(workflow, answer, services, before + time.perf_counter() - started)


def _compiled(
    workflow: Workflow, saver: BaseCheckpointSaver[Any] | None
) -> CompiledStateGraph[Any, Services, Any, Any]:
    from langgraph.checkpoint.memory import InMemorySaver

    from readthrough.agents.runs.approving import with_approvals

    return with_approvals(workflow).compile(checkpointer=saver or InMemorySaver())


def _answer(workflow: Workflow, state: dict[str, Any], question: Question, services: Services) -> Answer:
    """The Answer of a state; of one whose approval was refused, that nothing was said."""
    from readthrough.agents.runs.approving import denied

    if "reply" not in state:
        state = {**state, "reply": Reply.unreached().keep(services)}
    answer = workflow.conclude(state, question, services)
    refused = denied(state)
    if refused is None:
        return _sure(answer, services.budget.limits.abstain_below)
    return replace(answer, answer=NOT_ACCEPTED, abstained=True, evidence=(), stopped=refused)


def _sure(answer: Answer, least: float | None) -> Answer:
    """The answer, or a refusal where its confidence is lower than what was asked for."""
    if least is None or answer.abstained or answer.confidence is None or answer.confidence >= least:
        return answer
    unsure = round(1 - answer.confidence, 4)
    return replace(answer, answer=NOT_STATED, abstained=True, evidence=(), confidence=unsure)


def _invoke(
    workflow: Workflow, graph: CompiledStateGraph[Any, Services, Any, Any], question: Question, services: Services
) -> tuple[dict[str, Any], str | None]:
    """The last state, and what ended the run before its end: a budget, or a question that nobody answered."""
    from langgraph.errors import GraphRecursionError

    chunks = len(services.shelf.chunk_ids())
    config: RunnableConfig = {
        "configurable": {"thread_id": services.run},
        "recursion_limit": workflow.most_steps(chunks),
    }
    state = _saved(graph, config)
    if not state and _taken(services):
        raise UsageError(
            f"run {services.run} has no checkpoints here", hint="hand over the checkpointer that it was asked with"
        )
    given: Any = None if state else question.to_state()
    while True:
        try:
            values = graph.invoke(given, config, context=services, durability="sync") or {}
        except (BudgetError, GraphRecursionError) as error:
            state = _saved(graph, config)
            steps = f"max_steps={config['recursion_limit']}"
            return {**state, **_early(workflow, state, services)}, getattr(error, "budget", steps)
        asked = values.get(_ASKED)
        if not asked:
            return _saved(graph, config), None
        given = _decision(asked[0].value, services)
        if given is None:
            return _saved(graph, config), str(asked[0].value["stopped"])


def _taken(services: Services) -> bool:
    """Whether the run has taken a step of its graph."""
    return any(step.number > 0 for step in services.runs.steps(services.run))


def _saved(graph: CompiledStateGraph[Any, Services, Any, Any], config: RunnableConfig) -> dict[str, Any]:
    """The state of the last checkpoint, of the workflow's own graph where it was at work; empty where there is none."""
    from langgraph.types import StateSnapshot

    try:
        snapshot = graph.get_state(config, subgraphs=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # whatever a damaged file makes of it
        run = config["configurable"]["thread_id"]
        raise LibraryError(f"the checkpoints of run {run} cannot be read", hint="ask the question again") from error
    inner = next((task.state for task in snapshot.tasks if isinstance(task.state, StateSnapshot)), None)
    return {**snapshot.values, **(inner.values if inner is not None else {})}


def _decision(asked: Mapping[str, Any], services: Services) -> Any:
    """The command that answers what was asked, None where nobody is there to answer."""
    from langgraph.types import Command

    if services.on_approval is None:
        return None
    with services.budget.paused():
        return Command(resume=services.on_approval(asked))


def _early(workflow: Workflow, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """The best that can be said of what was read, within what was held back for it."""
    last = max((step.number for step in services.runs.steps(services.run)), default=0)
    try:
        with services.budget.finishing(), services.step(FINISHING, last + 1):
            return workflow.finish_early(state, services)
    except BudgetError:
        return {"reply": Reply.unreached().keep(services)}
