"""Estimates: of every workflow, by the pace of past runs, and without answering anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough import catalogue
from readthrough.agents.base import Question
from readthrough.agents.runs.estimating import Rates, calibrate, estimate, expected, observed
from readthrough.agents.runs.running import run
from readthrough.agents.runs.services import Services
from readthrough.memory.runs import RunLog
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Cost
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

ASKED = Question(QUESTION)


@pytest.mark.parametrize("name", catalogue.names("workflows"))
def test_every_workflow_says_about_what_it_takes(name: str, tmp_path: Path) -> None:
    flow = catalogue.find("workflows", name)()
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    services = Services(model, shelf, RunLog())
    cost = estimate(flow, ASKED, services, Rates(1000.0, 50.0))
    assert model.calls == [] and services.runs.runs() == []
    usage = run(flow, ASKED, services).usage
    assert 0 < usage.calls <= 4 * cost.calls  # it may leave early, and should not take far more
    assert 0 < usage.prompt_tokens <= 4 * cost.prompt_tokens
    assert services.runs.runs()[0].recipe["expected"]["calls"] == cost.calls


@pytest.mark.parametrize("scores", [True, False])
def test_every_call_over_the_whole_text_counts(scores: bool, tmp_path: Path) -> None:
    flow = catalogue.find("workflows", "full-context")()
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    if not scores:
        model.capabilities = frozenset({"schema"})
    services = Services(model, shelf, RunLog())
    cost = expected(flow, ASKED, services)
    usage = run(flow, ASKED, services).usage
    assert cost.calls == usage.calls
    assert cost.prompt_tokens == pytest.approx(usage.prompt_tokens, rel=0.1)
    assert bool(cost.cached_tokens) is scores, "an endpoint is not known to keep what it has read"


def test_past_runs_set_an_estimate_right(tmp_path: Path) -> None:
    flow = catalogue.find("workflows", "chain-of-agents")()
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    services = Services(ScriptedModel(), shelf, RunLog())
    own = expected(flow, ASKED, services)
    said = {"calls": own.calls, "prompt_tokens": own.prompt_tokens, "completion_tokens": own.completion_tokens}
    said |= {"seconds": 2.0}
    for times in (2, 3, 9):
        took = {name: value * times for name, value in said.items()}
        name = services.runs.start(QUESTION, "chain-of-agents", "scripted", recipe={"expected": said})
        services.runs.finish(name, {"answer": "", "stopped": None, "usage": took})
    for stopped, recipe in (("max_calls=1", {"expected": said}), (None, {"expected": None}), (None, {})):
        other = services.runs.start(QUESTION, "chain-of-agents", "scripted", recipe=recipe)
        services.runs.finish(other, {"answer": "", "stopped": stopped, "usage": {"calls": 9}})
    right = estimate(flow, ASKED, services)
    assert (right.calls, right.prompt_tokens) == (3 * own.calls, 3 * own.prompt_tokens)
    assert right.seconds == pytest.approx(3 * own.seconds, abs=0.1)
    assert estimate(flow, ASKED, services, Rates(1000.0, 30.0)).calls == own.calls


def test_few_runs_are_trusted_less_and_rates_are_those_of_all_runs(tmp_path: Path) -> None:
    flow = catalogue.find("workflows", "chain-of-agents")()
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    services = Services(ScriptedModel(), shelf, RunLog())
    own = expected(flow, ASKED, services)
    longer = (7 * own.prompt_tokens, 7 * own.completion_tokens)  # a text seven times as long is read in like calls
    others = (own.prompt_tokens, 9 * own.completion_tokens)  # another kind of answer
    for workflow, calls, (prompt, written) in (
        ("retrieve", 5, (4000, 10)),
        ("map-reduce", 5, (2000, 200)),
        ("chain-of-agents", 7 * own.calls, longer),
        ("chain-of-agents", own.calls, others),
    ):
        said = {"calls": calls, "prompt_tokens": prompt, "completion_tokens": written, "seconds": 2.0}
        took = {**said, "prompt_tokens": 4 * prompt, "seconds": 4 * prompt / 500 + written / 8}
        name = services.runs.start(QUESTION, workflow, "scripted", recipe={"expected": said})
        services.runs.finish(name, {"answer": "", "stopped": None, "usage": took})
    found = estimate(flow, ASKED, services)
    assert found.prompt_tokens == 2 * own.prompt_tokens, "four times in the one run of its kind: half of it is believed"
    assert found.seconds == pytest.approx(found.read_tokens / 500 + found.completion_tokens / 8, abs=0.1)


def test_rates_that_runs_cannot_tell_are_not_told() -> None:
    alike = [Cost(1, 1000, 10, 2.0)] * 5
    assert observed(alike) is None, "which part is slow?"
    assert observed([Cost(1, 1000, 10, 2.0), Cost(1, 10, 100, 9.0)]) is None
    assert observed([Cost(1, 1000, 10, 1.0), Cost(1, 2000, 10, 0.5), Cost(1, 3000, 10, 0.1)]) is None, "nonsense"
    rates = observed([Cost(1, 1000, 10, 3.0), Cost(1, 2000, 10, 4.0), Cost(1, 1000, 20, 5.0)])
    assert rates is not None
    assert (rates.prefill_tokens_per_second, rates.decode_tokens_per_second) == pytest.approx((1000, 5))


def test_rates() -> None:
    rates = Rates(prefill_tokens_per_second=1000.0, decode_tokens_per_second=20.0)
    assert rates.seconds(Cost(3, 2000, 40)) == pytest.approx(4.0)
    measured = calibrate(ScriptedModel({"": "one two three"}))
    assert measured.prefill_tokens_per_second > 0 and measured.decode_tokens_per_second > 0
