"""Where a value stands in a text, however it is written there: words, numbers (`1,200`, `1.2 million`), dates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date as Date
from functools import cached_property
from typing import Any

Place = tuple[int, int]

_SPACES = "'\u2019 \u00a0\u202f"
_DIGITS = re.compile(
    rf"(?<![^\W_a-zA-Z])(?<!\d[.,])(?:\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*)"
)
# With a point and grouping commas, or the other way round.
_FORMS = tuple(
    (re.compile(rf"(?P<whole>\d+|\d{{1,3}}(?:[{groups}{_SPACES}]\d{{3}})+)(?:[{point}](?P<rest>\d+))?"))
    for point, groups in (".,", ",.")
)
_SCALE = re.compile(
    r"\s?-?(hundred|thousand|million|billion|trillion|k|m|bn|%|percent|per cent)\b|\s?(%)", re.IGNORECASE
)
_SCALES = {
    "hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12,
    "%": 1e-2, "percent": 1e-2, "per cent": 1e-2,
}  # fmt: skip
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORD_VALUES = {word: number for number, word in enumerate(_UNITS)}
_WORD_VALUES |= {word: 10 * number for number, word in enumerate(_TENS, 2)}
_NUMBER_WORDS = re.compile(
    rf"\b(?:({'|'.join(_TENS)})(?:[- ]({'|'.join(_UNITS[1:10])}))?|({'|'.join(_UNITS)}))\b", re.IGNORECASE
)
_MINUS = "-−–("
_CLOSE = 1e-9
# A weekday, an article, a time of day.
_BESIDE_CHARACTERS = 16

_MONTHS = (
    "january jan januar jänner janvier janv enero ene",
    "february feb februar février févr febrero",
    "march mar märz mär mars marzo",
    "april apr avril avr abril abr",
    "may mai mayo",
    "june jun juni juin junio",
    "july jul juli juillet juil julio",
    "august aug août agosto ago",
    "september sep sept septembre septiembre",
    "october oct oktober okt octobre octubre",
    "november nov novembre noviembre",
    "december dec dezember dez décembre déc diciembre dic",
)
_MONTH_NUMBERS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
_MONTH = rf"(?P<name>{'|'.join(sorted(_MONTH_NUMBERS, key=len, reverse=True))})\b\.?"
_YEAR, _DAY = r"(?P<year>\d{4})", r"(?P<day>\d{1,2})"
_DATES = tuple(
    re.compile(rf"(?<!\d){form}(?!\d)", re.IGNORECASE)
    for form in (
        rf"{_YEAR}([-/.])(?P<month>\d{{1,2}})\2{_DAY}",
        rf"{_YEAR}\s*年\s*(?P<month>\d{{1,2}})\s*月\s*{_DAY}",
        rf"{_DAY}\.\s*(?P<either>\d{{1,2}})\.\s*{_YEAR}",
        rf"(?P<either>\d{{1,2}})([-/])\s?{_DAY}\2\s?{_YEAR}",
        rf"{_DAY}(?:\.|st|nd|rd|th|er)?\s+(?:day\s+of\s+|of\s+|de\s+)?{_MONTH},?\s+(?:de\s+|del\s+)?{_YEAR}",
        rf"\b{_MONTH}\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}",
    )
)


class Written:
    """A text in which values are looked for; its numbers and dates are found once."""

    def __init__(self, text: str) -> None:
        self._text = text

    def places(self, value: Any) -> list[Place]:
        """Where the text says `value`, a text or a number, as (start, end) pairs; empty where it does not."""
        if isinstance(value, int | float):
            try:
                wanted = float(value)
            except OverflowError:  # a model that wrote digits without end
                return []
            return [place for place, meant in self._numbers if any(_same(wanted, each) for each in meant)]
        found = _literal(value, self._text)
        days = () if found else date_of(value)
        return found or [place for place, meant in self._dates if not meant.isdisjoint(days)]

    @cached_property
    def _numbers(self) -> list[tuple[Place, set[float]]]:
        return list(numbers(self._text))

    @cached_property
    def _dates(self) -> list[tuple[Place, set[Date]]]:
        return [(place, set(days)) for place, days in dates(self._text)]


def date_of(value: str) -> tuple[Date, ...]:
    """The days that a text which is a date may mean, as `dates`; empty where it is none, or says much more."""
    found = [(start, end, days) for (start, end), days in dates(value)]
    if len(found) != 1 or len(value) - (found[0][1] - found[0][0]) > _BESIDE_CHARACTERS:
        return ()
    return found[0][2]


def numbers(text: str) -> Iterator[tuple[Place, set[float]]]:
    """The numbers of a text with all that each may mean: `1.200` is 1.2 or 1200, `3 million` also 3."""
    for match in _DIGITS.finditer(text):
        negative = text[max(0, match.start() - 2) : match.start()].strip("$€£¥ ")[-1:] in tuple(_MINUS)
        yield _scaled(text, match.span(), _meanings(match[0]), negative)
    for match in _NUMBER_WORDS.finditer(text):
        tens, unit, alone = (_WORD_VALUES.get((word or "").lower(), 0) for word in match.groups())
        yield _scaled(text, match.span(), {float(tens + unit + alone)}, negative=False)


def dates(text: str) -> Iterator[tuple[Place, tuple[Date, ...]]]:
    """The dates of a text with the days that each may mean, the likelier first.

    English, German, French, Spanish and Chinese; in `3/5/2024` the month stands first, or else the day, in `3.5.2024`
    the other way round.
    """
    for form in _DATES:
        for match in form.finditer(text):
            days = _days(match.groupdict())
            if days:
                yield match.span(), days


def _literal(value: str, text: str) -> list[Place]:
    """The value's words in their order, whatever white space and marks stand between them."""
    words = re.findall(r"[^\W_]+", value)
    if not words:
        return []
    found = _search(r"[\W_]{0,4}".join(map(re.escape, words)), text)
    code = "".join(words)
    if not found and len(code) > 4 and any(letter.isdigit() for letter in code):  # a number that is written in groups
        found = _search(r"[\W_]{0,2}".join(map(re.escape, code)), text)
    return found


def _search(pattern: str, text: str) -> list[Place]:
    return [match.span() for match in re.finditer(rf"(?<![^\W_]){pattern}(?![^\W_])", text, re.IGNORECASE)]


def _meanings(digits: str) -> set[float]:
    """What a run of digits and separators may mean."""
    matches = [match for form in _FORMS if (match := form.fullmatch(digits))]
    return {float(f"{re.sub(r'[^0-9]', '', match['whole'])}.{match['rest'] or 0}") for match in matches}


def _scaled(text: str, place: Place, meant: set[float], negative: bool) -> tuple[Place, set[float]]:
    scale = _SCALE.match(text, place[1])
    if scale:
        factor = _SCALES[(scale[1] or scale[2]).lower()]
        meant = meant | {value * factor for value in meant}
        place = (place[0], scale.end())
    return place, meant | {-value for value in meant} if negative else meant


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _CLOSE * max(1.0, abs(one), abs(other))


def _days(parts: dict[str, str | None]) -> tuple[Date, ...]:
    name, either = parts.get("name"), parts.get("either")
    month = _MONTH_NUMBERS[name.lower()] if name else int(parts.get("month") or either or 0)
    day = int(parts["day"] or 0)
    found: dict[Date, None] = {}
    for pair in [(month, day), (day, month)] if either else [(month, day)]:
        try:
            found[Date(int(parts["year"] or 0), *pair)] = None
        except ValueError:  # the 31st of April, or the day and month the other way round: no date
            continue
    return tuple(found)
