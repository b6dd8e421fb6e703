"""Positions in a document, as a reader names them, and the document up to one: `chapter 12`, `p. 120`, `40%`.

A position that has an extent (a page, a line, a section with its subsections) is read to its end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from difflib import get_close_matches

from readthrough.errors import InputError, UsageError
from readthrough.types import Document, Section

FORMS = "`chapter 12`, `p. 120`, `line 410`, `40%` or `character 52000`"

_COUNTED = {
    "page": re.compile(r"(?:page|pages|pg\.?|pp?\.?)\s*(\d+)", re.IGNORECASE),
    "line": re.compile(r"(?:line|l\.)\s*(\d+)", re.IGNORECASE),
    "percent": re.compile(r"(\d+(?:\.\d+)?)\s*%"),
    "character": re.compile(r"(?:characters?|chars?\.?|offset)\s*(\d+)", re.IGNORECASE),
}
_ROMAN = re.compile(r"(?=[ivxlc])(?:c{0,3})(?:x[cl]|l?x{0,3})(?:i[xv]|v?i{0,3})")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_ONES = "one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(f"{_ONES}|{_TEENS}".split("|"), 1)}
_WORDS |= {word: 10 * tens for tens, word in enumerate(_TENS, 2)}
_JOINED = re.compile(r"[\s\u2010\u2011-]+")
_KINDS = frozenset(("volume", "book", "part", "act", "chapter", "canto", "stave", "letter", "scene", "section"))
_SHOWN = 3

Heading = tuple[str, ...]
"""A heading's words, numbers as digits."""


def split_name(position: str, names: Sequence[str]) -> tuple[str | None, str]:
    """`book.txt: chapter 12` as the name, one of `names`, and the position in it; None where none is named."""
    for colon in re.finditer(":", position):
        name = position[: colon.start()].strip()
        if name in names:
            return name, position[colon.end() :].strip()
    return None, position


def end_of(document: Document, position: str) -> int:
    """The place behind the last character that belongs to a position and what is before it.

    Raises:
        UsageError: it is no position.
        InputError: the document has no such place, or nothing up to it.
    """
    text = position.strip()
    found = ((kind, form.fullmatch(text)) for kind, form in _COUNTED.items())
    kind, number = next(((kind, match[1]) for kind, match in found if match), ("section", text))
    end = _FINDERS[kind](document, number)
    if not document.text[:end].strip():
        raise InputError(f"there is no text up to {position!r}", path=document.path, hint=f"a position is {FORMS}")
    return end


def up_to(document: Document, end: int) -> Document:
    """The document as it would be if it ended at the place `end`. Its id names its content, not the whole's.

    A section whose heading is not read to its end is left out: its title would tell the rest.
    """
    pages = tuple(replace(page, end=min(page.end, end)) for page in document.pages if page.start < end)
    begun = [each for each in document.sections if each.start < end and _heading_is_read(document, each, end)]
    sections = tuple(replace(each, end=min(each.end, end)) for each in begun)
    cut = replace(document, text=document.text[:end], pages=pages, sections=sections)
    places = [[astuple(page) for page in pages], [astuple(each) for each in sections], cut.kind, cut.language]
    content = f"{json.dumps(places)}\0{cut.text}".encode("utf-8", "surrogatepass")
    return replace(cut, id=hashlib.sha256(content).hexdigest())


def _heading_is_read(document: Document, section: Section, end: int) -> bool:
    words, read = (
        re.findall(r"\w+", text.casefold()) for text in (section.path[-1], document.text[section.start : end])
    )
    return section.end <= end or set(words) <= set(read)


def _character(document: Document, number: str) -> int:
    if not 0 < int(number) <= len(document.text):
        raise InputError(f"there is no character {number}", path=document.path, hint=f"it has {len(document.text):,}")
    return int(number)


def _percent(document: Document, number: str) -> int:
    if not 0 < float(number) <= 100:
        raise UsageError(f"{number}%: a part of a document is above 0% and at most 100%")
    return int(len(document.text) * float(number) / 100)


def _line(document: Document, number: str) -> int:
    lines = document.line_at(len(document.text))
    if not 1 <= int(number) <= lines:
        raise InputError(f"there is no line {number}", path=document.path, hint=f"it has {lines:,} lines")
    return document.span_of_lines(int(number), int(number))[1]


def _page(document: Document, number: str) -> int:
    if not document.pages:
        raise InputError("the document has no pages", path=document.path, hint="name a section, a line or a percentage")
    for page in document.pages:
        if page.number == int(number):
            return page.end
    first, last = document.pages[0].number, document.pages[-1].number
    raise InputError(f"there is no page {number}", path=document.path, hint=f"it has the pages {first} to {last}")


