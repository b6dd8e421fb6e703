"""Calibration: a fit to made answers, questions that cannot be answered, and what is kept for later runs."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import readthrough as rt
from readthrough.agents.reading.confidence import SURE, Calibration, Fitted
from readthrough.errors import LibraryError, UsageError
from readthrough.evaluation import calibrating
from readthrough.evaluation.base import UNANSWERABLE
from readthrough.evaluation.calibrating import (
    Sample,
    altered,
    ask,
    confidence,
    fit,
    from_results,
    make_questions,
    refusals,
)
from readthrough.memory.runs import RunLog, Step
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.opening import keep_calibration, read_calibrations
from tests.evaluation_samples import settings

PEOPLE = ("Ann", "Tom", "Eve", "Max", "Ida", "Joe", "Kim", "Lea", "Ned", "Ola", "Pia", "Roy")


def made(count: int, weight: float = 1.5, chosen: bool = False) -> list[Sample]:
    """Answers that are right by a logistic law of one sign; the other says nothing."""
    chance = np.random.default_rng(3)
    found = []
    for number in range(count):
        sign, noise = chance.normal(0, 2, 2)
        right = bool(chance.random() < 1 / (1 + np.exp(-(weight * sign - 1))))
        signs = {"best": sign} if chosen else {"stated": sign, "answer": noise}
        found.append(Sample(signs, right, right or number % 2 == 0))
    return found


@pytest.mark.parametrize("chosen", [False, True])
def test_a_fit_finds_the_law_of_the_answers(chosen: bool) -> None:
    found = fit(made(2000, chosen=chosen))
    by = found.calibration.chosen if chosen else found.calibration.written
    assert by.bias == pytest.approx(-1, abs=0.25)
    assert by.weights["best" if chosen else "stated"] == pytest.approx(1.5, abs=0.25)
    assert chosen or by.weights["answer"] == pytest.approx(0, abs=0.1)
    assert found.measured.auroc > 0.85 and found.measured.ece < 0.05 and found.answers == 2000
    assert 0 < found.refuse_below < 1 and 0 < found.recognised_ratio < 1


def test_a_fit_to_answers_of_both_kinds_takes_the_signs_that_all_of_a_kind_have() -> None:
    plain = [Sample({"stated": sample.signs["stated"]}, sample.right, True) for sample in made(50)]
    found = fit([*made(50), *plain, *made(60, chosen=True)])
    assert found.calibration.written.weights.keys() == {"stated"}
    assert found.calibration.chosen.weights.keys() == {"best"}
    assert confidence(Calibration(), Sample({"best": 3.0}, True, True)) == 0.5


def test_signs_that_part_all_answers_still_give_a_fit() -> None:
    samples = [Sample({"stated": float(sign)}, sign > 0, sign > 0) for sign in range(-20, 21)]
    found = fit(samples)
    assert 0 < found.calibration.written.weights["stated"] < 20
    assert found.measured.auroc > 0.99 and found.recognised_ratio == 1.0


def test_too_little_to_fit() -> None:
    with pytest.raises(UsageError, match="9 answers, . of them right, are too few"):
        fit(made(9))
    with pytest.raises(UsageError, match="20 answers, 20 of them right"):
        fit([Sample({"stated": 1.0}, True, True)] * 20)
    with pytest.raises(UsageError, match="no question that can be answered"):
        refusals([0.5], [False])


def test_a_tenth_is_refused() -> None:
    sure = [*(number / 100 for number in range(100)), *(0.05, 0.08, 0.5)]
    below, recognised = refusals(sure, [True] * 100 + [False] * 3)
    assert below == 0.09 and recognised == pytest.approx(2 / 3)
    assert refusals([0.1, 0.9], [True, True])[1] is None


def test_a_name_or_number_that_no_text_has() -> None:
    whole = "tom met ann weller in 1871 at saint piran"
    for question in ("Where did Ann Weller go?", "What happened in 1871?", "Did 5 ships come to Saint Piran?"):
        for seed in range(5):
            changed = altered(question, whole, random.Random(seed))
            new = set(changed.strip("?").split()) - set(question.strip("?").split())
            assert len(new) == 1 and new.pop().lower() not in whole
    assert altered("Who went there?", whole, random.Random(0)) is None  # the first word is no name


@pytest.fixture
def book(tmp_path: Path):
    says = "said so every day of that long winter while the boats lay on the shore and nobody came up the road to see"
    texts = [f"{name} keeps the lamp of {name}ton. {name} {says} {name}." for name in PEOPLE]
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(text * 3 for text in texts))

    def reply(request: Request) -> str:
        content = request.messages[-1].content
        named = [name for name in PEOPLE if f"{name} keeps the lamp" in content]
        asked = [name for name in PEOPLE if f"lamp of {name}ton?" in content]
        if "Write one short question" in content:
            return f"Who keeps the lamp of {named[0]}ton?"
        return f"{(asked or named)[0]} keeps it"

    model = ScriptedModel(replies=reply)
    with rt.read(path, model=model, home=tmp_path / "home", index="bm25") as opened:
        yield opened


def test_questions_are_made_and_asked(book: rt.Book) -> None:
    made_of_it = make_questions(book, 12, seed=1)
    right = [each for each in made_of_it if each.type != UNANSWERABLE]
    assert len(right) >= 8 and len(made_of_it) > len(right)
    assert all(each.answers for each in right)
    text = book.text.lower()
    for each in made_of_it:
        if each.type == UNANSWERABLE:
            assert not each.answers and each.question.rpartition(" ")[2].strip("?").lower() not in text
    found = list(ask(book, made_of_it[:6]))
    assert len(found) == 6 and all("stated" in sample.signs for sample in found)
    assert {sample.right for sample in found if not sample.answerable} <= {False}
    assert any(sample.right for sample in found)


def test_what_was_refused_is_no_wrong_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, results = RunLog(tmp_path / "library" / "runs.sqlite"), []
    for kind, abstained, points in (("question", True, 0.0), ("question", False, 1.0), (UNANSWERABLE, True, 1.0)):
        run = log.start("Who?", "retrieve", "scripted")
        log.log(run, Step(1, "answer", decisions=({"what": SURE, "stated": 1.0},)))
        answer = {"model": "scripted", "run": run, "abstained": abstained}
        results.append(SimpleNamespace(answer=answer, type=kind, score=points))
    log.close()
    monkeypatch.setattr(calibrating, "results_in", lambda folder: results)
    found = from_results(tmp_path, "scripted")
    assert [(sample.right, sample.answerable) for sample in found] == [(True, True), (False, False)]


def test_a_calibration_that_cannot_be_written_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path / "new")
    keep_calibration(given, "first", Calibration())

    def half(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text.encode(encoding)[: len(text) // 2])
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", half)
        with pytest.raises(LibraryError, match="No space left"):
            keep_calibration(given, "second", Calibration())
    assert read_calibrations(given) == {"first": Calibration()}
    names = [f"model {number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: keep_calibration(given, name, Calibration()), names))
    assert read_calibrations(given).keys() == {"first", *names}


def test_a_calibration_is_kept_for_later_answers(book: rt.Book, tmp_path: Path) -> None:
    by = Calibration(Fitted(-9.0, {"stated": 0.001}), Fitted())
    keep_calibration(book.settings, "other", Calibration())
    path = keep_calibration(book.settings, "scripted", by)
    assert read_calibrations(book.settings) == {"other": Calibration(), "scripted": by}
    assert book.ask("Who keeps the lamp of Annton?", abstain_below=0.0).confidence == pytest.approx(0.0001, abs=1e-4)
    path.write_text('{"scripted": {"written": 3}}')
    with pytest.raises(LibraryError, match="the calibrations cannot be read"):
        read_calibrations(book.settings)
    assert read_calibrations(settings(tmp_path / "new")) == {}
