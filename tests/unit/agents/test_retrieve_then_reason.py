"""retrieve-then-reason: sentences are picked, never copied; a hop finds what a pick names; inventions are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.pointers import Sentence, words
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.retrieve_then_reason import RetrieveThenReason, matched
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve
from tests.library_samples import story

FIRST = "The brass key of the lighthouse was hidden by the daughter of the harbour master."
SECOND = "The harbour master's daughter was called Ann Weller by everybody."
ASKED = "What is the name of the one who hid the brass key of the lighthouse?"


def book(folder: Path, *facts: str) -> Path:
    """A book with facts far apart."""
    parts = story(7, 60).split("\n\n")
    for number, fact in enumerate(facts):
        parts.insert(5 + 30 * number, fact)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return folder / "book.txt"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", book(tmp_path / "books", FIRST, SECOND))


def raises(request: Request, text: str) -> float:
    """The first fact raises the question; the second only beside the first."""
    prompt = request.messages[-1].content
    return -3.0 + (FIRST in prompt) + (FIRST in prompt and SECOND in prompt) - 0.001 * len(words(prompt))


def sure_of_both(request: Request, options: Sequence[str]) -> list[float]:
    prompt = request.messages[-1].content
    return [0.99, 0.01] if FIRST in prompt and SECOND in prompt else [0.3, 0.7]


def test_a_second_hop_finds_what_the_first_names(shelf: Shelf) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=sure_of_both, likelihoods=raises)
    answer, model, events = run(RetrieveThenReason(picks=1, k=3), shelf, Question(ASKED), model)
    assert [item.quote for item in sorted(answer.evidence, key=lambda item: item.start)] == [FIRST, SECOND]
    assert "Ann Weller" in answer.answer and not answer.abstained
    assert sum(event.stage == "find" for event in events) == 2
    last = model.calls[-1].request.messages[-1].content
    assert FIRST in last and SECOND in last and "Reasoning: " in last


def test_hops_end_where_nothing_is_added(shelf: Shelf) -> None:
    def flat(request: Request, text: str) -> float:
        return -3.0 + (FIRST in request.messages[-1].content)

    model = ScriptedModel(replies=says_what_it_reads, choices=lambda r, o: [0.5, 0.5], likelihoods=flat)
    _, _, events = run(RetrieveThenReason(picks=1, k=3, hops=5), shelf, Question(ASKED), model)
    assert sum(event.stage == "find" for event in events) == 2


def test_refuses_where_the_sentences_state_nothing(shelf: Shelf) -> None:
    model = ScriptedModel(
        replies=says_what_it_reads, choices=lambda r, o: [0.001, 0.999], likelihoods=lambda r, t: -9.0
    )
    answer, model, _ = run(RetrieveThenReason(), shelf, Question("Who painted the ceiling?"), model)
    assert answer.abstained and not answer.evidence
    assert not [call for call in model.calls if call.kind == "complete"]


def test_without_logits_a_numbered_sentence_is_chosen(shelf: Shelf) -> None:
    def chooses(request: Request, options: Sequence[str]) -> str | list[float]:
        if list(options) == ["Yes", "No"]:
            return decides(request, options)
        lines = request.messages[-1].content.splitlines()
        return next((line[1 : line.index("]")] for line in lines if line[:1] == "[" and line.endswith(SECOND)), "0")

    model = ScriptedModel(replies=says_what_it_reads, choices=chooses)
    model.capabilities = frozenset({"schema"})
    answer, model, _ = run(RetrieveThenReason(k=40), shelf, Question(ASKED), model)
    assert answer.evidence[0].quote == SECOND and "Ann Weller" in answer.answer
    assert {call.kind for call in model.calls} == {"choose", "complete"}


def test_written_sentences_that_are_not_in_the_source_are_dropped_and_counted(shelf: Shelf) -> None:
    def copies(request: Request) -> str:
        if "word for word" in request.messages[-1].content:
            return f'1. "{SECOND}"\n- Ann Weller was a famous liar and a thief.\n\nok\n2) {FIRST.lower()}'
        return says_what_it_reads(request)

    model = ScriptedModel(replies=copies, choices=decides)
    services = Services(model, shelf, RunLog())
    answer = RetrieveThenReason(select="written", k=40, hops=1).run(Question(ASKED), services)
    assert {item.quote for item in answer.evidence} == {FIRST, SECOND}
    decided = [each for step in services.runs.steps(answer.run) for each in step.decisions if "written" in each]
    assert [(each["written"], each["invented"]) for each in decided] == [(3, 1)]


def test_only_whole_words_in_order_count_as_copied() -> None:
    source = Sentence("d", 0, 40, frozenset())
    among = {source: "He took the key of the lamp room home."}
    assert matched(["the key of the lamp room"], among) == ([source], 1, 0)
    assert matched(["He took the key of the lamp room home. And then he slept."], among) == ([source], 1, 0)
    for invented in ("the key of the lamp rooms door", "the lamp room of the key", "ook the key of"):
        assert matched([invented], among) == ([], 1, 1)
    assert matched(["the key", "", "- "], among) == ([], 0, 0)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_neighbours_are_read_with_a_sentence_and_not_quoted(tmp_path: Path, neighbours: int) -> None:
    text = "It rained all day. The brass key was hidden by Ann Weller. Nobody saw it."
    (tmp_path / "one.txt").write_text(text)
    flow = RetrieveThenReason(neighbours=neighbours, picks=1, hops=1)
    answer, model, _ = run(flow, shelve(tmp_path / "home", tmp_path / "one.txt"), Question(QUESTION))
    assert [item.quote for item in answer.evidence] == ["The brass key was hidden by Ann Weller."]
    assert ("It rained all day." in model.calls[-1].request.messages[-1].content) == bool(neighbours)
