"""Rows that are kept while a benchmark runs, and result files: numbers with the device, the versions and the commit
that they were measured with.

    python -m benchmarks.results ROWS.jsonl FOLDER

puts the rows of an evaluation (`readthrough eval report FOLDER --jsonl ROWS.jsonl` wrote them) into FOLDER, where
`readthrough eval run GRID --into FOLDER` goes on from them, with the same version of readthrough. A name that ends in
`.md` or `.html` in place of FOLDER is the report of the rows.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from readthrough.evaluation.provenance import provenance
from readthrough.evaluation.reports import html, markdown
from readthrough.evaluation.statistics import interval
from readthrough.evaluation.store import Result, Store

FOLDER = Path(__file__).parent / "results"


def settle(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder that rows are kept in, or go on in it: what its rows were made with must be the same.

    Raises:
        SystemExit: it is another model, or another number of questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if not path.exists():
        path.write_text(json.dumps(settings), encoding="utf-8")
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept != settings:
        raise SystemExit(f"{folder} holds rows of {kept}, not of {dict(settings)}: name another folder")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `add_rows` writes; none where it does not exist yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keep some rows, one JSON object a line, so that a run that was stopped goes on where it was."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def put_back(rows: Path, folder: Path) -> int:
    """Put the rows of an evaluation into a folder of results; returns how many they are."""
    found = [Result.from_dict(row) for row in rows_of(rows)]
    store = Store(folder, make=True)
    for result in found:
        store.write(result)
    store.close()
    return len(found)


def interval_over_texts(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of values by the text that each is about, with its interval over texts: what is asked about one text
    shares what was kept of it."""
    by_text: dict[str, list[float]] = {}
    for text, value in values:
        by_text.setdefault(text, []).append(value)
    return interval([fmean(of) for of in by_text.values()])._asdict()


def write_results(name: str, numbers: dict[str, Any]) -> Path:
    """`numbers` as `results/NAME.json`, with where they come from."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    measured = {**provenance(), "date": time.strftime("%Y-%m-%d")}
    path.write_text(json.dumps({**numbers, "measured": measured}, indent=2) + "\n", encoding="utf-8")
    return path


def report(rows: Path, page: Path) -> int:
    """Write the report of an evaluation's rows, as Markdown or HTML by the page's name; returns how many they are."""
    found = [Result.from_dict(row) for row in rows_of(rows)]
    made = html.page(found) if page.suffix == ".html" else markdown.page(found)
    page.write_text(made, encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    given, into = Path(sys.argv[1]), Path(sys.argv[2])
    print(f"{(report if into.suffix in ('.md', '.html') else put_back)(given, into)} rows")
