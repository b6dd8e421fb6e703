"""map-reduce: every window is read once, sure notes count, notes over budget are collapsed, forms are checked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.forms import REPAIRS
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.errors import ConfigError, ModelError, PromptTooLongError
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.spec import build
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve, write_book
from tests.keeper_samples import COUNT, KEEPERS, counting, names_all, sees_keepers, shelve_keepers


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


@pytest.fixture
def keepers(tmp_path: Path) -> Shelf:
    return shelve_keepers(tmp_path)


def test_reads_every_window_once_in_batches(shelf: Shelf) -> None:
    answer, _, events = run(MapReduce(window_tokens=400, parallel=3), shelf, Question(QUESTION))
    assert answer.coverage.read == answer.coverage.tokens
    done = [event.done for event in events if event.stage == "read"]
    assert len(done) == -(-int(done[-1]) // 3) and done[-1] == events[0].total


def test_windows_that_say_nothing_have_no_note(shelf: Shelf) -> None:
    _, model, events = run(MapReduce(window_tokens=400, part_tokens=40), shelf, Question(QUESTION))
    read = [call for call in model.calls if call.kind == "complete"]
    assert len(read) == 2 < events[-1].total  # one note, one answer
    assert "Ann Weller" in read[0].request.messages[-1].content


def test_a_count_is_made_of_all_the_notes(keepers: Shelf) -> None:
    answer, _, _ = run(MapReduce(window_tokens=300, part_tokens=40), keepers, Question(COUNT), counting())
    assert answer.answer == ", ".join(KEEPERS)
    assert answer.evidence


@pytest.mark.parametrize("part_tokens", [40, 60])
def test_notes_over_budget_are_collapsed_until_they_fit(keepers: Shelf, part_tokens: int) -> None:
    def wordy(request: Request) -> str:
        return f"{names_all(request)} {'and so on ' * 12}".strip()

    flow = MapReduce(window_tokens=200, part_tokens=part_tokens, pointers=2)
    model = ScriptedModel(replies=wordy, choices=sees_keepers)
    answer, _, events = run(flow, keepers, Question(COUNT), model)
    rounds = [event for event in events if event.stage == "collapse"]
    assert rounds and all(event.done < event.total for event in rounds)
    assert all(name in answer.answer for name in KEEPERS)
    assert all(call.result.usage.prompt_tokens < 8192 for call in model.calls)


def test_the_surest_notes_stand_first(keepers: Shelf) -> None:
    def sees(request: Request, options: list[str]) -> list[float]:
        sure = 0.99 if "Dora Finch" in request.messages[-1].content else 0.5
        return [sure, 1 - sure]

    model = ScriptedModel(replies=names_all, choices=sees)
    run(MapReduce(window_tokens=300, part_tokens=40, passage_tokens=0), keepers, Question(COUNT), model)
    first = re.search(r"\[1\] \((\d\.\d\d)\) (.*)", model.calls[-1].request.messages[-1].content)
    assert first and first[2] == "Dora Finch"


def test_refuses_where_no_note_is_sure(shelf: Shelf) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=lambda request, options: [0.001, 0.999])
    answer, _, _ = run(MapReduce(window_tokens=400), shelf, Question("Who painted the ceiling of the chapel?"), model)
    assert answer.abstained and not answer.evidence and answer.coverage.read == answer.coverage.tokens


def form(information: str, answer: str, confidence: int) -> str:
    return json.dumps(
        {"information": information, "rationale": "It says so.", "answer": answer, "confidence": confidence}
    )


def fills(request: Request) -> str:
    if request.schema is None:
        return says_what_it_reads(request)
    if "Ann Weller" in request.messages[-1].content:
        return form("Ann Weller hid the brass key.", "Ann Weller", 5)
    return form("NO INFORMATION", "no information", 0)


def test_written_confidence_is_asked_for_by_schema_and_weighs(shelf: Shelf) -> None:
    model = ScriptedModel(replies=fills, choices=decides)
    flow = MapReduce(window_tokens=600, part_tokens=40, confidence="written", passage_tokens=0)
    answer, _, _ = run(flow, shelf, Question(QUESTION), model)
    forms = [call for call in model.calls if call.request.schema]
    assert len(forms) == len(model.calls) - 1  # nothing is scored: a form a window, and the answer
    assert "(1.00) Ann Weller hid the brass key." in model.calls[-1].request.messages[-1].content
    assert "Ann Weller" in answer.answer and answer.confidence == 1.0


def test_without_logits_confidence_is_written(shelf: Shelf) -> None:
    model = ScriptedModel(replies=fills, choices=decides)
    model.capabilities = frozenset({"schema"})
    answer, _, _ = run(MapReduce(window_tokens=600, part_tokens=40, passage_tokens=0), shelf, Question(QUESTION), model)
    assert "Ann Weller" in answer.answer
    assert {call.kind for call in model.calls} == {"complete"}


def test_a_form_that_is_cut_is_asked_for_again_with_more_room(shelf: Shelf) -> None:
    long = form("Ann Weller hid the brass key. " * 40, "Ann Weller", 5)
    model = ScriptedModel(replies=lambda r: long if r.schema else says_what_it_reads(r), choices=decides)
    flow = MapReduce(window_tokens=3900, part_tokens=60, confidence="written")
    with pytest.raises(ModelError, match="does not satisfy"):  # the script itself breaks maxLength once it has room
        run(flow, shelf, Question(QUESTION), model)
    sizes = [call.request.max_tokens for call in model.calls]
    assert sizes == [240, 480] and len(sizes) <= 1 + REPAIRS


def test_a_window_too_small_for_the_text_is_refused(shelf: Shelf) -> None:
    with pytest.raises(PromptTooLongError, match="no room"):
        run(MapReduce(window_tokens=90), shelf, Question(QUESTION))
    with pytest.raises(ConfigError, match="parallel"):
        build("workflows", {"map-reduce": {"parallel": 0}})
