"""Rounds of reasoning: each goes on from the progress alone, and they end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.rounds import NOTHING_YET, Rounds
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.iterative_summary import IterativeSummary
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Event
from tests.agent_samples import QUESTION, shelve, write_book

QUIET = {"words": 20, "summary_tokens": 40, "round_tokens": 60, "abstain_below": 0.0}


def known(prompt: str) -> int:
    return len(re.findall(r"Step \d+ is known\.", prompt))


class Thinker:
    """Knows one thing more with every round, and that it is finished after `needed` of them."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.model = ScriptedModel(replies=self.reply, choices=self.decide)

    def reply(self, request: Request) -> str:
        prompt = request.messages[-1].content
        if "Go on from there" in prompt:
            return "Another step is taken."
        if "what is still open" in prompt:
            return " ".join(f"Step {number} is known." for number in range(known(prompt) + 1))
        return "Ann Weller."

    def decide(self, request: Request, options: object) -> list[float]:
        return [0.99, 0.01] if known(request.messages[-1].content) >= self.needed else [0.01, 0.99]

    def prompts(self, mark: str) -> list[str]:
        said = [call.request.messages[-1].content for call in self.model.calls if call.kind == "complete"]
        return [prompt for prompt in said if mark in prompt]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def services(thinker: Thinker, shelf: Shelf, events: list[Event] | None = None) -> Services:
    listener = None if events is None else events.append
    # No text raises the question: whether it is finished is for the model's yes or no.
    thinker.model.likelihoods = lambda request, text: -1.0
    given = Services(thinker.model, shelf, RunLog(), on_event=listener)
    given.run = given.runs.start(QUESTION, "a workflow", "scripted")
    return given


def test_a_round_goes_on_from_the_progress_and_not_from_the_reasoning(shelf: Shelf) -> None:
    thinker = Thinker(needed=3)
    asked, rounds = Question(QUESTION), Rounds(segment_tokens=60, progress_tokens=60)
    first, over = rounds.think(services(thinker, shelf), "Ann came.", asked, "")
    assert (first, over) == ("Step 0 is known.", False)
    second, over = rounds.think(services(thinker, shelf), "Ann came.", asked, first)
    assert second == "Step 0 is known. Step 1 is known." and not over
    begins = thinker.prompts("Go on from there")
    assert NOTHING_YET in begins[0] and first in begins[1]
    assert "Another step" not in begins[1]


@pytest.mark.parametrize(("needed", "most", "taken"), [(1, 8, 1), (3, 8, 3), (9, 4, 3), (9, 1, 0)])
def test_rounds_end_when_the_answer_is_known_or_there_are_no_more(
    shelf: Shelf, needed: int, most: int, taken: int
) -> None:
    thinker, events = Thinker(needed), []
    given = services(thinker, shelf, events)
    answer = IterativeSummary(**QUIET, rounds=most).run(Question(QUESTION), given)  # type: ignore[arg-type]
    nodes = [step.node for step in given.runs.steps(answer.run)]
    assert nodes.count("think") == taken
    assert [event.done for event in events if event.stage == "think"] == list(range(1, taken + 1))
    assert ("Reasoning so far: Step 0" in thinker.prompts("as few words as possible")[-1]) == (taken > 0)


def test_rounds_end_when_nothing_more_becomes_known(shelf: Shelf) -> None:
    thinker = Thinker(needed=9)
    asked, rounds = Question(QUESTION), Rounds(60, 60)
    thinker.model.replies = lambda request: "Step 0 is known."
    first, over = rounds.think(services(thinker, shelf), "Ann came.", asked, "")
    assert not over
    assert rounds.think(services(thinker, shelf), "Ann came.", asked, first) == (first, True)


def test_reasoning_is_cut_at_its_limit_and_ends_with_a_sentence(shelf: Shelf) -> None:
    thinker = Thinker(needed=1)
    thinker.model.replies = lambda request: "Ann came. Bob went. Tom stayed there."
    Rounds(segment_tokens=8, progress_tokens=5).think(services(thinker, shelf), "Ann came.", Question(QUESTION), "")
    assert "Next steps of the reasoning:\nAnn came. Bob went.\n" in thinker.prompts("what is still open")[0]


def test_an_order_to_summarise_needs_no_rounds(shelf: Shelf) -> None:
    thinker = Thinker(needed=9)
    given = services(thinker, shelf)
    answer = IterativeSummary(**QUIET, rounds=8).run(Question("Summarize the text."), given)  # type: ignore[arg-type]
    assert not thinker.prompts("Go on from there") and answer.answer == "Ann Weller."


def test_choices_are_decided_after_the_rounds(shelf: Shelf) -> None:
    thinker = Thinker(needed=1)
    decide = thinker.decide
    thinker.model.choices = lambda request, options: decide(request, options) if len(options) == 2 else [0.2, 0.7, 0.1]
    answer = IterativeSummary(**QUIET, rounds=4).run(  # type: ignore[arg-type]
        Question(QUESTION, ("Bob", "Ann", "Tom")), services(thinker, shelf)
    )
    assert answer.answer in ("Bob", "Ann", "Tom")
    assert all("Bob / Ann / Tom" in prompt for prompt in thinker.prompts("Go on from there"))


def test_the_cost_of_rounds_is_never_below_what_they_take(shelf: Shelf) -> None:
    thinker = Thinker(needed=9)
    given = services(thinker, shelf)
    progress, rounds = "", Rounds(60, 60)
    for _ in range(3):
        progress, _ = rounds.think(given, "Ann came.", Question(QUESTION), progress)
    cost = rounds.cost(3, material_tokens=3)
    assert cost.calls >= given.usage.calls
    assert cost.prompt_tokens >= given.usage.prompt_tokens - 3 * 4 * 3  # the material stands in more than one prompt
    assert cost.completion_tokens >= given.usage.completion_tokens
