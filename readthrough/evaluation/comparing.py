"""Two systems over the questions that both were asked, in one folder or in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from readthrough.catalogue import unknown
from readthrough.errors import UsageError
from readthrough.evaluation.statistics import mcnemar, paired_bootstrap
from readthrough.evaluation.store import FILE, Result, Store, short_names


@dataclass(frozen=True)
class Comparison:
    """Two systems on the questions of both.

    Attributes:
        one, other: their names.
        questions: how many both were asked.
        one_score, other_score: the mean scores over these.
        difference, low, high: `other_score` less `one_score`, and the ends of its 95% paired bootstrap interval.
        p: McNemar's test, where every score is 0 or 1.
        wins, losses: on how many questions `other` scored higher, and lower.
    """

    one: str
    other: str
    questions: int
    one_score: float
    other_score: float
    difference: float
    low: float
    high: float
    p: float | None
    wins: int
    losses: int

    @property
    def verdict(self) -> str:
        """What it means, in a sentence."""
        if self.low <= 0 <= self.high:
            return f"the difference is smaller than its interval: these {self.questions} questions show none"
        return f"{self.other if self.difference > 0 else self.one} is better"


def compare(one: str, other: str, folder: Path | None = None) -> list[Comparison]:
    """Compare what `one` and `other` name: `SYSTEM` in `folder`, `FOLDER:SYSTEM`, or two folders.

    Of two folders each system that stands in both is compared with itself. A system is named by its name in a report,
    or by the beginning of it.

    Raises:
        UsageError: a name does not say which system is meant, or there is no question that both were asked.
        InputError: a folder has no results.
    """
    first, second = _systems(one, folder), _systems(other, folder)
    if len(first) == len(second) == 1:
        pairs = [(*first.items(), *second.items())]
    else:
        pairs = [((name, first[name]), (name, second[name])) for name in first if name in second]
    if not pairs:
        raise UsageError(f"{one} and {other} have no system in common", hint="FOLDER:SYSTEM names one")
    same = any(a[0] == b[0] for a, b in pairs)
    return [
        paired(f"{one}: {a[0]}" if same else a[0], a[1], f"{other}: {b[0]}" if same else b[0], b[1]) for a, b in pairs
    ]


def paired(one: str, results: Sequence[Result], other: str, others: Sequence[Result]) -> Comparison:
    """The results of two systems side by side.

    Raises:
        UsageError: there is no question that both were asked.
    """
    first = {result.content: result.score for result in results}
    second = {result.content: result.score for result in others}
    both = [content for content in first if content in second]
    if not both:
        raise UsageError(f"there is no question that both {one} and {other} were asked")
    ours, theirs = [first[content] for content in both], [second[content] for content in both]
    difference, low, high = paired_bootstrap(theirs, ours)
    return Comparison(
        one,
        other,
        len(both),
        fmean(ours),
        fmean(theirs),
        difference,
        low,
        high,
        mcnemar(theirs, ours) if {*ours, *theirs} <= {0.0, 1.0} else None,
        sum(b > a for a, b in zip(ours, theirs, strict=True)),
        sum(b < a for a, b in zip(ours, theirs, strict=True)),
    )


def results_in(folder: Path) -> list[Result]:
    """The results of the latest run in a folder, with what judges said of them among the scores.

    Raises:
        InputError: there are none.
    """
    store = Store(folder)
    try:
        results, grades = store.results(), store.grades()
    finally:
        store.close()
    return [replace(result, scores={**result.scores, **_judged(result, grades)}) for result in results]


def _judged(result: Result, grades: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"right by {judge}": given[result.key] for judge, given in grades.items() if result.key in given}


def _systems(name: str, folder: Path | None) -> dict[str, list[Result]]:
    """The results of the system, or of all systems of the folder, that a name stands for, by the systems' names."""
    before, _, after = name.partition(":")
    if (Path(name).expanduser() / FILE).is_file():
        folder, wanted = Path(name).expanduser(), ""
    elif (Path(before).expanduser() / FILE).is_file():
        folder, wanted = Path(before).expanduser(), after
    else:
        wanted = name
    if folder is None:
        raise UsageError(f"there are no results in {name}", hint="FOLDER:SYSTEM, or --in FOLDER")
    results = results_in(folder)
    names = short_names(results)
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(names[result.system_name], []).append(result)
    if not wanted:
        return found
    chosen = _chosen(wanted, names)
    return {chosen: found[chosen]}


def _chosen(wanted: str, names: dict[str, str]) -> str:
    """The short name of the system that `wanted` is the whole name or the beginning of."""
    exact = {short for full, short in names.items() if wanted in (full, short)}
    begun = {short for full, short in names.items() if full.startswith(wanted) or short.startswith(wanted)}
    found = exact or begun
    if not found:
        raise unknown("system", wanted, list(names.values()))
    if len(found) > 1:
        raise UsageError(f"{wanted!r} may be {' or '.join(sorted(found))}")
    return found.pop()
