"""A judge over the results of an evaluation. Its verdicts are kept beside them: what it has judged, it need not again.

A choice is right or wrong, and so is a refusal: of these nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from readthrough.errors import UsageError
from readthrough.evaluation.base import UNANSWERABLE
from readthrough.evaluation.judging import Case, Judge, Preference, Ranking, ranking
from readthrough.evaluation.store import Result, Store, short_names
from readthrough.types import Event

BATCH = 16
"""So many answers are judged before the verdicts are kept."""


@dataclass(frozen=True)
class Standing:
    """What a system got from a judge.

    Attributes:
        system: its name.
        answers: how many of its answers were graded.
        right: how probable it is, in the mean, that they are right; None where none was graded.
        score: their mean score.
        strength: by Bradley-Terry, where the systems were compared; their geometric mean is 1.
    """

    system: str
    answers: int
    right: float | None
    score: float
    strength: float | None


OnEvent = Callable[[Event], None]
T = TypeVar("T")
Pair = tuple[Result, Result]


def grade(folder: Path, judge: Judge, on_event: OnEvent | None = None) -> dict[str, float]:
    """How probable it is that each answer of the latest run in `folder` is right, by the keys of the results.

    Results without a right answer that is known are left out; an answer that failed is wrong.

    Raises:
        InputError: the folder has no results.
        ModelError: the judge failed; what was graded before is kept.
    """
    store, name = Store(folder), judge.model.identity
    try:
        known = store.grades().get(name, {})
        results = [result for result in store.results() if result.answers or _settled(result) is not None]
        settled = {result.key: right for result in results if (right := _settled(result)) is not None}
        store.keep_grades(name, settled)
        found = {result.key: known[result.key] for result in results if result.key in known} | settled
        left = [result for result in results if result.key not in found]
        for those in _batches(left, on_event):
            given = judge.grade([_case(result) for result in those])
            new = {result.key: each.probability for result, each in zip(those, given, strict=True)}
            store.keep_grades(name, new)
            found |= new
        return found
    finally:
        store.close()


def rank(folder: Path, judge: Judge, on_event: OnEvent | None = None) -> Ranking:
    """Rank the systems of the latest run in `folder`, by comparing every two of them on the questions of both.

    Raises:
        UsageError: there are fewer than two systems.
        InputError: the folder has no results.
        ModelError: the judge failed; what was compared before is kept.
    """
    store = Store(folder)
    try:
        results = store.results()
        names = short_names(results)
        if len(names) < 2:
            raise UsageError(f"{len(names)} systems: a ranking needs two")
        systems: dict[str, dict[str, Result]] = {short: {} for short in names.values()}
        for result in results:
            systems[names[result.system_name]][result.content] = result
        pairs = {
            (one, other): [
                (systems[one][each], systems[other][each]) for each in systems[one] if each in systems[other]
            ]
            for one, other in combinations(systems, 2)
        }
        found = _preferences(store, judge, [pair for those in pairs.values() for pair in those], on_event)
        return ranking({both: [found[one.key, other.key] for one, other in those] for both, those in pairs.items()})
    finally:
        store.close()


def standings(results: Sequence[Result], grades: Mapping[str, float], ranking: Ranking | None) -> list[Standing]:
    """What each system got from a judge, the best first; systems of which nothing is known are left out."""
    names = short_names(results)
    found = []
    for name in dict.fromkeys(names.values()):
        own = [each for each in results if names[each.system_name] == name]
        graded = [each for each in own if each.key in grades]
        right = fmean(grades[each.key] for each in graded) if graded else None
        strength = ranking.strengths[name] if ranking else None
        if graded or ranking:
            score = fmean(each.score for each in graded or own)
            found.append(Standing(name, len(graded), right, score, strength))
    return sorted(found, key=lambda each: (-(each.strength or 0.0), -(each.right or 0.0)))


def _preferences(
    store: Store, judge: Judge, pairs: Sequence[Pair], on_event: OnEvent | None
) -> Mapping[tuple[str, str], Preference]:
    """The judge's preference in each pair: as it is kept, as it is clear without asking, or asked for now."""
    name = judge.model.identity
    kept = store.preferences(name)
    found = {both: Preference(*kept[both]) for one, other in pairs if (both := (one.key, other.key)) in kept}
    for one, other in pairs:
        first, second = _settled(one), _settled(other)
        if first is not None and second is not None:
            clear = 0.5 + (first - second) / 2
            found[one.key, other.key] = Preference(clear, clear)
    left = [(one, other) for one, other in pairs if (one.key, other.key) not in found]
    for those in _batches(left, on_event):
        given = judge.compare([(_case(one), _case(other)) for one, other in those])
        new = {(one.key, other.key): each for (one, other), each in zip(those, given, strict=True)}
        store.keep_preferences(name, {both: (each.shown_first, each.shown_second) for both, each in new.items()})
        found |= new
    return found


def _settled(result: Result) -> float | None:
    """Whether an answer is right where nobody need be asked: 1 or 0; None where somebody must."""
    if result.answer is None:
        return 0.0
    if result.type == UNANSWERABLE:
        return float(result.answer["abstained"])
    if result.choices is not None:
        return float(result.score == 1)
    return 0.0 if result.answer["abstained"] else None


def _case(result: Result) -> Case:
    return Case(result.question, "" if result.answer is None else str(result.answer["answer"]), result.answers)


def _batches(left: Sequence[T], on_event: OnEvent | None) -> Iterator[Sequence[T]]:
    """What is left to judge, so much at a time, told as progress."""
    for start in range(0, len(left), BATCH):
        _tell(on_event, start, len(left))
        yield left[start : start + BATCH]
    _tell(on_event, len(left), len(left))


def _tell(on_event: OnEvent | None, done: int, total: int) -> None:
    if on_event is not None:
        on_event(Event("judge", done, total, "answers"))
