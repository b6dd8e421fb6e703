"""CSV and TSV: the text as it stands, with the names of the columns as the section, so that every row has them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from itertools import islice
from pathlib import Path

from readthrough.documents.reading import FileLoader, decode, fingerprint, read_source
from readthrough.documents.tables import are_names
from readthrough.types import Document, Section

DELIMITERS = ",;\t|"
SAMPLE_CHARS = 64 * 1024
SAMPLE_ROWS = 50
TITLE_CHARS = 200


class CsvLoader(FileLoader):
    """Reads tables of text in any encoding, their cells divided by `,`, `;`, `|` or tabs."""

    suffixes = (".csv", ".tsv", ".tab")

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        text, encoding = decode(data, name, self.encoding)
        names = column_names(text)
        sections = (Section((names,), 0, len(text)),) if names else ()
        return Document(fingerprint(data), name, text, "csv", sections=sections, encoding=encoding)


def column_names(text: str) -> str:
    """The names of the columns on one line, `Region, Sales`; empty where no row holds them.

    It is the first row of as many cells as most rows have; a title may stand above it.
    """
    rows = _sample(text)
    cells, _ = _most_common(rows)
    row = next((row for row in rows[:-1] if len(row) == cells), [])
    names = [" ".join(cell.split()) for cell in row if cell.strip()]
    title = ", ".join(names)
    if not are_names(names):
        return ""
    return title if len(title) <= TITLE_CHARS else f"{title[:TITLE_CHARS].rstrip()}…"


def _sample(text: str) -> list[list[str]]:
    """The first rows, divided by the sign that divides most of them into the same number of cells."""
    sample = text[:SAMPLE_CHARS]
    if len(sample) < len(text):
        sample = sample[: sample.rfind("\n") + 1]  # the last row may be cut off
    best: tuple[float, int] = (0.0, 1)
    chosen: list[list[str]] = []
    for delimiter in DELIMITERS:
        rows = _rows(sample, delimiter)
        cells, same = _most_common(rows)
        if cells > 1 and (same / len(rows), cells) > best:
            best, chosen = (same / len(rows), cells), rows
    return chosen


def _most_common(rows: list[list[str]]) -> tuple[int, int]:
    """The number of cells that most rows have, and how many have it."""
    return Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)


def _rows(sample: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(sample), delimiter=delimiter, skipinitialspace=True)
    try:
        return [row for row in islice(reader, SAMPLE_ROWS) if row]
    except csv.Error:  # a cell too long to be one: no table that is divided so
        return []
