"""Fitting how sure an answer is: questions are made from texts, asked, and scored, and a logistic regression is fitted.

Questions that can be answered are written by the model about passages of the texts, each with the answer that it gives
from its passage alone. One that cannot is such a question with a name or a number that no text has in place of one of
its own. Nothing is asked of a model where the answers of an evaluation are there: the signs of each stand in the run
log in the evaluation's folder.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from readthrough.agents.reading.answering import SHORT_ANSWER
from readthrough.agents.reading.confidence import SURE, Calibration, Fitted
from readthrough.agents.reading.gating import WRITE_QUESTION
from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.errors import UsageError
from readthrough.evaluation.base import UNANSWERABLE, Example, Source, score
from readthrough.evaluation.comparing import results_in
from readthrough.evaluation.confidence import RIGHT, Measured, measure
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.weights import ALIASES
from readthrough.types import Answer, Event

if TYPE_CHECKING:
    from readthrough.api import Book

WORKFLOW = {"retrieve": {"abstain_below": 0.0, "whole_tokens": 0}}
"""What made questions are asked with: every one is answered, so that every one has its signs."""

FALSE_REFUSALS_RATIO = 0.1

_WRITTEN, _CHOSEN = ("stated", "answer", "gain"), ("best",)
_LEAST_SAMPLES = 10
_FOLDS = 5
_RIDGE = 0.5
_ROUNDS = 100
_QUESTION_TOKENS, _ANSWER_TOKENS = 48, 32
_PASSAGE_CHARACTERS = 200
_NAMED = re.compile(r"(?<!^)\b(?:[A-Z][a-z]{2,}|\d[\d,.]*\d|\d)\b")
_SYLLABLES = ("bra", "dol", "fen", "gri", "kas", "lum", "mor", "nev", "pol", "rus", "tev", "vor", "zan", "wib")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: its signs, whether it was right, and whether its question could be answered."""

    signs: dict[str, float]
    right: bool
    answerable: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration and how good it is, each answer's confidence being that of a fit to the others (five folds).

    Attributes:
        calibration: what was fitted.
        answers: how many answers it was fitted to.
        right_ratio: the share of them that was right.
        measured: AUROC, calibration error, ... of the confidences.
        refuse_below: the confidence below which a tenth of the questions that have an answer is refused.
        recognised_ratio: the share of the other questions that is refused then; None where there are none.
    """

    calibration: Calibration
    answers: int
    right_ratio: float
    measured: Measured
    refuse_below: float
    recognised_ratio: float | None

    def to_dict(self) -> dict[str, Any]:
        """The fit as JSON-ready values."""
        return {**asdict(self), "calibration": self.calibration.to_dict()}


def fit(samples: Sequence[Sample]) -> Fit:
    """Fit a calibration to some answers.

    Raises:
        UsageError: there are too few answers, or all of them or none are right.
    """
    known = [sample for sample in samples if _kind(sample) is not None]
    if len(known) < _LEAST_SAMPLES or len({sample.right for sample in known}) < 2:
        count = sum(sample.right for sample in known)
        raise UsageError(
            f"{len(known)} answers, {count} of them right, are too few to fit a confidence to",
            hint="ask more questions, easier or harder ones",
        )
    # By turns, so that what was asked together is spread over the folds.
    folds = [[sample for at, sample in enumerate(known) if at % _FOLDS != fold] for fold in range(_FOLDS)]
    fitted = [_calibration(others) for others in folds]
    sure = [confidence(fitted[at % _FOLDS], sample) for at, sample in enumerate(known)]
    below, recognised = refusals(sure, [sample.answerable for sample in known])
    right_ratio = sum(sample.right for sample in known) / len(known)
    measured = measure(sure, [float(sample.right) for sample in known])
    return Fit(_calibration(known), len(known), right_ratio, measured, below, recognised)


def refusals(sure: Sequence[float], answerable: Sequence[bool]) -> tuple[float, float | None]:
    """The confidence below which a tenth of what can be answered is refused, and the share of the rest that is."""
    given, yes = np.array(sure), np.array(answerable, dtype=bool)
    can, cannot = given[yes], given[~yes]
    if not can.size:
        raise UsageError("no question that can be answered was asked")
    below = float(np.quantile(can, FALSE_REFUSALS_RATIO, method="lower"))
    return below, float((cannot < below).mean()) if cannot.size else None


def confidence(calibration: Calibration, sample: Sample) -> float:
    """The confidence of an answer by a calibration; 0.5 where that knows nothing of such answers."""
    by = calibration.chosen if _kind(sample) == "chosen" else calibration.written
    found = by.probability(sample.signs)
    return 0.5 if found is None else found


def from_results(folder: Path, model: str) -> list[Sample]:
    """The answers of a model in an evaluation, with the signs that the run log in its folder has of them.

    Raises:
        UsageError: there are none.
    """
    runs = RunLog(folder / "library" / "runs.sqlite") if (folder / "library" / "runs.sqlite").exists() else None
    if runs is None:
        raise UsageError(f"{folder} has no run log", hint="name the folder of an evaluation that ran with `eval run`")
    found = []
    try:
        for result in results_in(folder):
            answer = result.answer
            if answer is None or ALIASES.get(answer["model"], answer["model"]) != model:
                continue
            answerable = result.type != UNANSWERABLE
            if answerable and answer["abstained"]:
                continue  # what was written and then refused, for a low confidence perhaps, is not known to be wrong
            signs = signs_of(runs, answer["run"])
            if signs:
                correct = answerable and result.score >= RIGHT
                found.append(Sample(signs, correct, answerable))
    finally:
        runs.close()
    if not found:
        raise UsageError(f"no answer of {model} in {folder} has signs", hint="answers of an older version have none")
    return found


def signs_of(runs: RunLog, run: str) -> dict[str, float]:
    """The signs of a run's last answer; empty where it refused before it wrote one."""
    noted = [each for step in runs.steps(run) for each in step.decisions if each.get("what") == SURE]
    return {name: value for name, value in noted[-1].items() if name != "what"} if noted else {}


