"""Approvals: before long work starts, before a doubtful answer is accepted; by callback, by resuming, by LangGraph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from readthrough import catalogue
from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs import estimating
from readthrough.agents.runs.approving import with_approvals
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.pace import Pace
from readthrough.agents.runs.running import NOT_ACCEPTED, resume, run
from readthrough.agents.runs.services import Services
from readthrough.errors import UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Cost, Limits
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

ASKED = Question(QUESTION)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=20))


@pytest.fixture(params=catalogue.names("workflows"))
def flow(request: pytest.FixtureRequest) -> Workflow:
    workflow: Workflow = catalogue.find("workflows", request.param)()
    return workflow


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reads a token a second."""
    monkeypatch.setattr(estimating, "calibrate", lambda model: estimating.Rates(1.0, 1.0))


def services(shelf: Shelf, limits: Limits, runs: RunLog | None = None) -> Services:
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    return Services(model, shelf, runs or RunLog(), budget=Budget(limits))


def test_long_work_waits_for_approval(flow: Workflow, shelf: Shelf) -> None:
    saver, runs, limits = InMemorySaver(), RunLog(), Limits(approve_above_seconds=10)
    first = services(shelf, limits, runs)
    answer = run(flow, ASKED, first, saver)
    assert answer.stopped == "approve_above_seconds=10" and answer.resumable and answer.abstained
    assert answer.usage.calls == 0 and answer.coverage.unread == answer.coverage.tokens
    assert runs.find("last").state == "stopped"
    second = services(shelf, Limits(), runs)
    second.run, second.on_approval = first.run, lambda asked: True
    done = resume(flow, ASKED, second, saver)
    assert done.stopped is None and "Ann Weller" in done.answer
    assert runs.find("last").state == "done"


def test_work_that_is_refused_does_not_start(flow: Workflow, shelf: Shelf) -> None:
    asked: list[Mapping[str, Any]] = []

    def no(what: Mapping[str, Any]) -> bool:
        asked.append(what)
        return False

    given = services(shelf, Limits(approve_above_seconds=10))
    given.on_approval = no
    answer = run(flow, ASKED, given)
    assert (answer.answer, answer.stopped) == (NOT_ACCEPTED, "denied: approve_above_seconds=10")
    assert not answer.resumable and answer.usage.calls == 0
    assert len(asked) == 1 and asked[0]["seconds"] > 10 and "This will take about" in asked[0]["message"]


def test_quick_work_and_sure_answers_ask_nothing(flow: Workflow, shelf: Shelf) -> None:
    answer = run(flow, ASKED, services(shelf, Limits(approve_above_seconds=1e9, approve_below=0.0)))
    assert answer.stopped is None and "Ann Weller" in answer.answer


@pytest.mark.parametrize("yes", [True, False])
def test_a_doubtful_answer_waits_for_approval(flow: Workflow, shelf: Shelf, yes: bool) -> None:
    saver, runs = InMemorySaver(), RunLog()
    first = services(shelf, Limits(approve_below=1.0), runs)
    waiting = run(flow, ASKED, first, saver)
    if waiting.stopped is None:
        pytest.skip(f"{flow.name} is sure of its answer, or gives no confidence")
    assert waiting.stopped == "approve_below=1" and "Ann Weller" in waiting.answer
    second = services(shelf, Limits(), runs)
    second.run, second.on_approval = first.run, lambda asked: yes
    done = resume(flow, ASKED, second, saver)
    assert second.usage.calls == 0, "the answer is not made again"
    assert done.usage.calls == waiting.usage.calls
    assert done.answer == (waiting.answer if yes else NOT_ACCEPTED)
    assert done.abstained is not yes and bool(done.evidence) is yes


def test_plain_langgraph_is_enough(shelf: Shelf) -> None:
    graph = with_approvals(catalogue.find("workflows", "chain-of-agents")()).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "mine"}}
    given = services(shelf, Limits(approve_above_seconds=10))
    given.run = given.runs.start(QUESTION, "chain-of-agents", "scripted")
    asked = graph.invoke(ASKED.to_state(), config, context=given)["__interrupt__"][0].value
    assert asked["stopped"] == "approve_above_seconds=10" and asked["calls"] > 0
    state = graph.invoke(Command(resume=True), config, context=given)
    assert given.runs.get(state["reply"]) and "__interrupt__" not in state


@pytest.mark.parametrize("limits", [{"approve_above_seconds": -1.0}, {"approve_below": 1.5}, {"approve_below": -0.1}])
def test_thresholds_have_a_range(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="approve_"):
        Limits(**limits)  # type: ignore[arg-type]


def test_pace_finds_both_rates() -> None:
    pace = Pace()
    assert pace.seconds(Cost(1, 100, 10)) == 0.0
    for read, written in ((1000, 20), (400, 60), (100, 5), (2000, 1)):
        pace.learn(Cost(1, read, written, 0.001 * (read + 16) + 0.05 * written))
    assert pace.rates() == pytest.approx((0.001, 0.05))
    assert pace.seconds(Cost(1, 500, 10)) == pytest.approx(1.016)


def test_pace_is_never_negative() -> None:
    pace = Pace()
    for read, written, seconds in ((100, 0, 0.1), (100, 10, 0.05), (200, 0, 0.2)):
        pace.learn(Cost(1, read, written, seconds))
    assert min(pace.rates()) >= 0
    only_read = Pace()
    only_read.learn(Cost(1, 1000, 0, 1.0))
    assert only_read.seconds(Cost(1, 500, 10)) == pytest.approx((516 + 300) / 1016)
