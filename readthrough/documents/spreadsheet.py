"""The cells of an Excel sheet: read row by row, each value as a person sees it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from readthrough.documents.office import tag
from readthrough.documents.reading import without_surrogates
from readthrough.errors import DocumentError

if TYPE_CHECKING:
    from lxml.etree import _Element

# The built-in formats of dates and times, those of East Asia among them; 45 to 47 are times that pass.
DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
PERCENT_FORMATS = frozenset((9, 10))
SIGNIFICANT_DIGITS = 15
LAST_DAYS = 2_957_000
"""More days than this reach beyond the year 9999, counted from 1904 as some workbooks do."""
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)
_DATE_LETTER = re.compile(r"[ymdhs]", re.IGNORECASE)
_PASSED = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_COLUMN = re.compile(r"[A-Z]+")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that is not empty: its text on one line, and whether it was entered as text."""

    text: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its number in the sheet (from 1), and the cells that are not empty by their column (from 1)."""

    number: int
    cells: dict[int, Cell]


@dataclass(frozen=True, slots=True)
class Formats:
    """How numbers are shown, by the style of their cells: `date`, `passed` (time), `percent` or nothing."""

    kinds: tuple[str, ...]
    from_1904: bool

    @classmethod
    def read(cls, styles: _Element | None, from_1904: bool) -> Formats:
        """The formats of a workbook's styles."""
        if styles is None:
            return cls((), from_1904)
        codes = {node.get("numFmtId"): node.get("formatCode", "") for node in styles.iterfind("{*}numFmts/{*}numFmt")}
        used = [node.get("numFmtId", "0") for node in styles.iterfind("{*}cellXfs/{*}xf")]
        return cls(tuple(_kind(number, codes.get(number)) for number in used), from_1904)

    def number(self, text: str, style: str) -> str:
        """A number as it is shown: dates and times as ISO 8601 writes them, no digits that were not entered."""
        value = float(text)
        kind = self.kinds[int(style)] if style.isdecimal() and int(style) < len(self.kinds) else ""
        if kind == "passed":
            return _clock(value)
        if kind == "date" and 0 <= value < LAST_DAYS:
            return _date(value, self.from_1904)
        if kind == "percent":
            return f"{value * 100:.{SIGNIFICANT_DIGITS}g}%"
        return f"{value:.{SIGNIFICANT_DIGITS}g}" if abs(value) < 1e15 else text


def read_strings(data: bytes, name: str) -> list[str]:
    """The strings that cells name by their number.

    Raises:
        DocumentError: the XML is broken.
    """
    return [_words(item) for item in _elements(data, "si", name)]


def read_rows(data: bytes, name: str, strings: Sequence[str], formats: Formats) -> Iterator[Row]:
    """The rows of a sheet that are not empty, one at a time.

    Raises:
        DocumentError: the XML is broken, or a cell is.
    """
    number = 0
    for node in _elements(data, "row", name):
        given = node.get("r", "")
        number = int(given) if given.isdecimal() else number + 1
        cells: dict[int, Cell] = {}
        column = 0
        for item in node:
            column = _column(item.get("r", "")) or column + 1
            try:
                cell = _cell(item, strings, formats)
            except (ValueError, IndexError, OverflowError) as error:
                place = item.get("r") or f"row {number}"
                raise DocumentError(f"broken XLSX: the cell {place} cannot be read: {error}", path=name) from error
            if cell is not None:
                cells[column] = cell
        if cells:
            yield Row(number, cells)


def _elements(data: bytes, wanted: str, name: str) -> Iterator[_Element]:
    """The elements of one name, each forgotten before the next; entities, DTD and network as in `archive.parse_xml`."""
    from lxml import etree

    guarded: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
    try:
        for _, node in etree.iterparse(io.BytesIO(data), events=("end",), tag=f"{{*}}{wanted}", **guarded):
            yield node
            node.clear()
            while node.getprevious() is not None:
                del node.getparent()[0]
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DocumentError(f"broken XML: {error}", path=name) from error


def _cell(node: _Element, strings: Sequence[str], formats: Formats) -> Cell | None:
    """A cell; None where it is empty."""
    kind, value = node.get("t", "n"), node.findtext("{*}v")
    if kind == "inlineStr":
        value = "".join(_words(inner) for inner in node.iterfind("{*}is"))
    elif not value:  # perhaps a formula whose result was never kept
        formula = node.findtext("{*}f")
        return Cell(f"={' '.join(formula.split())}", False) if formula else None
    elif kind == "s":
        value = strings[int(value)]
    elif kind == "b":
        return Cell("TRUE" if value.strip() == "1" else "FALSE", False)
    elif kind == "n":
        return Cell(formats.number(value, node.get("s", "0")), False)
    text = " ".join(value.split())
    return Cell(text, kind in ("s", "str", "inlineStr")) if text else None


def _words(node: _Element) -> str:
    """The text of a string without the readings that stand above it; `_x000D_` stands for a character."""
    parts: list[str] = []
    for inner in node:
        if tag(inner) == "t":
            parts.append(inner.text or "")
        elif tag(inner) == "r":
            parts += [text.text or "" for text in inner.iterfind("{*}t")]
    return without_surrogates(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), "".join(parts)))


def _column(reference: str) -> int:
    """The column of a cell (from 1) by its reference, such as `AB12`; 0 where there is none."""
    letters = _COLUMN.match(reference)
    number = 0
    for letter in letters[0] if letters else "":
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _kind(number: str, code: str | None) -> str:
    """What a format makes of a number."""
    if code is None:
        value = int(number) if number.isdecimal() else 0
        if value == 46:
            return "passed"
        return "date" if value in DATE_FORMATS else "percent" if value in PERCENT_FORMATS else ""
    bare = _LITERAL.sub("", code.partition(";")[0])
    if _PASSED.search(bare):
        return "passed"
    if _DATE_LETTER.search(bare) and "general" not in bare.lower():
        return "date"
    return "percent" if "%" in bare else ""


def _date(value: float, from_1904: bool) -> str:
    """A count of days as a date, a time, or both."""
    # Excel believes that there was a 29th of February in 1900.
    start = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 31 if value < 60 else 30)
    moment = start + timedelta(seconds=round(value * 86_400))
    clock = f"{moment:%H:%M:%S}".removesuffix(":00")
    if value < 1:
        return clock
    day = moment.date().isoformat()
    return day if clock == "00:00" else f"{day} {clock}"


def _clock(days: float) -> str:
    """A length of time as hours, minutes and seconds."""
    minutes, seconds = divmod(round(abs(days) * 86_400), 60)
    return f"{'-' if days < 0 else ''}{minutes // 60}:{minutes % 60:02}:{seconds:02}"
