"""The kind of a question, and the simpler questions it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.kinds import KINDS, find_for_parts, kind_of, sub_questions
from readthrough.agents.runs.services import Services
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import FACT, shelve, write_book

ASKED = Question("How many keepers are there?")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def services(shelf: Shelf, **script: Any) -> Services:
    return Services(model=ScriptedModel(**script), shelf=shelf, runs=RunLog())


def test_the_kind_whose_order_raises_the_question_most(shelf: Shelf) -> None:
    def likelihood(request: Request, text: str) -> float:
        return -4.0 if "how many" in request.messages[-1].content else -12.0

    asked = services(shelf, likelihoods=likelihood)
    kind = kind_of(asked, ASKED)
    assert kind.name == "list" and kind.probability == max(kind.shares.values()) > 0.5
    assert list(kind.shares) == list(KINDS) and sum(kind.shares.values()) == pytest.approx(1)
    assert asked.usage.calls == len(KINDS)


def test_choices_are_a_kind_of_their_own_and_nobody_is_asked(shelf: Shelf) -> None:
    asked = services(shelf)
    assert kind_of(asked, Question(ASKED.text, ("one", "two"))).name == "multiple-choice"
    assert asked.usage.calls == 0


def test_without_logits_it_is_chosen(shelf: Shelf) -> None:
    asked = services(shelf, choices={"": "4"})
    asked.model.capabilities = frozenset({"schema"})
    kind = kind_of(asked, ASKED)
    assert (kind.name, kind.probability, asked.usage.calls) == ("summary", 1.0, 1)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("1. Who is she?\n2) Where was he?\n\n- When?\n1. Who is she?", ["Who is she?", "Where was he?", "When?"]),
        ("", [ASKED.text]),
        ("\n\n", [ASKED.text]),
        ("a?\nb?\nc?\nd?\ne?", ["a?", "b?", "c?", "d?"]),
        ("1984 was when?", ["1984 was when?"]),
    ],
)
def test_sub_questions(shelf: Shelf, reply: str, expected: list[str]) -> None:
    assert sub_questions(services(shelf, replies=[reply]), ASKED) == expected


def test_a_line_that_was_cut_is_no_question(shelf: Shelf) -> None:
    reply = "Who is she?\n" + "word " * 400
    assert sub_questions(services(shelf, replies=[reply]), ASKED) == ["Who is she?"]
    with pytest.raises(ValueError, match="at least 1"):
        sub_questions(services(shelf), ASKED, most=0)


def test_what_a_part_asks_for_is_found(shelf: Shelf) -> None:
    vague = Question("Storm harbour window winter ledger?")
    plain = find_for_parts(services(shelf, replies=[vague.text]), vague, "bm25", 3)
    parts = find_for_parts(services(shelf, replies=["Who hid the brass key of the lighthouse?"]), vague, "bm25", 3)
    assert not any(FACT in chunk.text for chunk in shelf.get(plain))
    assert FACT in shelf.get(parts)[1].text
