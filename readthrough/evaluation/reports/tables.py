"""The tables of a report as plain data, which the terminal, Markdown and HTML show alike."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

from readthrough.evaluation.base import UNANSWERABLE
from readthrough.evaluation.comparing import paired
from readthrough.evaluation.confidence import measure
from readthrough.evaluation.reports import groups, text
from readthrough.evaluation.reports.groups import Column, Section
from readthrough.evaluation.store import Result, short_names

NEAR = 0.05
"""A system whose score is within this of the best is as good, when it is asked which one is worth its time."""

MOST_IN_ALL_PAIRS = 5
"""Of more systems than these the best one is compared with each other one."""

MOST_SHOWN = 5
"""The most values of one line of the provenance."""

_NUMBER = re.compile(r"\d[\d,]*")

UNTOLD_TAGS = ("sample",)
"""Tags that only number the questions."""


class Cell(NamedTuple):
    """What a cell shows, and the number that its column is sorted by; None: it is sorted by what it shows."""

    text: str
    order: float | None = None


@dataclass(frozen=True)
class Table:
    """A table. `notes` are sentences about it."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def tables(section: Section) -> list[Table]:
    """All tables of a section that have something to show."""
    found = [summary(section), by_type(section), *by_tags(section), speed(section), worth(section), pairs(section)]
    found += [other_scores(section), confidences(section), errors(section)]
    return [table for table in found if table.rows]


def summary(section: Section) -> Table:
    """What each system scored, and what it took."""
    rows = []
    for system, results in section.systems.items():
        answers = [result.answer for result in results if result.answer is not None]
        refused = sum(r.answer is not None and r.answer["abstained"] for r in results if r.type != UNANSWERABLE)
        rows.append(
            (
                Cell(system),
                _score(results),
                _count(len(results)),
                _seconds(groups.median_seconds(results)),
                _seconds(sum(result.reading_seconds for result in results)),
                _whole(groups.mean_usage(results, "prompt_tokens")),
                _whole(groups.mean_usage(results, "completion_tokens")),
                _memory(groups.median_memory(results)),
                _count(sum(answer["stopped"] is not None for answer in answers)),
                _count(refused),
                _count(sum(result.error is not None for result in results)),
            )
        )
    heads = ("system", "score (95% interval)", "questions", "median s", "reading s", "tokens read", "tokens written")
    notes = [
        "Median seconds and mean tokens of a question; reading s: reading and indexing the texts, of all questions "
        "together. Stopped: a limit cut the answer short. Refused: answerable questions that got no answer, which "
        "score 0, as those with an error do. An interval has no width where all scores are the same."
    ]
    if len({frozenset(result.content for result in results) for results in section.systems.values()}) > 1:
        notes.append("Not all systems have answered the same questions: compare them by the pairs below.")
    return Table("Scores", (*heads, "memory", "stopped", "refused", "errors"), tuple(rows), tuple(notes))


def by_type(section: Section) -> Table:
    """The scores by type of question, where there are several."""
    kinds = sorted({result.type for result in section.results})
    columns = {kind: Column(text.words(kind)) for kind in kinds}
    return _spread("By type of question", section, list(columns.values()), lambda result: columns[result.type])


def by_tags(section: Section) -> list[Table]:
    """The scores by each tag that puts the questions into classes."""
    return [
        _spread(f"By {text.words(tag.name)}", section, tag.columns, tag.column)
        for tag in groups.classes(section.results)
        if tag.name not in UNTOLD_TAGS
    ]


def speed(section: Section) -> Table:
    """What each system takes for texts of each length, where there are several."""
    tag = groups.tag(section.results, groups.LENGTH)
    columns = [column for column in tag.columns if column.value]
    rows = []
    for system, results in section.systems.items() if len(columns) > 1 else ():
        parts = groups.grouped(results, tag.column)
        rows.append((Cell(system), *(_speed(parts.get(column, ()), column) for column in columns)))
    heads = ("system", *(column.name for column in columns))
    note = "Median seconds of an answer, and milliseconds a token of the text; texts that were refused are left out."
    return Table("Seconds by length, tokens", heads, tuple(rows), (note,))


