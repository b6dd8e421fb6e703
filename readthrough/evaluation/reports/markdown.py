"""A report in Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence

from readthrough.evaluation.reports.groups import sections
from readthrough.evaluation.reports.tables import Table, provenance, tables
from readthrough.evaluation.store import Result

EMPTY = "There are no results yet."


def page(results: Sequence[Result]) -> str:
    """The whole report: the tables of all tasks, of each task, and what the results were made with."""
    parts = ["# Evaluation\n"]
    if not results:
        return f"{parts[0]}\n{EMPTY}\n"
    for section in sections(results):
        parts.append(f"\n## {_plain(section.title)}\n")
        parts += [f"\n{shown(table)}" for table in tables(section)]
    return "".join([*parts, f"\n## Provenance\n\n{shown(provenance(results))}"])


def shown(table: Table) -> str:
    """A table below its title, and what is said of it."""
    lines = [table.heads, ["---"] * len(table.heads), *([cell.text for cell in row] for row in table.rows)]
    rows = "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)
    notes = "".join(f"\n{note}\n" for note in table.notes)
    return f"### {table.title}\n\n{rows}{notes}"


def _plain(text: str) -> str:
    """A text as one cell, that no Markdown or HTML in it changes."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\|*`[]" else letter for letter in escaped)
