"""Plain text, with the headings that books use: `CHAPTER IV`, `Part One`, `ACT II`, `SCENE 3`."""

from __future__ import annotations

import re
from pathlib import Path

from readthrough.documents.reading import FileLoader, Heading, decode, fingerprint, read_source, sections_from
from readthrough.types import Document

LEVELS = {
    "volume": 1,
    "book": 2,
    "part": 2,
    "act": 2,
    "chapter": 3,
    "canto": 3,
    "stave": 3,
    "letter": 3,
    "article": 3,
    "scene": 3,
    "appendix": 3,
}
NUMERAL_LEVEL = 4
LEAST_NUMERALS = 3
TITLE_CHARS = 80
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
)
# After the number the line ends, or goes on behind a mark or in capitals: "Chapter 3 of this book" is prose.
_HEADING = re.compile(
    rf"^[ \t]*(?P<word>{'|'.join(LEVELS)})[ \t]+(?:the[ \t]+)?"
    rf"(?:\d{{1,4}}|[ivxlcdm]{{1,9}}|[a-z]|(?:{_NUMBER_WORDS})(?:[- ](?:{_NUMBER_WORDS}))?)"
    r"(?:[ \t]*$|[ \t]*[.:\-\u2013\u2014]|[ \t]+(?-i:[A-Z][^a-z\n]*)$)",
    re.IGNORECASE | re.MULTILINE,
)
# Wiki text: == Heading ==, its level told by the number of signs.
_WIKI_HEADING = re.compile(r"^(={2,6})[ \t]+(\S.{0,160}?)[ \t]+\1[ \t]*$", re.MULTILINE)
_NUMERAL = re.compile(r"^[ \t]*(?=[IVXLC])(X[CL]|L?X{0,3})(I[XV]|V?I{0,3})\.?[ \t]*$", re.MULTILINE)
_NUMERAL_VALUES = {"": 0, "I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


class TextLoader(FileLoader):
    """Reads plain text in any encoding."""

    suffixes = (".txt", ".text", ".log", ".rst", ".srt", ".vtt", ".tex", ".org", ".adoc")

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        text, encoding = decode(data, name, self.encoding)
        sections = sections_from(find_headings(text), len(text))
        return Document(fingerprint(data), name, text, "text", sections=sections, encoding=encoding)


def find_headings(text: str) -> list[Heading]:
    """All headings in order: of chapters, of wiki text, and numerals alone that count up from I."""
    wiki = [Heading(match.start(), len(match[1]), match[2]) for match in _WIKI_HEADING.finditer(text)]
    return sorted([*_chapters(text), *wiki, *_numerals(text)], key=lambda heading: heading.start)


def _numerals(text: str) -> list[Heading]:
    """Roman numerals between blank lines, where at least `LEAST_NUMERALS` of them count up one by one from I."""
    found: list[Heading] = []
    expected = 1
    for match in _NUMERAL.finditer(text):
        value = _roman(match[1]) + _roman(match[2])
        end = match.end()
        before = text.rfind("\n", 0, max(match.start() - 1, 0)) + 1
        alone = _blank_line(text, before, match.start()) and _blank_line(text, end + 1, _line_end(text, end + 1))
        if alone and value in (expected, 1):
            found.append(Heading(match.start(), NUMERAL_LEVEL, match[0].strip()))
            expected = value + 1
    return found if len(found) >= LEAST_NUMERALS else []


def _roman(numeral: str) -> int:
    values = [_NUMERAL_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-a if a < b else a for a, b in zip(values, following, strict=False))


def _chapters(text: str) -> list[Heading]:
    """Chapter headings that stand alone: a blank line before, and after them or after their one line of title.

    Entries of a table of contents are left out: they stand line under line, or have no text below them.
    """
    found: list[tuple[Heading, int]] = []
    for match in _HEADING.finditer(text):
        start = match.start()
        end = _line_end(text, start)
        title = text[start:end].strip()
        if not _blank_line(text, text.rfind("\n", 0, max(start - 1, 0)) + 1, start):
            continue
        subtitle = text[end + 1 : _line_end(text, end + 1)].strip()
        if subtitle:
            end = _line_end(text, end + 1)
            title = f"{title} {subtitle}"
        if len(title) <= TITLE_CHARS and _blank_line(text, end + 1, _line_end(text, end + 1)):
            found.append((Heading(start, LEVELS[match["word"].lower()], title), end))
    following = [heading for heading, _ in found[1:]] + [None]
    pairs = zip(found, following[: len(found)], strict=True)
    return [heading for (heading, end), after in pairs if _holds(text, heading, end, after)]


def _holds(text: str, heading: Heading, end: int, after: Heading | None) -> bool:
    """Whether a heading that ends at `end` has text or a deeper heading below it."""
    return after is None or after.level > heading.level or bool(text[end : after.start].strip())


def _blank_line(text: str, start: int, end: int) -> bool:
    return not text[start:end].strip()


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end == -1 else end