def _speed(results: Sequence[Result], column: Column) -> Cell:
    seconds = groups.median_seconds(results)
    if seconds is None or not column.value:
        return Cell("")
    return Cell(f"{text.seconds(seconds)} s, {1000 * seconds / column.value:.2g} ms a token", seconds)


def worth(section: Section) -> Table:
    """The quickest system that is about as good as the best one, by type of question and for all."""
    kinds = groups.grouped(section.results, lambda result: result.type)
    rows = [_worth("all", section.systems)]
    if len(kinds) > 1:
        for kind in sorted(kinds):
            asked = {
                system: those
                for system, results in section.systems.items()
                if (those := tuple(result for result in results if result.type == kind))
            }
            rows.append(_worth(text.words(kind), asked))
    heads = ("type", "worth its time", "score", "median s", "best", "score", "median s")
    note = f"The quickest system whose score is within {NEAR:g} of the best, of those asked the most questions."
    found = tuple(row for row in rows if row) if len(section.systems) > 1 else ()
    return Table("Worth its time", heads, found, (note,))


def _worth(kind: str, asked: Mapping[str, Sequence[Result]]) -> tuple[Cell, ...]:
    most = max(len(results) for results in asked.values())
    seconds = {system: groups.median_seconds(results) for system, results in asked.items() if len(results) == most}
    timed = {system: time for system, time in seconds.items() if time is not None}
    if not timed:
        return ()
    scores = {system: groups.mean_score(asked[system]) for system in timed}
    best = max(timed, key=lambda system: (scores[system], -timed[system]))
    near = [system for system in timed if scores[system] >= scores[best] - NEAR]
    quickest = min(near, key=lambda system: timed[system])
    cells = [Cell(kind)]
    for system in (quickest, best):
        cells += [Cell(system), Cell(f"{scores[system]:.2f}", scores[system]), _seconds(timed[system])]
    return tuple(cells)


def pairs(section: Section) -> Table:
    """Systems side by side: each with each, or of many the best with each other one."""
    names = list(section.systems)
    chosen = list(combinations(names, 2))
    if len(names) > MOST_IN_ALL_PAIRS:
        chosen = chosen[: len(names) - 1]
    rows = tuple(_pair(section, one, other) for one, other in chosen)
    note = (
        "Over the questions that both were asked: 95% interval of the difference by paired bootstrap; McNemar's test "
        "where every score is 0 or 1. Of comparisons of equal systems one in 20 looks different by chance."
    )
    heads = ("one", "other", "questions", "one better on", "worse on", "difference", "McNemar p", "so")
    return Table("Pairs", heads, rows, (note,))


def _pair(section: Section, one: str, other: str) -> tuple[Cell, ...]:
    if not {r.content for r in section.systems[one]} & {r.content for r in section.systems[other]}:
        return Cell(one), Cell(other), _count(0), *(Cell("") for _ in range(4)), Cell("no questions in common")
    found = paired(other, section.systems[other], one, section.systems[one])
    counts = (_count(found.questions), _count(found.wins), _count(found.losses))
    shown = f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
    chance = Cell("" if found.p is None else f"{found.p:.2g}", found.p)
    return Cell(one), Cell(other), *counts, Cell(shown, found.difference), chance, Cell(found.verdict)


def other_scores(section: Section) -> Table:
    """The means of what is measured beside the score, over the questions where it is."""
    names = sorted({name for result in section.results for name in result.scores if name != "score"})
    rows = []
    for system, results in section.systems.items():
        values = [[result.scores[name] for result in results if name in result.scores] for name in names]
        rows.append((Cell(system), *(_ratio(fmean(those) if those else None) for those in values)))
    return Table("Other scores", ("system", *map(text.words, names)), tuple(rows) if names else ())


