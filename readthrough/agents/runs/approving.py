"""The graph around every workflow's graph: approval before work starts, and before a doubtful answer is accepted.

A node first notes what there is to ask, the next asks it by LangGraph's `interrupt`, which `Command(resume=True)` or
`Command(resume=False)` answers. So nothing is reckoned again when a run goes on, and thresholds may change meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.runtime import Runtime  # langgraph reads the annotations of nodes

from readthrough.agents.base import Question
from readthrough.agents.runs.estimating import estimate
from readthrough.agents.runs.services import Services

if TYPE_CHECKING:
    from langgraph.graph import StateGraph

    from readthrough.agents.base import Workflow

DENIED = "denied: "
"""How `Answer.stopped` begins where an approval was refused."""


class Approval(TypedDict, total=False):
    """What the nodes of this graph add to the workflow's state: the open question, and whether it was approved."""

    question: str
    choices: list[str] | None
    approval_asked: dict[str, Any] | None
    approval_given: bool


def with_approvals(workflow: Workflow) -> StateGraph[Any, Services, Any, Any]:
    """The workflow's graph as a node between its two approvals, to be compiled; input and context are its own.

    Where `Services.budget.limits` set no threshold, nothing is asked. What is asked is a plain dictionary:
    `message`, `stopped` (the limit, as `Answer.stopped` names it) and the figures behind the message.
    """
    from langgraph.graph import END, START, StateGraph

    work = workflow.build()
    schema = work.builder.state_schema
    outer: StateGraph[Any, Services, Any, Any] = StateGraph(schema, context_schema=Services)

    def expect(state: Approval, runtime: Runtime[Services]) -> Approval:
        return {"approval_asked": _cost(workflow, state, runtime.context)}

    def judge(state: Any, runtime: Runtime[Services]) -> Approval:
        return {"approval_asked": _doubt(workflow, state, runtime.context)}

    outer.add_node("expect", expect, input_schema=Approval)
    outer.add_node("approve", _ask, input_schema=Approval)
    outer.add_node("work", work)
    outer.add_node("judge", judge, input_schema=schema)
    outer.add_node("accept", _ask, input_schema=Approval)
    outer.add_edge(START, "expect")
    outer.add_edge("expect", "approve")
    outer.add_conditional_edges("approve", _may_work, {True: "work", False: END})
    outer.add_edge("work", "judge")
    outer.add_edge("judge", "accept")
    outer.add_edge("accept", END)
    return outer


def denied(state: Mapping[str, Any]) -> str | None:
    """What `Answer.stopped` says of a finished state whose approval was refused, None where it was given."""
    asked = state.get("approval_asked")
    return DENIED + str(asked["stopped"]) if asked and state.get("approval_given") is False else None


def _ask(state: Approval) -> Approval:
    from langgraph.types import interrupt

    asked = state.get("approval_asked")
    return {"approval_given": asked is None or bool(interrupt(asked))}


def _may_work(state: Approval) -> bool:
    return state["approval_given"]


def _cost(workflow: Workflow, state: Approval, services: Services) -> dict[str, Any] | None:
    limit = services.budget.limits.approve_above_seconds
    if limit is None:
        return None
    cost = estimate(workflow, Question.of(state), services)
    if cost.seconds <= limit:
        return None
    return {
        "message": f"This will take about {cost.seconds:,.0f} s: {cost.calls:,} calls, {cost.tokens:,} tokens.",
        "stopped": f"approve_above_seconds={limit:g}",
        "seconds": cost.seconds,
        "calls": cost.calls,
        "tokens": cost.tokens,
    }


def _doubt(workflow: Workflow, state: Mapping[str, Any], services: Services) -> dict[str, Any] | None:
    limit = services.budget.limits.approve_below
    if limit is None:
        return None
    answer = workflow.conclude(state, Question.of(state), services)
    if answer.abstained or answer.confidence is None or answer.confidence >= limit:
        return None
    return {
        "message": f"The answer has a confidence of {answer.confidence:.2f}: {answer.answer}",
        "stopped": f"approve_below={limit:g}",
        "confidence": answer.confidence,
        "answer": answer.answer,
    }
