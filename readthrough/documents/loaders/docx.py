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
from readthrough.documents.reading import FileLoader, Heading, fingerprint, read_source, sections_from
from readthrough.errors import DocumentError
from readthrough.types import Document

if TYPE_CHECKING:
    from lxml.etree import _Element

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
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
        data = read_source(path, name, self.limits)
        if data.startswith(OLE_MAGIC):
            raise _ole_error(data, name)
        archive = Archive(data, name, self.limits)
        main = _main_part(archive, name)
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
            tag = _tag(child)
            if tag == "p":
                self._paragraph(child)
            elif tag == "tbl":
                for row in _children(child, "tr"):
                    self._line(" | ".join(_cell(cell) for cell in _children(row, "tc")))
                self._line("")
            elif tag not in HIDDEN:
                self.blocks(child)

    def notes(self, root: _Element, title: str) -> None:
        """Write footnotes or endnotes, if there are any besides the separators that every file has."""
        notes = [note for note in root if note.get(_attribute(note, "type")) in (None, "normal")]
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


def _ole_error(data: bytes, name: str) -> DocumentError:
    if ENCRYPTED_STREAM in data:
        return DocumentError("encrypted: it needs a password", path=name, hint="save it without a password")
    return DocumentError("an old Word document (.doc)", path=name, hint="save it as .docx")


def _main_part(archive: Archive, name: str) -> str:
    """The entry of the main text, as the package's relationships name it."""
    if "_rels/.rels" in archive:
        for relation in parse_xml(archive.read("_rels/.rels"), name):
            if relation.get("Type", "").endswith("/officeDocument"):
                main = posixpath.normpath(str(relation.get("Target", "")).lstrip("/"))
                if main in archive and posixpath.dirname(main) == "word":
                    return main
    if MAIN_PART not in archive:
        raise DocumentError(f"not a Word document: {MAIN_PART} is missing", path=name)
    return MAIN_PART


def _heading_levels(archive: Archive, entry: str, name: str) -> dict[str, int]:
    """Heading levels by style id: from the style's outline level, its built-in name, or the style it is based on."""
    if entry not in archive:
        return {}
    styles = {style.get(_attribute(style, "styleId"), ""): style for style in parse_xml(archive.read(entry), name)}
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
        tag = _tag(node)
        if tag == "t":
            own.append(node.text or "")
        elif tag in CHARACTERS:
            own.append(CHARACTERS[tag])
        elif tag == "txbxContent":
            boxes += [_text(inner) for inner in _descendants(node, "p")]
        elif tag not in HIDDEN and tag != "pPr":
            stack.append(iter(node))
    return "\n".join(["".join(own), *(box for box in boxes if box.strip())])


def _descendants(parent: _Element, tag: str) -> Iterator[_Element]:
    """The nearest descendants named `tag`, not looking inside of them."""
    for child in parent:
        if _tag(child) == tag:
            yield child
        elif _tag(child) not in HIDDEN:
            yield from _descendants(child, tag)


def _children(parent: _Element, tag: str) -> Iterator[_Element]:
    """Children named `tag`, also those wrapped in a content control or a tracked change."""
    for child in parent:
        if _tag(child) == tag:
            yield child
        elif _tag(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _children(child, tag)


def _tag(node: _Element) -> str:
    """The local name of an element; empty for comments and processing instructions."""
    return str(node.tag).rpartition("}")[2] if isinstance(node.tag, str) else ""


def _attribute(node: _Element, local: str) -> str:
    """The full name of an attribute in the namespace of its element."""
    namespace, brace, _ = str(node.tag).rpartition("}")
    return f"{namespace}{brace}{local}"


def _value(node: _Element) -> str:
    return str(node.get(_attribute(node, "val"), ""))