def confidences(section: Section) -> Table:
    """How well the confidence of each system tells right answers from wrong ones."""
    rows = []
    for system, results in section.systems.items():
        found = measure([result.confidence for result in results], [result.score for result in results])
        if found.answers:
            counts = _count(found.answers), _count(found.left_out)
            rows.append((Cell(system), *counts, _ratio(found.ece), _ratio(found.auroc), _ratio(found.aurc)))
    note = (
        "ECE: how far confidence is from the mean score (0 is best). AUROC: how often a right answer has more "
        "confidence than a wrong one (0.5 is chance). AURC: mean error when the least sure answers are left out, over "
        "all shares (0 is best)."
    )
    return Table("Confidence", ("system", "with a confidence", "without", "ECE", "AUROC", "AURC"), tuple(rows), (note,))


def errors(section: Section) -> Table:
    """What went wrong, and how often; of messages that differ by their numbers only the first is shown."""
    counts: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], str] = {}
    for system, results in section.systems.items():
        for error in (result.error for result in results if result.error is not None):
            message = str(error.get("message", ""))
            what = (system, str(error.get("type", "")), _NUMBER.sub("0", message))
            counts[what] += 1
            first.setdefault(what, text.cut(message, 300))
    rows = tuple((*map(Cell, (*what[:2], first[what])), _count(count)) for what, count in counts.items())
    return Table("Errors", ("system", "error", "message (of the first)", "questions"), rows)


def provenance(results: Sequence[Result]) -> Table:
    """Where and with what the results were made; a line with several values says how many results have each."""
    lines = [(f"system {short}", full) for full, short in sorted(short_names(results).items()) if full != short]
    for result in results:
        made = {name: value for name, value in result.made.items() if value not in (None, {})}
        packages = made.pop("packages", {})
        most = ", ".join(f"{text.words(name)} {value:g}" for name, value in result.limits.items()) or "none"
        told = {**made, **packages, "limits of an answer": most, "date": result.finished[:10]}
        lines += [(text.words(name), v if isinstance(v, str) else json.dumps(v)) for name, v in told.items()]
    found: dict[str, Counter[str]] = {}
    for name, value in lines:
        found.setdefault(name, Counter())[value] += 1
    rows = tuple((Cell(name), Cell(_several(values))) for name, values in found.items())
    return Table("Made with", ("what", "value"), rows)


def _several(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    total = sum(values.values())
    shown = [f"{value} ({count} of {total} results)" for value, count in sorted(values.items())[:MOST_SHOWN]]
    return "; ".join(shown) + (f"; {len(values) - MOST_SHOWN} more" if len(values) > MOST_SHOWN else "")


def _spread(
    title: str, section: Section, columns: Sequence[Column], column_of: Callable[[Result], Column | None]
) -> Table:
    """The scores of each system in columns; no rows where there is only one column."""
    if len(columns) < 2:
        return Table(title, (), ())
    whole = groups.grouped(section.results, column_of)
    counts = {column: len({result.content for result in whole[column]}) for column in columns}
    rows = []
    for system, results in section.systems.items():
        parts = groups.grouped(results, column_of)
        rows.append((Cell(system), *(_score(parts.get(column, ()), counts[column]) for column in columns)))
    heads = ("system", *(f"{text.cut(column.name, 40)} ({count})" for column, count in counts.items()))
    note = "In brackets in the head: questions. n: the questions of a cell, where it has not all."
    return Table(title, heads, tuple(rows), (note,))


def _score(results: Sequence[Result], of: int | None = None) -> Cell:
    if not results:
        return Cell("")
    mean, low, high = groups.score_interval(results)
    part = f", n {len(results)}" if of not in (None, len(results)) else ""
    return Cell(f"{mean:.2f} ({low:.2f}-{high:.2f}){part}", mean)


def _seconds(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(text.seconds(value), value)


def _ratio(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:.2f}", value)


def _whole(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:,.0f}", value)


def _memory(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(text.bytes_shown(value), value)


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)
