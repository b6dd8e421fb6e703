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
    "scene": 3,
    "appendix": 3,
}
TITLE_CHARS = 80
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
)
# After the number the line ends, or goes on behind a mark or in capitals: "Chapter 3 of this book" is prose.
_HEADING = re.compile(
    rf"^[ \t]*(?P<word>{'|'.join(LEVELS)})[ \t]+(?:the[ \t]+)?"
    rf"(?:\d{{1,4}}|[ivxlcdm]{{1,9}}|[a-z]|(?:{_NUMBER_WORDS})(?:[- ](?:{_NUMBER_WORDS}))?)"
    r"(?:[ \t]*$|[ \t]*[.:\-\u2013\u2014]|[ \t]+(?-i:[A-Z])[^a-z\n]*$)",
    re.IGNORECASE | re.MULTILINE,
)


class TextLoader(FileLoader):
    """Reads plain text in any encoding."""

    suffixes = (".txt", ".text", ".log", ".rst", ".srt", ".vtt", ".tex", ".org", ".adoc", ".csv", ".tsv")

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        text, encoding = decode(data, name, self.encoding)
        sections = sections_from(find_headings(text), len(text))
        return Document(fingerprint(data), name, text, "text", sections=sections, encoding=encoding)


def find_headings(text: str) -> list[Heading]:
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
