"""route: a needle costs what `retrieve` costs, a list is scanned, moving on finds what was not ranked first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.kinds import wants_all
from readthrough.agents.reading.queries import names_several
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.agents.workflows.route import ACTIONS, Route
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve, write_book
from tests.keeper_samples import COUNT, KEEPERS, counting, shelve_keepers


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


@pytest.fixture
def keepers(tmp_path: Path) -> Shelf:
    return shelve_keepers(tmp_path)


def actions(runs: RunLog, run_id: str) -> list[str]:
    return [step.node for step in runs.steps(run_id) if step.node not in ("decide", "find")]


@pytest.mark.parametrize("choices", [None, ("Bob Marsh", "Ann Weller")])
def test_a_needle_takes_the_calls_of_retrieve(shelf: Shelf, choices: tuple[str, ...] | None) -> None:
    routed, model, _ = run(Route(), shelf, Question(QUESTION, choices))
    found, other, _ = run(Retrieve(), shelf, Question(QUESTION, choices))
    assert [call.request for call in model.calls] == [call.request for call in other.calls]
    assert (routed.answer, routed.evidence, routed.coverage) == (found.answer, found.evidence, found.coverage)


def test_a_count_is_made_over_the_whole_text(keepers: Shelf) -> None:
    answer, _, _ = run(Route(window_tokens=400, passage_tokens=200), keepers, Question(COUNT), counting())
    assert set(answer.answer.split(", ")) == set(KEEPERS)
    assert answer.coverage.read == answer.coverage.tokens
    assert answer.evidence


def test_of_a_long_text_the_windows_that_the_index_finds_are_scanned(keepers: Shelf) -> None:
    flow = Route(window_tokens=300, scan_tokens=600, passage_tokens=200)
    answer, model, _ = run(flow, keepers, Question(COUNT), counting())
    assert 0 < answer.coverage.read <= 600 < answer.coverage.tokens
    assert answer.coverage.unread > 0 and "Ann Weller" in answer.answer
    services = Services(model, keepers, RunLog())
    every = MapReduce(window_tokens=300, passage_tokens=200).estimate(Question(COUNT), services)
    assert flow.estimate(Question(COUNT), services).prompt_tokens < every.prompt_tokens


def test_words_and_likelihood_decide_what_is_scanned(keepers: Shelf) -> None:
    model = counting()
    services = Services(model, keepers, RunLog())
    assert wants_all(services, Question(COUNT)) > 0.5
    asked = len(model.calls)
    assert wants_all(services, Question(QUESTION)) == wants_all(services, Question(COUNT, ("4", "5"))) == 0.0
    assert len(model.calls) == asked, "no model is asked of a question whose words name one thing"
    model.likelihoods = lambda request, _: -1.0 if "asks for one fact" in request.messages[-1].content else -30.0
    assert wants_all(services, Question(COUNT)) < 0.5
    for several in (
        "List all ships.",
        "What are the rules?",
        "Which ships' crews were lost?",
        "Put on a timeline: A, B",
    ):
        assert names_several(several), several
    for one in ("Who was the captain?", "What is the boss's name?", "Which glass was lost?", "What does his son want?"):
        assert not names_several(one), one


def test_moving_on_finds_what_was_not_ranked_first(shelf: Shelf) -> None:
    script = {"replies": says_what_it_reads, "choices": decides, "likelihoods": lambda request, text: -3.0}
    few = {"passage_tokens": 200, "weigh": 2, "k": 200, "index": "bm25"}
    question = Question("Whom did the storm bring to the stair of the harbour?")
    stays, _, _ = run(Route(moves=0, **few), shelf, question, ScriptedModel(**script))
    assert stays.abstained
    runs, model = RunLog(), ScriptedModel(**script)
    answer = Route(moves=30, **few).run(question, Services(model, shelf, runs))
    moves = actions(runs, answer.run).count("move")
    assert "Ann Weller" in answer.answer and 0 < moves < 30
    assert any("Ann Weller" in item.quote for item in answer.evidence)
    assert answer.coverage.retrieved > stays.coverage.retrieved


def chooser(*wanted: str):
    """A model that chooses these actions one after another, whatever their letters are."""
    action: list[str] = []

    def choose(request: Request, options: Sequence[str]) -> list[float]:
        lines = request.messages[-1].content.splitlines()
        letters = {line[3:]: line[0] for line in lines if line[1:3] == ". "}
        if ACTIONS["scan"] not in letters:
            return decides(request, options)
        if letters[ACTIONS["scan"]] == options[-1]:  # the first of the rotations of a new decision
            action.append(wanted[len(action)])
        return [float(letters[ACTIONS[action[-1]]] == option) for option in options]

    return choose


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (("find", "answer"), ["read", "answer"]),
        (("scan",), ["plan", "map", "reduce"]),
        (("move", "move", "answer"), ["move", "move", "answer"]),
    ],
)
def test_the_papers_form_takes_the_actions_that_are_chosen(
    shelf: Shelf, wanted: tuple[str, ...], taken: list[str]
) -> None:
    runs = RunLog()
    model = ScriptedModel(replies=says_what_it_reads, choices=chooser(*wanted))
    flow = Route(decide="chosen", moves=2, passage_tokens=2000, window_tokens=4000)
    answer = flow.run(Question(QUESTION), Services(model, shelf, runs))
    assert actions(runs, answer.run) == taken
    assert "Ann Weller" in answer.answer and answer.evidence


def test_a_budget_ends_a_scan_with_an_answer(keepers: Shelf) -> None:
    services = Services(counting(), keepers, RunLog(), budget=Budget(Limits(calls=16)))
    answer = Route(window_tokens=300, passage_tokens=200).run(Question(COUNT), services)
    assert answer.stopped == "max_calls=16" and answer.usage.calls <= 16
    assert any(name in answer.answer for name in KEEPERS)


@pytest.mark.parametrize("options", [{"moves": -1}, {"scan_tokens": -1}, {"window_tokens": 0}, {"sameness": 2}])
def test_options_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Route(**options)
