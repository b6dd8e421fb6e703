"""The answers of the database questions, computed again without SQL from the texts alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import mean

import pytest

from readthrough.errors import ConfigError
from readthrough.evaluation.base import Example
from readthrough.evaluation.languages import LANGUAGES, pack
from readthrough.evaluation.tasks.made.tables import HoloTables
from tests.made_tasks import check_examples, count_tokens, text_of, whole

KINDS = 10


@dataclass(frozen=True)
class Person:
    name: str
    department: str
    city: str
    salary: int
    year: int
    building: str


def people_of(example: Example) -> list[Person]:
    words = pack(example.tags["language"], "tables")
    homes, rows = {}, []
    for line in text_of(example).split("\n"):
        if home := whole(words["departments_text"], line):
            homes[home["department"]] = home["building"]
        else:
            (row,) = [found for template in words["staff"] if (found := whole(template, line))]
            rows.append(row)
    assert set(homes) == set(words["departments"])
    return [
        Person(r["name"], r["department"], r["city"], int(r["salary"]), int(r["year"]), homes[r["department"]])
        for r in rows
    ]


def answers_of(example: Example) -> set[str]:
    everyone = people_of(example)
    fields = whole(pack(example.tags["language"], "tables")["questions"][example.type], example.question)
    assert fields is not None, example.question
    asked = [
        one
        for one in everyone
        if all(getattr(one, name) == fields[name] for name in ("department", "city", "building") if name in fields)
    ]
    if example.type in ("filter", "join"):
        return {one.name for one in asked if one.salary >= int(fields["salary"])}
    if example.type in ("count", "join_count"):
        return {str(sum(one.year >= int(fields.get("year", 0)) for one in asked))}
    if example.type in ("highest", "lowest"):
        ends = {"highest": max, "lowest": min}
        return {one.name for one in asked if one.salary == ends[example.type](other.salary for other in asked)}
    if example.type == "sum":
        return {str(sum(one.salary for one in asked))}
    cities = Counter(one.city for one in asked)
    if example.type == "group":
        return {city for city, count in cities.items() if count == max(cities.values())}
    if example.type == "having":
        return {city for city, count in cities.items() if count >= int(fields["number"])}
    assert example.type == "average"
    means = {
        name: mean(p.salary for p in everyone if p.department == name) for name in {p.department for p in everyone}
    }
    return {name for name, salary in means.items() if salary == max(means.values())}


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_follow_from_the_text(language: str) -> None:
    examples = check_examples(HoloTables(tokens=1200, samples=2 * KINDS, language=language), least_ratio=0.85)
    assert len({example.type for example in examples}) == KINDS
    for example in examples:
        assert set(example.answers) == answers_of(example), example.question
        assert len(set(example.answers)) == len(example.answers)


def test_a_long_text() -> None:
    for example in check_examples(HoloTables(tokens=40_000, samples=KINDS), least_ratio=0.85):
        assert set(example.answers) == answers_of(example), example.question
        names = [person.name for person in people_of(example)]
        assert len(names) > 1500 and len(set(names)) == len(names)
        assert example.type not in ("filter", "join") or len(example.answers) <= 6


def test_a_join_stands_on_both_tables() -> None:
    examples = {example.type: example for example in HoloTables(tokens=2000, samples=KINDS).examples(count_tokens)}
    homes = pack("en", "tables")["departments_text"]
    assert any(whole(homes, line) for line in examples["join"].evidence)
    assert not any(whole(homes, line) for line in examples["filter"].evidence)
    assert examples["average"].tags["scope"] > 0.8 > examples["filter"].tags["scope"]


def test_a_text_too_short_for_two_tables() -> None:
    with pytest.raises(ConfigError, match="8 are needed"):
        list(HoloTables(tokens=260).examples(count_tokens))
    with pytest.raises(ConfigError, match="what is hidden has"):
        list(HoloTables(tokens=50).examples(count_tokens))
