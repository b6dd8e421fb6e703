"""Markdown: the text as it stands, with ATX and setext headings outside of code fences as sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from readthrough.documents.reading import FileLoader, Heading, decode, fingerprint, read_source, sections_from
from readthrough.types import Document

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
# A line that is a block of its own, so that a row of dashes below it is a rule and not its underline.
_BLOCK = re.compile(r" {0,3}(?:[-*+][ \t]|\d{1,9}[.)][ \t]|>|#{1,6}[ \t]|\||(?:[-*_][ \t]*){3,}$)|(?: {4}|\t)")


class MarkdownLoader(FileLoader):
    """Reads Markdown in any encoding."""

    suffixes = (".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd")

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        text, encoding = decode(data, name, self.encoding)
        sections = sections_from(find_headings(text), len(text))
        return Document(fingerprint(data), name, text, "markdown", sections=sections, encoding=encoding)


def find_headings(text: str) -> list[Heading]:
    """The headings of a Markdown text in order."""
    headings: list[Heading] = []
    before_start, before = 0, ""
    for start, line in _prose_lines(text):
        atx = _ATX.match(line)
        underline = _UNDERLINE.match(line)
        if atx and atx[2]:
            headings.append(Heading(start, len(atx[1]), atx[2].strip()))
        elif underline and before.strip() and not _BLOCK.match(before):
            headings.append(Heading(before_start, 1 if underline[1][0] == "=" else 2, before.strip()))
            before = ""
            continue
        before_start, before = start, line
    return headings


def _prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their offsets; lines of front matter and of code fences come as empty ones."""
    fence = ""
    start = 0
    front_matter = _front_matter_end(text)
    for line in text.split("\n"):
        opening = _FENCE.match(line)
        hidden = bool(fence) or opening is not None or start < front_matter
        if fence:
            if line.strip(" ").startswith(fence) and not line.strip(" \t").strip(fence[0]):
                fence = ""
        elif opening and start >= front_matter:
            fence = opening[1]
        yield start, "" if hidden else line
        start += len(line) + 1


def _front_matter_end(text: str) -> int:
    """Where a YAML block at the very start (between lines of `---`) ends; 0 where there is none."""
    if not text.startswith("---\n"):
        return 0
    end = text.find("\n---\n", 3)
    return end + 5 if end != -1 else 0
