"""The answers of the Oolong tasks, computed again from the texts alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest

from readthrough.errors import ConfigError
from readthrough.evaluation.base import Example
from readthrough.evaluation.languages import LANGUAGES, pack
from readthrough.evaluation.tasks.made.aggregation import Aggregation, OolongClasses, OolongCount, OolongTime
from tests.made_tasks import check_examples, count_tokens, text_of, whole

TASKS = (OolongCount, OolongClasses, OolongTime)


@dataclass(frozen=True)
class Line:
    day: str
    user: str
    label: str


@cache
def labels_of_texts(language: str) -> dict[str, list[str]]:
    """The topics of each sentence that the pack can make."""
    found: dict[str, list[str]] = {}
    for label, words in pack(language, "aggregation")["labels"].items():
        for template, thing in product(words["texts"], words["things"]):
            found.setdefault(template.format(thing=thing), []).append(label)
    return found


def lines_of(example: Example) -> list[Line]:
    language = example.tags["language"]
    found = []
    for line in text_of(example).split("\n"):
        parts = whole(pack(language, "aggregation")["record"], line)
        assert parts, line
        (label,) = labels_of_texts(language)[parts["text"]]
        found.append(Line(parts["day"], parts["user"], label))
    return found


def top(values: list[str]) -> str:
    """The one value that is most frequent."""
    (first, count), *rest = Counter(values).most_common()
    assert not rest or rest[0][1] < count, "two are most frequent"
    return first


def answer_of(example: Example) -> str:
    lines = lines_of(example)
    words = pack(example.tags["language"], "aggregation")
    intro = words["intro"].format(labels=words["between"].join(words["labels"])) + words["join"]
    fields = whole(words["questions"][example.type], example.question.removeprefix(intro))
    assert fields is not None, example.question
    asked = [
        line
        for line in lines
        if line.label == fields.get("label", line.label) and line.user == fields.get("user", line.user)
    ]
    pair = (fields.get("first"), fields.get("second"))
    answers = {
        "label": lambda: str(len(asked)),
        "label_of_user": lambda: str(len(asked)),
        "users_of_label": lambda: str(len({line.user for line in asked})),
        "most": lambda: top([line.label for line in lines]),
        "least": lambda: Counter(line.label for line in lines).most_common()[-1][0],
        "more": lambda: top([line.label for line in lines if line.label in pair]),
        "most_of_user": lambda: top([line.label for line in asked]),
        "user": lambda: top([line.user for line in asked]),
        "day": lambda: top([line.day for line in asked]),
        "first": lambda: min(line.day for line in asked),
        "last_of_user": lambda: max(line.day for line in asked),
        "days": lambda: str(len({line.day for line in asked})),
        "between": lambda: str(sum(fields["start"] <= line.day <= fields["end"] for line in asked)),
        "month": lambda: top([line.day[:7] for line in asked]),
    }
    return answers[example.type]()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_answers_follow_from_the_text(task: type[Aggregation], language: str) -> None:
    examples = check_examples(task(tokens=1000, samples=12, language=language), least_ratio=0.85)
    assert len({example.type for example in examples}) == len(task.kinds)
    for example in examples:
        assert example.answers == (answer_of(example),), example.question


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_long_texts(task: type[Aggregation]) -> None:
    for example in check_examples(task(tokens=30_000, samples=2, users=20, days=400), least_ratio=0.85):
        assert example.answers == (answer_of(example),)
        assert example.tags["records"] > 1000


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_has_one_topic_which_it_does_not_name(language: str) -> None:
    for text, labels in labels_of_texts(language).items():
        assert len(labels) == 1, text
        named = labels[0] in text if language == "zh" else labels[0].lower() in re.findall(r"\w+", text.lower())
        assert not named, text


def test_what_must_be_read_is_told() -> None:
    count = {example.type: example for example in OolongCount(tokens=1500, samples=3).examples(count_tokens)}
    assert count["label"].tags["scope"] == count["label"].tags["diffusion"] == 1.0
    assert 0 < count["label_of_user"].tags["scope"] < 0.6
    lines = text_of(count["label"]).split("\n")
    assert len(count["label"].evidence) == int(count["label"].answers[0])
    assert set(count["label"].evidence) < set(lines)


def test_options_that_cannot_be_met() -> None:
    with pytest.raises(ConfigError, match="at least 12 are needed"):
        list(OolongCount(tokens=100).examples(count_tokens))
    with pytest.raises(ConfigError, match=r"oolong-time\.days = 1"):
        OolongTime(days=1)
    with pytest.raises(ConfigError, match="unknown language"):
        OolongTime(language="xx")