def ask(book: Book, examples: Sequence[Example], on_event: Callable[[Event], None] | None = None) -> Iterator[Sample]:
    """Ask a book questions, and give what came of each."""
    for number, example in enumerate(examples, 1):
        answer = book.ask(example.question, example.choices, workflow=WORKFLOW)
        signs = signs_of(book.runs, answer.run)
        if signs:
            yield Sample(signs, right(example, answer), example.type != UNANSWERABLE)
        if on_event is not None:
            on_event(Event("ask", number, len(examples), "questions"))


def right(example: Example, answer: Answer) -> bool:
    """Whether an answer is right; none is to a question that has no answer."""
    return example.type != UNANSWERABLE and score(example, answer.to_dict()) >= RIGHT


def make_questions(book: Book, count: int, seed: int = 0) -> list[Example]:
    """Questions about a book that its model writes: with answers, and as many as can be made without.

    Raises:
        UsageError: the texts have no passage long enough to ask about.
    """
    chance = random.Random(seed)
    passages = [chunk.text for entry in book.documents for chunk in book.chunks(entry.id)]
    long = [text for text in passages if len(text) >= _PASSAGE_CHARACTERS]
    if not long:
        raise UsageError("these texts are too short to ask about", hint="give longer ones")
    texts = [as_data(unwrap(text)) for text in chance.sample(long, min(count, len(long)))]
    asking = [Request.user(WRITE_QUESTION.format(text=text), max_tokens=_QUESTION_TOKENS) for text in texts]
    asked = [reply.text.strip() for reply in book.model.complete(asking)]
    pairs = [(text, question) for text, question in zip(texts, asked, strict=True) if question.endswith("?")]
    answering = [
        Request.user(SHORT_ANSWER.format(material=text, question=question), max_tokens=_ANSWER_TOKENS)
        for text, question in pairs
    ]
    answers = [reply.text.strip() for reply in book.model.complete(answering)]
    whole = book.text.lower()
    found = []
    for number, ((_, question), said) in enumerate(zip(pairs, answers, strict=True)):
        if said:
            found.append(_example(f"{number}", question, (said,)))
        changed = altered(question, whole, chance)
        if changed is not None:
            found.append(_example(f"{number} altered", changed, ()))
    return found


def altered(question: str, whole: str, chance: random.Random) -> str | None:
    """The question with a name or a number that `whole` (lower case) does not have; None where it names nothing."""
    names = list(_NAMED.finditer(question))
    if not names:
        return None
    name = chance.choice(names)
    while True:
        new = _number(name[0], chance) if name[0][0].isdigit() else "".join(chance.sample(_SYLLABLES, 3)).capitalize()
        if new.lower() not in whole:
            return question[: name.start()] + new + question[name.end() :]


def _number(old: str, chance: random.Random) -> str:
    digits = max(4, sum(sign.isdigit() for sign in old) + 1)
    return str(chance.randrange(10 ** (digits - 1), 10**digits))


def _example(name: str, question: str, answers: tuple[str, ...]) -> Example:
    kind = "question" if answers else UNANSWERABLE
    return Example(name, question, (Source("texts", text=""),), answers, "f1", type=kind)


def _kind(sample: Sample) -> str | None:
    for name, signs in (("written", _WRITTEN), ("chosen", _CHOSEN)):
        if any(sign in sample.signs for sign in signs):
            return name
    return None


def _calibration(samples: Sequence[Sample]) -> Calibration:
    written = [sample for sample in samples if _kind(sample) == "written"]
    chosen = [sample for sample in samples if _kind(sample) == "chosen"]
    return Calibration(_fitted(written, _WRITTEN), _fitted(chosen, _CHOSEN))


def _fitted(samples: Sequence[Sample], names: Sequence[str]) -> Fitted:
    """A logistic regression with a small ridge over the signs that all samples have, by Newton's method."""
    if len(samples) < _LEAST_SAMPLES // 2 or len({sample.right for sample in samples}) < 2:
        return Fitted()
    names = [name for name in names if all(name in sample.signs for sample in samples)]
    signs: Array = np.array([[1.0, *(sample.signs[name] for name in names)] for sample in samples])
    wanted: Array = np.array([float(sample.right) for sample in samples])
    ridge = _RIDGE * np.diag([0.0] + [1.0] * len(names)) + 1e-6 * np.eye(len(names) + 1)
    weights: Array = np.zeros(len(names) + 1)
    for _ in range(_ROUNDS):
        sure = 1 / (1 + np.exp(-np.clip(signs @ weights, -30, 30)))
        slope = signs.T @ (wanted - sure) - ridge @ weights
        step = np.linalg.solve(signs.T @ (signs * (sure * (1 - sure))[:, None]) + ridge, slope)
        weights = weights + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return Fitted(round(float(weights[0]), 4), {n: round(float(w), 4) for n, w in zip(names, weights[1:], strict=True)})
