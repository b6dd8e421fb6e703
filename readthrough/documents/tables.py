"""Tables: which row holds the names of the columns, where nothing says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NAME_CHARS = 80
_NUMBER = re.compile(r"(?:[A-Z]{3} )?[^\w\s]{0,3}\s?\d[\d.,:/ TeE+\-]*(?:%|\w{1,3})?")
_YEAR = re.compile(r"(?:19|20)\d\d")

Cells = Mapping[int, str]
"""The cells of a row that are not empty, by their column."""


def are_names(cells: Sequence[str]) -> bool:
    """Whether cells may name columns: several, all of them short, different and no numbers but years."""
    words = all(len(cell) <= NAME_CHARS and (is_year(cell) or not is_number(cell)) for cell in cells)
    return len(cells) > 1 and words and len(set(cells)) == len(cells) and not is_year(cells[0])


def is_header(row: Cells, following: Sequence[Cells]) -> bool:
    """Whether `row` names the columns of the rows that follow.

    It does when its cells may be names and the rows below fill its columns. Of only two columns one must hold nothing
    but numbers: `Name | Ann` above `City | Paris` is a form.
    """
    if not are_names(list(row.values())):
        return False
    if len(row) > 2:
        return any(len(row.keys() & below.keys()) > 1 for below in following)
    columns = [[below[column] for below in following if column in below] for column in row]
    return any(cells and all(map(is_number, cells)) for cells in columns)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, an amount, a date or a time rather than words."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def is_year(cell: str) -> bool:
    """Whether a cell holds a year, which may well name a column."""
    return _YEAR.fullmatch(cell) is not None
