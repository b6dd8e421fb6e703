"""Excel workbooks (XLSX): each sheet a page and a section, each row a line that says what its cells are.

A row is written `12 | Region: North | Sales: 40`: its number in the sheet, then the cells that are not empty, with
the names of their columns. A chunk or a quote from the middle of a long table so says all that its row says, to a
reader, to a model and to a search for words; a header at the top of the sheet would be seen by the first chunk only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.base import LoadLimits
from readthrough.documents.office import Relation, main_part, open_office, relation_id, relations, tag
from readthrough.documents.reading import FileLoader, Heading, fingerprint, sections_from
from readthrough.documents.spreadsheet import Cell, Formats, Row, read_rows, read_strings
from readthrough.documents.tables import Cells, is_header, is_year
from readthrough.errors import DocumentError
from readthrough.types import Document, Page

MAIN_PART = "xl/workbook.xml"
BETWEEN_SHEETS = "\n\n"
HEADER_ROWS = 20
"""So many rows below a row decide whether it names the columns."""


class XlsxLoader(FileLoader):
    """Reads XLSX files: values as a reader sees them, formulas by their last results, hidden sheets too."""

    suffixes = (".xlsx", ".xlsm")
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data, archive = open_office(path, name, self.limits)
        book = _Workbook(archive, main_part(archive, MAIN_PART, name), name)
        writer = _Writer(self.limits, name)
        pages: list[Page] = []
        headings: list[Heading] = []
        any_cell = False
        for number, (title, hidden, relation) in enumerate(book.sheets, 1):
            start = writer.position
            writer.line(f"Sheet: {title}{' (hidden)' if hidden else ''}")
            lines = writer.lines_written
            if relation.kind == "worksheet":
                for line in book.lines(relation.target):
                    writer.line(line)
            any_cell = any_cell or writer.lines_written > lines
            headings.append(Heading(start, 1, title))
            pages.append(Page(number, start, writer.position - 1))
            writer.line("")
        if not any_cell:
            raise DocumentError("no text in it", path=name)
        text = writer.text()
        return Document(fingerprint(data), name, text, "xlsx", tuple(pages), sections_from(headings, len(text)))


class _Writer:
    """Collects lines, no more than a file may unpack to: a few bytes of a row can name a long text again and again."""

    def __init__(self, limits: LoadLimits, name: str) -> None:
        self._lines: list[str] = []
        self._most_chars = limits.archive_bytes
        self._name = name
        self.position = 0

    @property
    def lines_written(self) -> int:
        return len(self._lines)

    def line(self, text: str) -> None:
        self._lines.append(text)
        self.position += len(text) + 1
        if self.position > self._most_chars:
            raise DocumentError(f"unpacks to more than {self._most_chars:,} characters", path=self._name)

    def text(self) -> str:
        return "\n".join(self._lines).rstrip("\n")


class _Workbook:
    """The parts of a workbook: its sheets in the order of their tabs, shared strings, formats of numbers."""

    def __init__(self, archive: Archive, main: str, name: str) -> None:
        self._archive = archive
        self._name = name
        root = parse_xml(archive.read(main), name)
        related = relations(archive, main, name)
        parts = {relation.kind: relation.target for relation in related.values()}
        self._strings = read_strings(archive.read(parts["sharedStrings"]), name) if "sharedStrings" in parts else []
        properties = root.find("{*}workbookPr")
        from_1904 = properties is not None and properties.get("date1904") in ("1", "true")
        styles = parse_xml(archive.read(parts["styles"]), name) if "styles" in parts else None
        self._formats = Formats.read(styles, from_1904)
        self.sheets: list[tuple[str, bool, Relation]] = []
        for node in root.iterfind("{*}sheets/{*}sheet"):
            relation = related.get(relation_id(node))
            title = " ".join(node.get("name", "").split()) or f"Sheet {len(self.sheets) + 1}"
            if relation is None:
                raise DocumentError(f"broken XLSX: the sheet {title!r} is missing", path=name)
            self.sheets.append((title, node.get("state", "visible") != "visible", relation))
        if not self.sheets:
            raise DocumentError("no sheets in it", path=name)

    def lines(self, entry: str) -> Iterator[str]:
        """The rows of a sheet as lines, then its notes and the words of its drawings."""
        rows = read_rows(self._archive.read(entry), self._name, self._strings, self._formats)
        yield from row_lines(rows)
        for relation in relations(self._archive, entry, self._name).values():
            if relation.kind == "comments":
                yield ""
                for note in parse_xml(self._archive.read(relation.target), self._name).iterfind(".//{*}comment"):
                    words = " ".join("".join(node.text or "" for node in note.iterfind(".//{*}t")).split())
                    yield f"Note at {note.get('ref', '')}: {words}"
            elif relation.kind == "drawing":
                for shape in parse_xml(self._archive.read(relation.target), self._name).iterfind(".//{*}txBody"):
                    words = " ".join("".join(node.text or "" for node in shape.iter() if tag(node) == "t").split())
                    if words:
                        yield f"Text box: {words}"


def row_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as lines, an empty one between blocks of rows; names of columns hold until other names come."""
    names: Cells = {}
    for number, block in enumerate(_blocks(rows)):
        if number:
            yield ""
        ahead = list(islice(block, HEADER_ROWS + 1))
        found = _find_header(ahead)
        if found is None and len(ahead[0].cells) == 1:
            names = {}  # words between two tables, or another that has no names
        for place, row in enumerate(chain(ahead, block)):
            if place == found:
                names = {column: cell.text for column, cell in row.cells.items()}
            named = {} if found is not None and place <= found else names
            cells = [_shown(cell, named.get(column)) for column, cell in row.cells.items()]
            yield " | ".join([str(row.number), *cells])


def _blocks(rows: Iterable[Row]) -> Iterator[Iterator[Row]]:
    """Rows in runs that no empty row interrupts; each run must be used up before the next one is asked for."""
    source = iter(rows)
    first = next(source, None)
    following: list[Row] = []

    def run(row: Row) -> Iterator[Row]:
        yield row
        for after in source:
            if after.number > row.number + 1:
                following.append(after)
                return
            yield after
            row = after

    while first is not None:
        yield run(first)
        first = following.pop() if following else None


def _find_header(rows: list[Row]) -> int | None:
    """The place of the row that names the columns: the first of several cells, below titles of one cell."""
    for place, row in enumerate(rows):
        if len(row.cells) > 1:
            words = all(cell.is_text or is_year(cell.text) for cell in row.cells.values())
            below = [{column: cell.text for column, cell in after.cells.items()} for after in rows[place + 1 :]]
            own = {column: cell.text for column, cell in row.cells.items()}
            return place if words and is_header(own, below) else None
    return None


def _shown(cell: Cell, name: str | None) -> str:
    return f"{name}: {cell.text}" if name else cell.text
