"""Answers about source code: the places behind them are cut from the source, and quoted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.code import PLACES_MAX, PLACES_MIN, WORDS
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.documents.sentences import sentence_spans
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import run
from tests.library_samples import open_library

QUESTION = Question("How does signal flash the lamp of the tower?")
HEIGHT = "    def height_{0}(self):\n        return measure_{0}(self.lamp) + count_{0}(self.steps)\n\n"
TOWER = f'''class Tower:
    def signal(self, ship):
        """Flash the lamp of the tower."""
        self.lamp.flash_towards(ship)

{"".join(HEIGHT.format(number) for number in range(30))}'''


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "repo" / "coast").mkdir(parents=True)
    (tmp_path / "repo" / "coast" / "tower.py").write_text(TOWER, encoding="utf-8")
    (tmp_path / "repo" / "main.py").write_text("from coast.tower import Tower\n", encoding="utf-8")
    return open_library(tmp_path / "home").shelve([tmp_path / "repo"])


def model(reply: str) -> ScriptedModel:
    """Says `reply`, and that everything is stated."""

    def choose(request: Request, options: Sequence[str]) -> list[float]:
        return [1.0] + [0.0] * (len(options) - 1)

    return ScriptedModel(replies=lambda request: reply, choices=choose)


def test_places_stand_behind_the_answer(shelf: Shelf) -> None:
    answer, scripted, _ = run(Retrieve(), shelf, QUESTION, model("It calls a method. That is all."))
    said, _, listed = answer.answer.partition("\n\nWhere:\n")
    assert said == "It calls a method. That is all."
    lines = listed.splitlines()
    path = next(entry.path for entry in shelf.documents if entry.path.endswith("tower.py"))
    assert lines[0] == f"- {path}:2 Tower.signal (uses self.lamp.flash_towards)"
    assert len(lines) == PLACES_MAX
    assert len(answer.answer.split()) <= WORDS
    sentences = [answer.answer[start:end] for start, end in sentence_spans(answer.answer)]
    for item in answer.evidence:
        for number in item.supports:
            if sentences[number].startswith("- "):
                assert f":{item.line} " in sentences[number]
                name = sentences[number].split()[2].rpartition(".")[2]
                assert name in item.quote and item.verified
    supported = {number for item in answer.evidence for number in item.supports}
    assert supported >= {number for number, text in enumerate(sentences) if text.startswith("- ")}
    prompt = next(call.request for call in scripted.calls if call.kind == "complete").messages[-1].content
    assert "coast/tower.py, line 1\n" in prompt and "two or three short sentences" in prompt


def test_a_long_answer_leaves_room_for_few_places(shelf: Shelf) -> None:
    answer, *_ = run(Retrieve(), shelf, QUESTION, model("It calls a method. " * 40))
    assert len(answer.answer.partition("\n\nWhere:\n")[2].splitlines()) == PLACES_MIN


def test_what_is_heard_is_the_answer(shelf: Shelf) -> None:
    heard: list[str] = []
    services = Services(model=model("It calls a method."), shelf=shelf, runs=RunLog(), on_text=heard.append)
    answer = Retrieve().run(QUESTION, services)
    assert "Where:" in answer.answer
    assert "".join(heard) == answer.answer


def test_choices_and_prose_have_no_places(shelf: Shelf, tmp_path: Path) -> None:
    chosen, *_ = run(Retrieve(), shelf, Question(QUESTION.text, ("by day", "by night")), model("x"))
    assert chosen.answer in ("by day", "by night")
    for number in range(4):
        (tmp_path / "repo" / f"{number}.txt").write_text(f"The tower did signal {number} ships. " * 200)
    mixed = open_library(tmp_path / "other").shelve([tmp_path / "repo"])
    prose, *_ = run(Retrieve(), mixed, Question("How many ships did the tower signal?"), model("Three ships."))
    assert prose.answer == "Three ships."


def test_data_is_no_program(tmp_path: Path) -> None:
    rows = ",\n".join(f'  {{"tower": {number}, "keeper": "Ann {number}"}}' for number in range(200))
    (tmp_path / "towers.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    shelf = open_library(tmp_path / "home").shelve([tmp_path / "towers.json"])
    answer, scripted, _ = run(Retrieve(), shelf, Question("Who is the keeper of tower 7?"), model("Ann 7"))
    assert answer.answer == "Ann 7" and answer.coverage.retrieved <= 700
    prompt = next(call.request for call in scripted.calls if call.kind == "complete").messages[-1].content
    assert "as few words as possible" in prompt and str(tmp_path) not in prompt