def _section(document: Document, wanted: str) -> int:
    """The end of the section, with its subsections, that `wanted` names: words of its heading, `Part II > Chapter 3`.

    The better match wins: the whole heading, its beginning, words within it; of a chapter's number, the beginning of a
    heading, or the number without the word. What names several sections as well is refused.
    """
    if wanted.isdecimal() and not document.sections:
        raise UsageError(f"{wanted!r} of what?", path=document.path, hint=f"a position is {FORMS}")
    path = [_words(part) for part in wanted.split(">")]
    if not all(path):
        raise UsageError(f"{wanted!r} is no position", path=document.path, hint=f"a position is {FORMS}")
    of_number = len(path[-1]) == 2 and path[-1][0] in _KINDS and path[-1][1].isdecimal()
    for fits in (_begins, _numbered, _holds) if of_number else (_same, _begins, _holds):
        found = [number for number, each in enumerate(document.sections) if _names(each, path, fits)]
        if len(found) > 1:
            raise _ambiguous(document, wanted, found)
        if found:
            return _whole_end(document.sections, found[0])
    raise _unknown(document, wanted)


def _names(section: Section, path: Sequence[Heading], fits: Callable[[Heading, Heading], bool]) -> bool:
    """Whether the last heading of a section fits, and those above it hold what is wanted of them, in order."""
    headings = [_words(name) for name in section.path]
    if not fits(headings[-1], path[-1]):
        return False
    above = iter(headings[:-1])
    return all(any(_holds(heading, part) for heading in above) for part in path[:-1])


def _same(heading: Heading, wanted: Heading) -> bool:
    return heading == wanted


def _begins(heading: Heading, wanted: Heading) -> bool:
    return heading[: len(wanted)] == wanted


def _numbered(heading: Heading, wanted: Heading) -> bool:
    """`chapter 12` for a heading `XII` or `12. The storm`."""
    return heading[:1] == wanted[1:]


def _holds(heading: Heading, wanted: Heading) -> bool:
    return any(heading[start : start + len(wanted)] == wanted for start in range(len(heading)))


def _words(heading: str) -> Heading:
    """The words of a heading; a number at its beginning, or behind a word such as chapter, in digits."""
    found: list[str] = []
    text, tens_end = heading.casefold(), None
    for match in re.finditer(r"\w+", text):
        word = match[0]
        number = _number(word) if not found or found[-1] in _KINDS or word in _WORDS else None
        joined = tens_end is not None and _JOINED.fullmatch(text, tens_end, match.start())
        if joined and 0 < _WORDS.get(word, 0) < 10:  # twenty-one
            found[-1] = str(int(found[-1]) + _WORDS[word])
        else:
            found.append(word if number is None else str(number))
        tens_end = match.end() if word in _TENS else None
    return tuple(found)


def _number(word: str) -> int | None:
    if word.isdecimal():
        return int(word)
    if word in _WORDS:
        return _WORDS[word]
    if not _ROMAN.fullmatch(word):
        return None
    values = [_ROMAN_VALUES[letter] for letter in word]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _whole_end(sections: Sequence[Section], number: int) -> int:
    path, end = sections[number].path, sections[number].end
    for each in sections[number + 1 :]:
        if each.path[: len(path)] != path or len(each.path) == len(path):
            break
        end = max(end, each.end)
    return end


def _ambiguous(document: Document, wanted: str, found: Sequence[int]) -> InputError:
    places = [f"{document.sections[n].title!r} (line {document.line_at(document.sections[n].start)})" for n in found]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return InputError(
        f"{wanted!r} names {len(found)} sections: {', '.join(places[:_SHOWN])}{more}",
        path=document.path,
        hint="write more of its headings, as `Part II > Chapter 3`, or a line",
    )


def _unknown(document: Document, wanted: str) -> InputError:
    if not document.sections:
        hint = "it has no sections that could be told: name a page, a line or a percentage"
        return InputError(f"there is no section {wanted!r}", path=document.path, hint=hint)
    names = {" ".join(_words(each.path[-1])): each.title for each in document.sections}
    near = [names[name] for name in get_close_matches(" ".join(_words(wanted)), list(names), n=_SHOWN)]
    first, last = document.sections[0].title, document.sections[-1].title
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"its sections are {first!r} to {last!r}"
    return InputError(f"there is no section {wanted!r}", path=document.path, hint=hint)


_FINDERS: dict[str, Callable[[Document, str], int]] = {
    "page": _page,
    "line": _line,
    "percent": _percent,
    "character": _character,
    "section": _section,
}
