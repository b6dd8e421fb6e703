"""Sentences with exact offsets: what a model may point at and what a quote is cut from.

Spans are trimmed of white space, in order, without overlap, and together they hold every other character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

Span = tuple[int, int]

# A longer sentence is divided at a semicolon or comma, so that a quote stays a quote.
LONG_CHARS = 600
# After these a full stop ends no sentence: something must follow.
_TITLES = frozenset((
    "mr", "mrs", "ms", "messrs", "mme", "mlle", "dr", "prof", "rev", "hon", "st", "ste", "mt", "ft", "gen", "col",
    "capt", "lieut", "lt", "sgt", "maj", "cmdr", "gov", "sen", "rep", "pres", "supt", "vs", "viz", "cf", "eg", "ie",
    "ca", "approx", "eds", "trans", "dept",
))  # fmt: skip
# After these it ends none where a number or a single letter follows.
_BEFORE_NUMBER = frozenset((
    "no", "nos", "vol", "vols", "ch", "chap", "sec", "fig", "figs", "eq", "eqs", "art", "p", "pp", "op", "ed",
))  # fmt: skip
# After these, initials and letters with stops (U.S., p.m.) it ends one where the next word often begins one.
_MAY_END = frozenset((
    "etc", "al", "inc", "ltd", "co", "corp", "jr", "sr", "esq", "ave", "blvd", "rd",
    "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
))  # fmt: skip
_STARTERS = frozenset((
    "the", "a", "an", "it", "he", "she", "they", "we", "you", "this", "that", "these", "those", "there", "in", "on",
    "at", "by", "for", "from", "to", "with", "but", "and", "or", "so", "if", "when", "while", "as", "after", "before",
    "his", "her", "its", "their", "our", "my", "no", "not", "what", "who", "why", "how", "where", "however", "then",
    "all", "some", "many", "most", "such", "since", "because", "although", "though", "once", "now", "here", "yes",
))  # fmt: skip
_ENDINGS = ".!?…。！？\"'”’»)]"
_OPENING = "\"'\u201c\u2018\u00ab\u2039([{*_\u2014- \t\n"
# Where a sentence may end: a mark with its closing quotes and note numbers before white space, or a CJK mark
# anywhere. The look-behind lets a run of marks be tried once, not from each of its marks.
_MARKS = ".!?\u2026\u203d\u061f\u06d4\u0964"
_END = re.compile(
    rf"(?<![{_MARKS}])(?P<mark>[{_MARKS}]++)(?:[\"'\u201d\u2019\u00bb\u203a)\]}}*_]|\[\d{{1,3}}\])*+(?=\s|$)"
    r"|[\u3002\uff01\uff1f\uff61]++[\u300d\u300f\u201d\u2019\uff09\u3011\u300b\"')]*+"
)
_BLOCK_BREAK = re.compile(r"\n[ \t\r\v]*+\n\s*+|[\f\u2029]\s*+")
# A line that begins a unit of its own: a list item, a Markdown heading or quote, a table row, a verse.
_NEW_UNIT = re.compile(
    r"[ \t]*(?:[-*+\u2022\u25e6\u2023\u00b7][ \t]+\S|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})\)[ \t]+\S|\d{1,3}\.[ \t]+\S"
    r"|#{1,6}[ \t]|[>|]|[^|\n]* \| |(?:[1-3]?[ \t]?[A-Z][a-z]+[ \t]+)?\d{1,3}:\d{1,3}[ \t]+[^a-z\s])"
)
_VERSE = re.compile(r"[ \t]*\d{1,3}:\d{1,3}[ \t]")
_VERSE_ENDS = frozenset(".,;:!?)]\"'\u201d\u2019")
_LAST_WORD = re.compile(r"[^\s(\[{\"'\u201c\u2018\u2014]*$")
_FIRST_WORD = re.compile(r"\w*")
# A line shorter than this share of the longest in its block, even with the next word, was ended on purpose.
_SHORT_LINE_RATIO = 0.6
# What divides the cells of a table's rows, and how often each stands in a line of prose with no space behind it.
_CELL_SIGNS = (("\t", 0), (";", 0), ("|", 0), (",", 1))
_SOFT_BREAKS = tuple(map(re.compile, (r";(?=\s)|\uff1b", r"[,:](?=\s)|[\uff0c\u3001]", r"(?<=\S)(?=\s)")))


def sentence_spans(text: str, start: int = 0) -> list[Span]:
    """The sentences of `text` as (start, end) pairs, shifted by `start`.

    Blank lines, list items, headings, verse numbers and table rows (lines of as many cells as the one before)
    divide, and line ends far short of the right margin; other single newlines do not (hard-wrapped prose), nor do
    abbreviations, initials and decimals. A sentence longer than `LONG_CHARS` is divided at a semicolon, a comma, a
    space, or anywhere.
    """
    spans: list[Span] = []
    position = 0
    for end, resume in [*(match.span() for match in _BLOCK_BREAK.finditer(text)), (len(text), len(text))]:
        for unit in _units(text, position, end):
            for sentence in _sentences(text, *unit):
                spans += _shorten(text, *sentence)
        position = resume
    return [(start + a, start + b) for a, b in spans]


def whole_sentences(text: str, cut: bool) -> str:
    """A text that a model wrote, no sentence twice (small models go round in circles).

    Of one that was `cut`, up to its last whole sentence, where it has one.
    """
    spans = sentence_spans(text)
    if cut:  # a long sentence has several spans: the last that ends one counts, or all but the last
        ended = [number for number, (_, end) in enumerate(spans, 1) if text[end - 1] in _ENDINGS]
        spans = spans[: ended[-1] if ended else max(1, len(spans) - 1)]
    said = [text[start:end] for start, end in spans]
    once = list(dict.fromkeys(said))
    if len(once) < len(said):
        return " ".join(once)
    return text[: spans[-1][1]] if spans else text


def line_spans(text: str, start: int = 0) -> list[Span]:
    """The lines of source code that are not blank, trimmed, as (start, end) pairs shifted by `start`."""
    spans: list[Span] = []
    position = 0
    for line in text.split("\n"):
        spans += [
            piece for trimmed in _trim(text, position, position + len(line)) for piece in _shorten(text, *trimmed)
        ]
        position += len(line) + 1
    return [(start + a, start + b) for a, b in spans]


def _trim(text: str, start: int, end: int) -> list[Span]:
    """The span without white space at its ends: one span, or none where nothing is left."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return [(start + left, start + right)] if left < right else []


