"""`max_seconds` with the local engine: a call is given up in the middle, in time, and leaves the engine as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.running import run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.errors import BudgetError
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.deadline import deadline
from readthrough.models.local.backend import LocalModel
from readthrough.types import Cost, Limits
from tests import tiny_models
from tests.agent_samples import QUESTION, shelve, write_book

SLACK_SECONDS = 1.0
LONG = Request.user(tiny_models.TEXT, max_tokens=1500)
CALLS: dict[str, Callable[[LocalModel], object]] = {
    "reply": lambda model: model.complete([LONG]),
    "batch": lambda model: model.complete([LONG, Request.user("And then?", max_tokens=1500)]),
    "stream": lambda model: model.stream(LONG, lambda text: None),
    "prompts": lambda model: model.likelihood(
        [Request.user(f"{number} {tiny_models.TEXT * 3}") for number in range(200)], ["grey"] * 200
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel(str(tiny_models.save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_given_up_leaves_the_engine_as_it_was(call: str, model: LocalModel) -> None:
    asked = [Request.user(f"{tiny_models.TEXT} Who?", max_tokens=12), Request.user("The sea?", max_tokens=12)]
    before = model.complete(asked), model.choose(asked, [["yes", "no"]] * 2)
    for seconds in (0.005, 0.03):
        started = time.monotonic()
        with deadline(started + seconds, "max_seconds"), pytest.raises(BudgetError) as ended:
            CALLS[call](model)
        assert ended.value.budget == "max_seconds"
        assert time.monotonic() - started < seconds + SLACK_SECONDS
    after = model.complete(asked), model.choose(asked, [["yes", "no"]] * 2)
    assert [each.text for each in after[0]] == [each.text for each in before[0]]
    for then, now in zip(before[1], after[1], strict=True):
        assert now.probabilities == pytest.approx(then.probabilities, abs=1e-5)


def test_a_run_ends_in_time_with_what_it_has(model: LocalModel, tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    flow = ChainOfAgents(window_tokens=1000, message_tokens=60)
    shelf.count_tokens(model)
    services = Services(model, shelf, RunLog(), budget=Budget(Limits(seconds=2.0)))
    started = time.monotonic()
    answer = run(flow, Question(QUESTION), services)
    assert time.monotonic() - started < 2.0 + SLACK_SECONDS
    assert answer.stopped == "max_seconds=2"
    assert answer.coverage.read < answer.coverage.tokens
    # On a busy machine even what was held back for the last step may not be enough: then it says so.
    assert services.runs.steps(answer.run)[-1].node in ("finish early", "finish early (cut short)")


def test_the_last_reply_is_cut_and_kept(model: LocalModel, tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=2))
    services = Services(model, shelf, RunLog(), budget=Budget(Limits(seconds=0.1)))
    services.budget.begin(Cost())
    tell = Request.user("Tell.", max_tokens=1500)  # 439 tokens, most of a second
    with services.budget.in_time(), pytest.raises(BudgetError):
        services.write(tell)  # while the run goes on, its end has time of its own to answer in
    services.budget = Budget(services.budget.limits)
    services.budget.begin(Cost())
    with services.budget.finishing(), services.budget.in_time():
        cut = services.write(tell)
    assert cut.finish == "length" and cut.text
    assert 0 < cut.usage.completion_tokens < 439 and services.usage.calls == 1
    with services.budget.finishing(), services.budget.in_time(), pytest.raises(BudgetError):
        services.write(tell)  # nothing was written before the time was over
