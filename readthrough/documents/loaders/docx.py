"""Word documents (DOCX): paragraphs and tables in reading order, headings as sections, notes at the end.

The XML is walked directly: python-docx passes over content controls, text boxes, tracked insertions and notes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.office import attribute, main_part, open_office, tag
from readthrough.documents.reading import FileLoader, Heading, fingerprint, sections_from
from readthrough.errors import DocumentError
from readthrough.types import Document

if TYPE_CHECKING:
    from lxml.etree import _Element

MAIN_PART = "word/document.xml"
NOTES = (("footnotes", "Footnotes"), ("endnotes", "Endnotes"))
CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": "\u00ad"}
# Deleted text, and the older form of a drawing of which the newer one is read.
HIDDEN = frozenset(("del", "moveFrom", "Fallback", "instrText", "delText"))
_HEADING_STYLE = re.compile(r"heading ([1-9])$", re.IGNORECASE)


class DocxLoader(FileLoader):
    """Reads DOCX files; table cells are separated by ` | `."""

    suffixes = (".docx", ".docm")
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data, archive = open_office(path, name, self.limits)
        main = main_part(archive, MAIN_PART, name)
        body = parse_xml(archive.read(main), name).find("{*}body")
        if body is None:
            raise DocumentError("broken DOCX: the document has no body", path=name)
        folder = posixpath.dirname(main)
        writer = _Writer(_heading_levels(archive, f"{folder}/styles.xml", name))
        writer.blocks(body)
        for part, title in NOTES:
            entry = f"{folder}/{part}.xml"
            if entry in archive:
                writer.notes(parse_xml(archive.read(entry), name), title)
        text = "\n".join(writer.lines)
        if not text.strip():
            raise DocumentError("no text in it", path=name)
        return Document(fingerprint(data), name, text, "docx", sections=sections_from(writer.headings, len(text)))


class _Writer:
    """Collects the lines of a document and where its headings stand."""

    def __init__(self, heading_levels: dict[str, int]) -> None:
        self.lines: list[str] = []
        self.headings: list[Heading] = []
        self._chars = 0
        self._heading_levels = heading_levels

    def blocks(self, parent: _Element) -> None:
        """Write the paragraphs and tables below `parent`, through content controls and the like."""
        for child in parent:
            kind = tag(child)
            if kind == "p":
                self._paragraph(child)
            elif kind == "tbl":
                for row in _children(child, "tr"):
                    self._line(" | ".join(_cell(cell) for cell in _children(row, "tc")))
                self._line("")
            elif kind not in HIDDEN:
                self.blocks(child)

    def notes(self, root: _Element, title: str) -> None:
        """Write footnotes or endnotes, if there are any besides the separators that every file has."""
        notes = [note for note in root if note.get(attribute(note, "type")) in (None, "normal")]
        if notes:
            self.headings.append(Heading(self._chars, 1, title))
            self._line(title)
        for note in notes:
            self.blocks(note)

    def _paragraph(self, paragraph: _Element) -> None:
        text = _text(paragraph)
        level = self._level(paragraph)
        if level is not None and text.strip():
            self.headings.append(Heading(self._chars, level, " ".join(text.split())))
        self._line(text)
        if text.strip():
            self._line("")

    def _level(self, paragraph: _Element) -> int | None:
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return None
        outline, style = properties.find("{*}outlineLvl"), properties.find("{*}pStyle")
        if outline is not None:
            return _outline_level(outline)
        return self._heading_levels.get(_value(style)) if style is not None else None

    def _line(self, text: str) -> None:
        self.lines.append(text)
        self._chars += len(text) + 1


def _heading_levels(archive: Archive, entry: str, name: str) -> dict[str, int]:
    """Heading levels by style id: from the style's outline level, its built-in name, or the style it is based on."""
    if entry not in archive:
        return {}
    styles = {style.get(attribute(style, "styleId"), ""): style for style in parse_xml(archive.read(entry), name)}
    levels: dict[str, int] = {}
    for style_id in styles:
        seen: list[str] = []
        current = style_id
        while current in styles and current not in seen:
            seen.append(current)
            level = _style_level(styles[current])
            if level is not None:
                levels[style_id] = level
                break
            base = styles[current].find("{*}basedOn")
            current = _value(base) if base is not None else ""
    return levels


def _style_level(style: _Element) -> int | None:
    label = style.find("{*}name")
    label_text = _value(label) if label is not None else ""
    match = _HEADING_STYLE.match(label_text)
    if match:
        return int(match[1])
    if label_text.lower() == "title":
        return 1
    outline = style.find("{*}pPr/{*}outlineLvl")
    return _outline_level(outline) if outline is not None else None


def _outline_level(outline: _Element) -> int | None:
    value = _value(outline)
    return int(value) + 1 if value.isdigit() and int(value) < 9 else None


def _cell(cell: _Element) -> str:
    """A cell's text on one line."""
    return " ".join(" ".join(_text(paragraph) for paragraph in _descendants(cell, "p")).split())


def _text(paragraph: _Element) -> str:
    """A paragraph's text, that of its text boxes after it."""
    own: list[str] = []
    boxes: list[str] = []
    stack = [iter(paragraph)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        kind = tag(node)
        if kind == "t":
            own.append(node.text or "")
        elif kind in CHARACTERS:
            own.append(CHARACTERS[kind])
        elif kind == "txbxContent":
            boxes += [_text(inner) for inner in _descendants(node, "p")]
        elif kind not in HIDDEN and kind != "pPr":
            stack.append(iter(node))
    return "\n".join(["".join(own), *(box for box in boxes if box.strip())])


def _descendants(parent: _Element, kind: str) -> Iterator[_Element]:
    """The nearest descendants named `kind`, not looking inside of them."""
    for child in parent:
        if tag(child) == kind:
            yield child
        elif tag(child) not in HIDDEN:
            yield from _descendants(child, kind)


def _children(parent: _Element, kind: str) -> Iterator[_Element]:
    """Children named `kind`, also those wrapped in a content control or a tracked change."""
    for child in parent:
        if tag(child) == kind:
            yield child
        elif tag(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _children(child, kind)


def _value(node: _Element) -> str:
    return str(node.get(attribute(node, "val"), ""))
