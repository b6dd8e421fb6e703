"""HTML to text: nodes are walked in order, block tags become line breaks, headings keep their places."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from readthrough.documents.reading import Heading, without_surrogates

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

HIDDEN = frozenset(("head", "script", "style", "template", "iframe", "object", "noframes"))
HEADINGS = {f"h{level}": level for level in range(1, 7)}
PARAGRAPHS = frozenset((
    "p", "blockquote", "pre", "table", "ul", "ol", "dl", "section", "article", "aside", "header", "footer", "main",
    "nav", "figure", "hr", "form", "fieldset", "details", "address", "h1", "h2", "h3", "h4", "h5", "h6",
))  # fmt: skip
LINES = frozenset((
    "div", "li", "tr", "dt", "dd", "figcaption", "caption", "summary", "center", "option", "legend", "body", "title",
    "thead", "tbody", "tfoot", "optgroup", "hgroup", "menu", "dialog", "search",
))  # fmt: skip
_WHITE_SPACE = re.compile(r"[ \t\n\f\r]+")
_EMPTY_RAW = re.compile(r"<(title|script|style|textarea|iframe|xmp|noframes|noscript)\b([^<>]*)/>", re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)


def html_to_text(source: str) -> tuple[str, list[Heading]]:
    """The readable text of an HTML page and its headings, by their offsets in that text."""
    from selectolax.lexbor import LexborHTMLParser

    writer = _Writer()
    node: LexborNode | None = LexborHTMLParser(without_surrogates(source)).root
    depth = 0
    while node is not None:
        child = None
        if node.is_text_node:
            writer.write(node.text_content or "")
        elif node.is_element_node and node.tag not in HIDDEN:
            writer.open(node.tag or "")
            child = node.child
            depth += 1
            if child is None:
                writer.close(node.tag or "")
                depth -= 1
        while child is None and depth > 0 and node.next is None and node.parent is not None:
            node = node.parent
            depth -= 1
            writer.close(node.tag or "")
        node = child or (node.next if depth > 0 else None)
    return "".join(writer.parts), writer.headings


def repair_xhtml(source: str) -> str:
    """XHTML as HTML: an empty `<title/>` is legal there, and an HTML parser would read all that follows as title."""
    source = _EMPTY_RAW.sub(r"<\1\2></\1>", source)
    return _CDATA.sub(lambda match: html.escape(match[1]), source)


@dataclass(slots=True)
class _Row:
    """A table row that is open: its cells so far, and where the text stood when it and its last cell began."""

    start: int
    cells: int = 0
    cell_start: int = -1


class _Writer:
    """Collects text with white space collapsed as a browser would."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self._chars = 0
        self._newlines = 0
        self._pending_newlines = 0
        self._pending_cells = ""
        self._pending_gap = False
        self._preformatted = 0
        self._rows: list[_Row] = []
        self._row_end = -1
        self._heading_level: int | None = None
        self._heading_start: tuple[int, int] | None = None  # the character and the part that its text begins with

    def open(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open_cell()
        elif tag == "br":
            self._pending_newlines += 1
        else:
            self._break(tag)
        if tag == "tr":
            if self._row_end == self._chars:
                self._pending_newlines = 1  # the rows of a table stand line under line, whatever is in their cells
            self._rows.append(_Row(self._chars))
        elif tag == "pre":
            self._preformatted += 1
        elif tag in HEADINGS and self._heading_level is None:
            self._heading_level = HEADINGS[tag]

    def close(self, tag: str) -> None:
        if tag in HEADINGS and self._heading_level is not None:
            if self._heading_start is not None:
                start, first_part = self._heading_start
                title = " ".join("".join(self.parts[first_part:]).split())
                self.headings.append(Heading(start, self._heading_level, title))
            self._heading_level = self._heading_start = None
        elif tag == "tr" and self._rows:
            self._rows.pop()
            self._pending_cells, self._row_end = "", self._chars
        elif tag == "pre":
            self._preformatted -= 1
        if tag != "br":
            self._break(tag)

    def write(self, text: str) -> None:
        if self._preformatted:
            if text:
                self._flush()
                self._append(text)
            return
        text = _WHITE_SPACE.sub(" ", text)
        words = text.strip(" ")
        self._pending_gap = self._pending_gap or text.startswith(" ")
        if words:
            self._flush()
            self._append(words)
            self._pending_gap = text.endswith(" ")

    def _open_cell(self) -> None:
        if not self._rows:
            return
        row = self._rows[-1]
        if row.cells:
            self._pending_cells += " | "
            if self._chars > row.start:
                self._pending_newlines = 0
        row.cells += 1
        row.cell_start = self._chars

    def _break(self, tag: str) -> None:
        newlines = 2 if tag in PARAGRAPHS else 1 if tag in LINES else 0
        at_cell_start = bool(self._rows) and self._rows[-1].cell_start == self._chars
        if newlines and not at_cell_start:
            self._pending_newlines = max(self._pending_newlines, newlines)

    def _flush(self) -> None:
        missing = max(self._pending_newlines - self._newlines, 0) if self._chars else 0
        if missing:
            self._append("\n" * missing)
        if self._pending_cells:
            self._append(self._pending_cells)
        elif self._pending_gap and self._chars and not self._newlines:
            self._append(" ")
        self._pending_newlines, self._pending_cells, self._pending_gap = 0, "", False
        if self._heading_level is not None and self._heading_start is None:
            self._heading_start = (self._chars, len(self.parts))

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self._chars += len(text)
        stripped = text.rstrip("\n")
        self._newlines = len(text) - len(stripped) + (0 if stripped else self._newlines)
