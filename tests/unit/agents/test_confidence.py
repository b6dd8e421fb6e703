"""Confidence: which signs are noted with an answer, what a calibration makes of them, and what is refused by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import NOT_STATED
from readthrough.agents.reading.confidence import SHIPPED, SURE, Calibration, Fitted, log_odds
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.full_context import FullContext
from readthrough.errors import UsageError
from readthrough.evaluation.calibrating import signs_of
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Completion, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Limits
from tests.agent_samples import FACT, QUESTION, decides, says_what_it_reads, shelve, write_book

CHOICES = ("Bob Marsh", "Ann Weller")


class Sure(ScriptedModel):
    """Says how probable its replies are."""

    def complete(self, requests: list[Request]) -> list[Completion]:
        return [replace(reply, logprob=-0.5 * reply.usage.completion_tokens) for reply in super().complete(requests)]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=4))


def ask(
    shelf: Shelf, kind: type[ScriptedModel] = Sure, choices: tuple[str, ...] | None = None, **options
) -> tuple[Answer, dict[str, float], ScriptedModel]:
    """The answer, the signs that are noted with it, and the model."""
    model = kind(replies=says_what_it_reads, choices=decides)
    services = Services(model=model, shelf=shelf, runs=RunLog(), **options)
    answer = FullContext().run(Question(QUESTION, choices), services)
    noted = [each for step in services.runs.steps(answer.run) for each in step.decisions if each.get("what") == SURE]
    return answer, noted[-1], model


def test_the_signs_of_a_written_answer(shelf: Shelf) -> None:
    answer, signs, model = ask(shelf)
    asked = [call for call in model.calls if call.kind == "likelihood" and call.given == (answer.answer,)]
    assert len(asked) == 1 and FACT not in asked[0].request.messages[-1].content
    assert QUESTION in asked[0].request.messages[-1].content
    assert signs["answer"] == -0.5
    assert signs["gain"] == pytest.approx(-0.5 - asked[0].result.mean, abs=1e-4)
    assert answer.confidence == pytest.approx(1 / (1 + 2.718281828 ** -signs["stated"]), abs=1e-3)  # not calibrated


def test_a_kept_reply_has_the_signs_that_it_had_when_it_was_written(shelf: Shelf) -> None:
    model, log = Sure(replies=says_what_it_reads, choices=decides, repeatable=True), RunLog()
    by = {"scripted": Calibration(Fitted(0.5, {"answer": 2.0}))}
    given = [Services(model=model, shelf=shelf, runs=log, calibrations=by) for _ in range(2)]
    first, second = (FullContext().run(Question(QUESTION), services) for services in given)
    assert second.usage.calls == 0 and second.confidence == first.confidence
    assert signs_of(log, second.run) == signs_of(log, first.run)


def test_without_its_probability_an_answer_has_one_sign(shelf: Shelf) -> None:
    answer, signs, model = ask(shelf, ScriptedModel)
    assert signs.keys() == {"what", "stated"} and answer.confidence is not None
    assert not any(call.given == (answer.answer,) for call in model.calls)


def test_a_calibration_decides_the_confidence(shelf: Shelf) -> None:
    _, signs, _ = ask(shelf)
    by = Calibration(Fitted(-1.0, {"stated": 0.5, "gain": 0.1}), Fitted(1.0, {"best": 2.0}))
    answer, _, _ = ask(shelf, calibrations={"scripted": by})
    assert answer.confidence == pytest.approx(by.written.probability(signs), abs=1e-3)
    chosen, signs, _ = ask(shelf, choices=CHOICES, calibrations={"scripted": by})
    assert chosen.confidence == pytest.approx(by.chosen.probability(signs), abs=1e-3)
    assert ask(shelf, choices=CHOICES)[0].confidence != chosen.confidence


def test_the_probability_of_signs() -> None:
    by = Fitted(1.0, {"stated": 2.0})
    assert by.probability({"stated": -0.5, "gain": 9.0}) == 0.5
    assert by.probability({"gain": 1.0}) is None and Fitted().probability({"stated": 1.0}) is None
    assert by.probability({"stated": 1e9}) == 1.0 and by.probability({"stated": -1e9}) == 0.0
    assert log_odds(0.5) == 0 and log_odds(1.0) == pytest.approx(-log_odds(0.0)) and log_odds(1.0) < 10
    for calibration in SHIPPED.values():
        assert Calibration.from_dict(calibration.to_dict()) == calibration
        low, high = (calibration.written.probability({"stated": sign}) for sign in (-5.0, 5.0))
        assert low < 0.1 < high


def test_a_budget_that_ends_at_the_sign_does_not_lose_the_answer(shelf: Shelf) -> None:
    _, _, model = ask(shelf)
    at = next(
        n for n, call in enumerate(model.calls) if call.kind == "likelihood" and call.given == ("Ann Weller hid it.",)
    )
    answer, signs, _ = ask(shelf, budget=Budget(Limits(calls=at)))
    assert answer.answer == "Ann Weller hid it." and answer.stopped is None
    assert "answer" in signs and "gain" not in signs


@pytest.mark.parametrize("choices", [None, CHOICES])
def test_an_answer_of_lower_confidence_is_refused(choices: tuple[str, ...] | None, shelf: Shelf) -> None:
    plain, _, _ = ask(shelf, choices=choices)
    kept, _, _ = ask(shelf, choices=choices, budget=Budget(Limits(abstain_below=plain.confidence)))
    assert kept.answer == plain.answer and kept.evidence
    refused, _, _ = ask(shelf, choices=choices, budget=Budget(Limits(abstain_below=min(1.0, plain.confidence + 1e-4))))
    assert refused.abstained and refused.answer == NOT_STATED and not refused.evidence
    assert refused.confidence == pytest.approx(1 - plain.confidence, abs=1e-4)
    assert refused.coverage == plain.coverage


def test_a_threshold_is_a_confidence() -> None:
    with pytest.raises(UsageError, match=r"abstain_below = 1\.5: a confidence is from 0 to 1"):
        Limits(abstain_below=1.5)