def _units(text: str, start: int, end: int) -> Iterator[Span]:
    """A block without blank lines, divided before and after lines that stand for themselves."""
    lines: list[Span] = []
    position = start
    while position <= end:
        newline = text.find("\n", position, end)
        line_end = newline if newline != -1 else end
        lines.append((position, line_end))
        position = line_end + 1
    width = max(line_end - line_start for line_start, line_end in lines)
    unit_start = start
    for before, line in pairwise(lines):
        if _divides(text, before, line, width):
            yield unit_start, before[1]
            unit_start = line[0]
    yield unit_start, end


def _divides(text: str, before: Span, line: Span, width: int) -> bool:
    """Whether the newline between two lines of a block whose longest line has `width` characters is a boundary."""
    if _NEW_UNIT.match(text, *line) or text.startswith("#", before[0]):
        return True
    if _VERSE.match(text, *line) and text[before[0] : before[1]].rstrip()[-1:] in _VERSE_ENDS:
        return True
    if any(_cells(text, line, sign) == count > least for sign, least, count in _row(text, before)):
        return True
    following = text[line[0] : line[0] + 80].split(maxsplit=1)
    if not following or following[0][:1].islower():
        return False
    return before[1] - before[0] + 1 + len(following[0]) < _SHORT_LINE_RATIO * width


def _row(text: str, line: Span) -> list[tuple[str, int, int]]:
    """What may divide the cells of a line: each sign, how often it may stand in prose, and how often it does here."""
    return [(sign, least, _cells(text, line, sign)) for sign, least in _CELL_SIGNS if sign in text[line[0] : line[1]]]


def _cells(text: str, line: Span, sign: str) -> int:
    """How often a sign stands in a line with no white space beside it."""
    shown = text[line[0] : line[1]].strip()
    return shown.count(sign) - shown.count(f"{sign} ") - shown.endswith(sign)


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    position = start
    for match in _END.finditer(text, start, end):
        if match["mark"] is None or _ends_sentence(text, position, match, end):
            yield from _trim(text, position, match.end())
            position = match.end()
    yield from _trim(text, position, end)


def _ends_sentence(text: str, start: int, match: re.Match[str], end: int) -> bool:
    """Whether a mark that white space follows really ends the sentence that began at `start`."""
    following = text[match.end() : min(match.end() + 40, end)].lstrip(_OPENING)
    first = following[:1]
    if first.islower():
        return False  # "etc. and", "he said!" she cried, an ellipsis that goes on
    if match["mark"] != ".":
        return True
    found = _LAST_WORD.search(text, max(start, match.start() - 30), match.start())
    last = found[0] if found else ""
    numbers = last.isdigit() or (last.isalpha() and (len(last) == 1 or set(last) <= set("IVXivx")))
    if numbers and not text[start : match.start() - len(last)].strip(_OPENING):
        return False  # the number of a list item
    bare = last.lower()
    next_word = _FIRST_WORD.match(following)
    word = next_word[0] if next_word else ""
    if bare in _TITLES:
        return False
    if bare in _BEFORE_NUMBER:
        return not (word.isdigit() or len(word) == 1 or (word.isupper() and set(word) <= set("IVXLC")))
    letters = last.split(".")
    initials = all(len(part) == 1 and part.isalpha() for part in letters) and (len(letters) > 1 or last.isupper())
    if bare in _MAY_END or (initials and last != "I"):
        return not word or word.lower() in _STARTERS
    return True


def _shorten(text: str, start: int, end: int) -> Iterator[Span]:
    """A span in pieces of at most `LONG_CHARS` characters."""
    while end - start > LONG_CHARS:
        cut = start + LONG_CHARS
        for pattern in _SOFT_BREAKS:
            ends = [match.end() for match in pattern.finditer(text, start + LONG_CHARS // 4, start + LONG_CHARS)]
            if ends:
                cut = ends[-1]
                break
        yield from _trim(text, start, cut)
        start = next((begin for begin, _ in _trim(text, cut, min(cut + LONG_CHARS, end))), min(cut + LONG_CHARS, end))
    yield from _trim(text, start, end)
