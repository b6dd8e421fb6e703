"""PowerPoint presentations (PPTX): slides in the order they are shown, each a page and a section, with their notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.office import Relation, main_part, open_office, relation_id, relations, tag
from readthrough.documents.reading import FileLoader, Heading, fingerprint, normalise_newlines, sections_from
from readthrough.errors import DocumentError
from readthrough.types import Document, Page

if TYPE_CHECKING:
    from lxml.etree import _Element

MAIN_PART = "ppt/presentation.xml"
BETWEEN_SLIDES = "\n\n"
TITLES = frozenset(("title", "ctrTitle"))
# On slides and notes: the number, date and footer that the program fills in, the same on every page.
REPEATED = frozenset(("sldNum", "dt", "ftr", "hdr"))
# The older form of a drawing of which the newer one is read.
HIDDEN = frozenset(("Fallback",))


class PptxLoader(FileLoader):
    """Reads PPTX files: titles, text, tables, charts' words and diagrams, then notes; cells are separated by ` | `."""

    suffixes = (".pptx", ".pptm", ".ppsx", ".ppsm")
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data, archive = open_office(path, name, self.limits)
        main = main_part(archive, MAIN_PART, name)
        texts: list[str] = []
        pages: list[Page] = []
        headings: list[Heading] = []
        position, any_words = 0, False
        for number, part in enumerate(_slide_parts(archive, main, name), 1):
            slide = _Slide(archive, part, name)
            title, hidden = slide.title(), " (hidden)" if slide.hidden else ""
            lines = [f"Slide {number}{hidden}{f': {title}' if title else ''}", *slide.lines()]
            any_words = any_words or bool(title) or len(lines) > 1
            text = "\n".join(lines)
            headings.append(Heading(position, 1, title or f"Slide {number}"))
            pages.append(Page(number, position, position + len(text)))
            texts.append(text)
            position += len(text) + len(BETWEEN_SLIDES)
        if not any_words:
            raise DocumentError("no text in it", path=name, hint="slides of images need OCR first: save it as a PDF")
        text = BETWEEN_SLIDES.join(texts)
        return Document(fingerprint(data), name, text, "pptx", tuple(pages), sections_from(headings, len(text)))


def _slide_parts(archive: Archive, main: str, name: str) -> list[str]:
    """The entries of the slides in the order of the presentation."""
    known = relations(archive, main, name)
    found: list[str] = []
    for node in parse_xml(archive.read(main), name).iterfind("{*}sldIdLst/{*}sldId"):
        relation = known.get(relation_id(node))
        if relation is None:
            raise DocumentError(f"broken PPTX: slide {len(found) + 1} is missing", path=name)
        found.append(relation.target)
    if not found:
        raise DocumentError("no slides in it", path=name)
    return found


class _Slide:
    """One slide with what belongs to it: notes, comments, diagrams, charts."""

    def __init__(self, archive: Archive, part: str, name: str) -> None:
        self._archive = archive
        self._name = name
        self._root = parse_xml(archive.read(part), name)
        self._related = relations(archive, part, name)
        self.hidden = self._root.get("show") in ("0", "false")

    def title(self) -> str:
        """The words of the title on one line; empty where there is none."""
        shapes = self._root.iterfind(".//{*}sp")
        return next((" ".join(_text(shape).split()) for shape in shapes if _role(shape) in TITLES), "")

    def lines(self) -> list[str]:
        """What stands on the slide below its title, then its comments and the speaker's notes."""
        tree = self._root.find("{*}cSld/{*}spTree")
        found = [] if tree is None else list(self._shapes(tree))
        for relation in self._related.values():
            if relation.kind == "comments":
                root = self._read(relation)
                found += [f"Comment: {' '.join(_text(node).split())}" for node in root if _text(node).strip()]
        for relation in self._related.values():
            if relation.kind == "notesSlide":
                bodies = [shape for shape in self._read(relation).iterfind(".//{*}sp") if _role(shape) == "body"]
                notes = [line for body in bodies for line in _paragraphs(body)]
                found += ["Notes:", *notes] if notes else []
        return found

    def _shapes(self, parent: _Element) -> Iterator[str]:
        """The lines of the shapes below `parent`, through groups; the title is left out."""
        for shape in parent:
            kind = tag(shape)
            if kind == "sp" and _role(shape) not in TITLES | REPEATED:
                yield from _paragraphs(shape)
            elif kind == "graphicFrame":
                yield from self._graphic(shape)
            elif kind not in HIDDEN and kind != "sp":
                yield from self._shapes(shape)

    def _graphic(self, frame: _Element) -> Iterator[str]:
        for row in frame.iterfind(".//{*}tbl/{*}tr"):
            yield " | ".join(" ".join(_text(cell).split()) for cell in row.iterfind("{*}tc"))
        for node in frame.iterfind(".//{*}graphicData/*"):
            if tag(node) == "relIds" and (data := self._related.get(relation_id(node, "dm"))):
                for point in self._read(data).iterfind(".//{*}pt"):
                    yield from _paragraphs(point)
            elif tag(node) == "chart" and (chart := self._related.get(relation_id(node))):
                yield from _chart(self._read(chart))

    def _read(self, relation: Relation) -> _Element:
        return parse_xml(self._archive.read(relation.target), self._name)


def _chart(root: _Element) -> Iterator[str]:
    """A chart's titles, and a line for each of its series: its name, then each category with its value."""
    for title in root.iterfind(".//{*}title"):
        yield from _paragraphs(title)
    for series in root.iterfind(".//{*}ser"):
        label = " ".join(_points(series, "tx").values())
        categories, values = _points(series, "cat") or _points(series, "xVal"), _points(series, "val")
        values = values or _points(series, "yVal")
        cells = [f"{categories[index]}: {value}" if index in categories else value for index, value in values.items()]
        yield " | ".join([label, *cells] if label else cells)


def _points(series: _Element, kind: str) -> dict[str, str]:
    """The values of a series that the file keeps, by their place."""
    found = {}
    for point in series.iterfind(f"{{*}}{kind}//{{*}}pt"):
        found[point.get("idx", "")] = point.findtext("{*}v") or ""
    return found


def _role(shape: _Element) -> str:
    """What a shape stands for in the layout: `title`, `body`, `sldNum`, ...; empty for one of its own."""
    place = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return "" if place is None else str(place.get("type", ""))


def _paragraphs(shape: _Element) -> list[str]:
    """The paragraphs of a shape that are not blank, indented by their level in a list."""
    lines = []
    for paragraph in shape.iterfind(".//{*}p"):
        properties = paragraph.find("{*}pPr")
        level = "" if properties is None else str(properties.get("lvl", ""))
        indent = "  " * min(int(level), 8) if level.isdecimal() else ""
        lines += [indent + line for line in _text(paragraph).split("\n") if line.strip()]
    return lines


def _text(node: _Element) -> str:
    """All text below `node`, paragraphs on lines of their own."""
    parts: list[str] = []
    for inner in node.iter():
        kind = tag(inner)
        if kind in ("t", "text") and inner.text:
            parts.append(normalise_newlines(inner.text).replace("\v", "\n"))
        elif kind == "br" or (kind == "p" and parts):
            parts.append("\n")
    return "".join(parts)
