"""Runs: what is logged, resuming, budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.agents.workflows.full_context import FullContext
from readthrough.errors import ModelError, PromptTooLongError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import QUESTION, decides, final, says_what_it_reads, shelve, write_book

FLOW = ChainOfAgents(window_tokens=600, message_tokens=40)


def model(**faults: ModelError) -> ScriptedModel:
    return ScriptedModel(
        replies=says_what_it_reads, choices=decides, faults={int(key[1:]): error for key, error in faults.items()}
    )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


def test_every_step_is_logged_with_what_it_read_wrote_and_decided(shelf: Shelf, tmp_path: Path) -> None:
    runs = RunLog(tmp_path / "runs.sqlite")
    services = Services(model(), shelf, runs)
    answer = run(FLOW, Question(QUESTION), services)
    steps = runs.steps(answer.run)
    assert [step.node for step in steps] == ["plan", *["work"] * (len(steps) - 2), "manage"]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    text = shelf.document(shelf.documents[0].id).text
    *workers, manager = steps
    assert "".join(text[start:end] for step in workers for _, start, end in step.spans) == text
    assert any("Ann Weller" in text[start:end] for _, start, end in manager.spans)  # the passages beside the notes
    work = steps[1]
    assert work.read and runs.get(work.texts[0]) and work.usage.calls == 1
    assert steps[-1].decisions[0]["options"] == ["Yes", "No"]
    assert sum(step.usage.calls for step in steps) == answer.usage.calls


def test_a_run_that_failed_goes_on_where_it_was(shelf: Shelf, tmp_path: Path) -> None:
    whole = run(FLOW, Question(QUESTION), Services(model(), shelf, RunLog()))
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(f4=ModelError("gone")), shelf, runs)
        with pytest.raises(ModelError):
            run(FLOW, Question(QUESTION), services, saver)
        second = model()
        answer = resume(FLOW, Question(QUESTION), Services(second, shelf, runs, services.run), saver)
    assert final(answer) == final(whole)
    assert len(second.calls) == whole.usage.calls - 4
    assert answer.usage.calls == whole.usage.calls


def test_of_a_run_that_is_refused_nothing_stays(shelf: Shelf, tmp_path: Path) -> None:
    runs, small = RunLog(tmp_path / "runs.sqlite"), model()
    small.window_tokens = 1200
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        with pytest.raises(PromptTooLongError):
            run(FullContext(), Question(QUESTION), Services(small, shelf, runs), saver)
        assert runs.runs() == [] and list(saver.list(None)) == []


def test_a_changed_workflow_or_model_does_not_resume(shelf: Shelf, tmp_path: Path) -> None:
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(f4=ModelError("gone")), shelf, runs)
        with pytest.raises(ModelError):
            run(FLOW, Question(QUESTION), services, saver)
        other = ChainOfAgents(window_tokens=600, message_tokens=50)
        with pytest.raises(UsageError, match="the workflow or its options"):
            resume(other, Question(QUESTION), Services(model(), shelf, runs, services.run), saver)
        renamed = ScriptedModel(name="another", replies=says_what_it_reads)
        with pytest.raises(UsageError, match="the model"):
            resume(FLOW, Question(QUESTION), Services(renamed, shelf, runs, services.run), saver)


@pytest.mark.parametrize("calls", [1, 3, 5, 8])
def test_a_budget_of_calls_ends_a_run_with_an_answer(shelf: Shelf, calls: int) -> None:
    budget = Budget(Limits(calls=calls))
    answer = run(FLOW, Question(QUESTION), Services(model(), shelf, RunLog(), budget=budget))
    assert answer.stopped == f"max_calls={calls}"
    assert answer.usage.calls <= calls
    assert answer.coverage.unread > 0


def test_a_run_that_a_budget_ended_goes_on_with_another(shelf: Shelf, tmp_path: Path) -> None:
    runs = RunLog(tmp_path / "runs.sqlite")
    whole = run(FLOW, Question(QUESTION), Services(model(), shelf, RunLog()))
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(), shelf, runs, budget=Budget(Limits(calls=7)))
        assert run(FLOW, Question(QUESTION), services, saver).stopped
        answer = resume(FLOW, Question(QUESTION), Services(model(), shelf, runs, services.run), saver)
    assert final(answer) == final(whole)


@pytest.mark.parametrize("limits", [{"calls": 0}, {"seconds": -1.0}, {"tokens": 0}])
def test_a_budget_is_positive(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Limits(**limits)
