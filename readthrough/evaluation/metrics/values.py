"""Scores of answers that are a number or a date: what they mean counts, not how they are written."""

from __future__ import annotations

import re
from datetime import date as Date

from readthrough.agents.reading.values import dates
from readthrough.evaluation.base import Example
from readthrough.evaluation.metrics.answers import best, normalise

# Not a part of a word, a version or a list without spaces; Chinese letters may stand beside it.
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![A-Za-z0-9_]|[.,]\d)")
_MARKS = str.maketrans("", "", "*[]")
_CREDIT_RATIO = 0.75


def number(answer: str, example: Example) -> float:
    """Oolong's score of a count: 0.75 to the power of how far off it is.

    The number is the one after the last colon, or the last word, or the only one that the answer names; an answer
    without one has 0. (Oolong's script knows the first two.)
    """
    return best(_number_score, answer, example)


def date(answer: str, example: Example) -> float:
    """1 where the answer names the gold date, written in whatever way, and no other.

    Dates are read as `readthrough.agents.reading.values.dates` reads them, the likelier day of each.
    """
    return best(_date_score, answer, example)


def _number_score(answer: str, gold: str) -> float:
    if answer.strip() == gold.strip():
        return 1.0
    said, wanted = _number(answer), _number(gold)
    if said is None or wanted is None:
        return 0.0
    return float(_CREDIT_RATIO ** abs(said - wanted))


def _number(text: str) -> float | None:
    plain = text.translate(_MARKS)
    after, last_word = plain.rpartition(":")[2], plain.split()[-1:]
    for part in (after, *last_word, plain):
        found = {float(number.replace(",", "")) for number in _NUMBER.findall(part)}
        if len(found) == 1:
            return found.pop()
    return None


def _date_score(answer: str, gold: str) -> float:
    wanted = _dates(gold)
    if not wanted:
        return float(normalise(answer) == normalise(gold))
    return float(_dates(answer) == wanted)


def _dates(text: str) -> set[Date]:
    return {days[0] for _, days in dates(text)}
