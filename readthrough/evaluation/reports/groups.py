"""Results in groups: by task, system, type of question and tag; and the numbers of a group."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean, median
from typing import Any, TypeVar

from readthrough.evaluation.reports import text
from readthrough.evaluation.statistics import interval
from readthrough.evaluation.store import Result, short_names

MOST_VALUES = 12
"""The most values of a tag that a table or a plot shows; lengths and depths of more are put together."""

LENGTH = "length_tokens"
"""The tag that has the length of an example's text."""

SAME_LENGTH = 1.05
"""Lengths within this ratio are one length: texts made for a length have a few tokens less."""

DRAWS = 2000
"""Of a bootstrap: enough for the two digits that a report shows."""

GROUP = 2
"""A tag is worth a table where its values have so many questions each, in the mean."""

MOST_CHARACTERS = 40
"""A longer value of a tag is a text and no class."""

_FOLDERS = re.compile(r"\bpath=[^,()]*[/\\](?=[^/\\,()])")

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Section:
    """The results of one task or of all; `systems` has those of each system, in the order of their mean scores."""

    title: str
    results: tuple[Result, ...]
    systems: Mapping[str, tuple[Result, ...]]


@dataclass(frozen=True, slots=True)
class Column:
    """A value of a tag as a report shows it: its name, and a number where it has one."""

    name: str
    value: float | None = None


@dataclass(frozen=True)
class Tag:
    """A tag, and the column that each of its values belongs to."""

    name: str
    of_value: Mapping[float | str, Column]

    @property
    def columns(self) -> list[Column]:
        """The columns in order."""
        return sorted(set(self.of_value.values()), key=lambda column: (column.value or 0.0, column.name))

    def column(self, result: Result) -> Column | None:
        """The column of a result, None where it does not have the tag."""
        value = result.tags.get(self.name)
        return None if value is None else self.of_value[_value(value)]


def sections(results: Sequence[Result]) -> list[Section]:
    """All results, then those of each task where there are several tasks."""
    tasks = grouped(results, family)
    names = short_names(results)
    titles = {task: _FOLDERS.sub("path=", task) for task in tasks}
    if len(set(titles.values())) < len(tasks):
        titles = {task: task for task in tasks}
    whole = section("All tasks" if len(tasks) != 1 else next(iter(titles.values())), results, names)
    return [whole, *(section(titles[task], those, names) for task, those in tasks.items() if len(tasks) > 1)]


def family(result: Result) -> str:
    """The task's name without its length: its results at all lengths stand together."""
    name, options = next(iter(result.task.items()))
    rest = {option: value for option, value in options.items() if option != "tokens"}
    return replace(result, task={name: rest}).task_name


def section(title: str, results: Sequence[Result], names: Mapping[str, str]) -> Section:
    """Some results by system, the best first."""
    by_system = grouped(results, lambda result: names[result.system_name])
    ordered = sorted(by_system.items(), key=lambda item: (-mean_score(item[1]), item[0]))
    return Section(title, tuple(results), dict(ordered))


def styles(results: Sequence[Result]) -> dict[str, int]:
    """A number for each system, by which all plots of a page draw it."""
    return {name: place for place, name in enumerate(sorted(set(short_names(results).values())))}


def grouped(results: Iterable[Result], key: Callable[[Result], Key]) -> dict[Key, tuple[Result, ...]]:
    """The results by a key, in the order in which the keys come up."""
    groups: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return {name: tuple(those) for name, those in groups.items()}


def mean_score(results: Sequence[Result]) -> float:
    """The mean score."""
    return fmean(result.score for result in results)


def score_interval(results: Sequence[Result]) -> tuple[float, float, float]:
    """The mean score and the ends of its 95% bootstrap interval, which the order of the results does not change."""
    return _interval(tuple(sorted(result.score for result in results)))


@lru_cache(maxsize=4096)  # tables and plots, and sections, show many of the same means
def _interval(scores: tuple[float, ...]) -> tuple[float, float, float]:
    return interval(scores, draws=DRAWS)


def median_seconds(results: Sequence[Result]) -> float | None:
    """The median of the seconds of those that were answered; None where none was."""
    seconds = [result.seconds for result in results if result.answer is not None]
    return median(seconds) if seconds else None


def mean_usage(results: Sequence[Result], name: str) -> float | None:
    """The mean of a number of `usage` over those that were answered; None where none was."""
    values = [result.answer["usage"][name] for result in results if result.answer is not None]
    return fmean(values) if values else None


def median_memory(results: Sequence[Result]) -> float | None:
    """The median of the bytes of memory where they are known; None where they are not."""
    known = [result.memory_bytes for result in results if result.memory_bytes is not None]
    return median(known) if known else None


def tag(results: Sequence[Result], name: str) -> Tag:
    """A tag of some results; `length_tokens` and `depth` of many values are put in classes."""
    values = {_value(result.tags[name]) for result in results if result.tags.get(name) is not None}
    numbers = sorted(value for value in values if isinstance(value, float))
    if len(numbers) == len(values):
        return Tag(name, _numbers(name, numbers))
    return Tag(name, {value: Column(str(value)) for value in values})


def tags(results: Sequence[Result]) -> list[Tag]:
    """All tags, by their names."""
    names = {name for result in results for name, value in result.tags.items() if value is not None}
    return [tag(results, name) for name in sorted(names)]


def classes(results: Sequence[Result]) -> list[Tag]:
    """The tags that put questions into classes: with a few short values, and several questions for each."""
    found = []
    for each in tags(results):
        questions = {result.content for result in results if result.tags.get(each.name) is not None}
        short = all(len(column.name) <= MOST_CHARACTERS for column in each.columns)
        if short and len(each.columns) <= MOST_VALUES and len(questions) >= GROUP * len(each.columns):
            found.append(each)
    return found


def _value(value: Any) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _numbers(tag: str, values: Sequence[float]) -> dict[float | str, Column]:
    """The column of each number of a tag."""
    if tag == LENGTH:
        return _lengths(values)
    if tag == "depth" and len(values) > MOST_VALUES:
        tenths = {value: round(10 * value) / 10 for value in values}
        return {value: Column(text.number(tenth), tenth) for value, tenth in tenths.items()}
    return {value: Column(f"{value:.10g}", value) for value in values}


def _lengths(values: Sequence[float]) -> dict[float | str, Column]:
    """Lengths that are nearly the same become one; of more than MOST_VALUES the nearest powers of two."""
    longest: dict[float, float] = {}  # the first of each class -> its longest
    first_of: dict[float, float] = {}
    first = 0.0
    for value in values:
        if value > first * SAME_LENGTH:
            first = value
        first_of[value], longest[first] = first, value
    if len(longest) <= MOST_VALUES:
        columns = {value: longest[first] for value, first in first_of.items()}
    else:
        columns = {value: 2.0 ** round(math.log2(value)) if value >= 1 else 0.0 for value in values}
    return {value: Column(text.tokens(length), length) for value, length in columns.items()}
