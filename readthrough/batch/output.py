"""The files of results, written from the table: JSON lines, CSV or Parquet; one row a document and question."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from readthrough.batch.job import Job, Work
from readthrough.batch.table import Result, Row, Table
from readthrough.errors import UsageError, needed
from readthrough.memory.database import guard
from readthrough.types import SCHEMA_VERSION

SUFFIXES = (".jsonl", ".csv", ".parquet")

_COLUMNS = ("document", "kind", "question", "answer", "abstained", "confidence", "stopped", "evidence")
_ACCOUNT = ("prompt_tokens", "completion_tokens", "calls", "seconds", "cost")
_LAST = ("workflow", "model", "run", "error")
_PARQUET_ROWS = 1_000
_PARQUET_TYPES = {
    "abstained": "bool",
    "confidence": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "calls": "int64",
    "seconds": "float64",
    "cost": "float64",
}
"""What is not text."""


def check(out: Path) -> None:
    """Whether results can be written to `out`.

    Raises:
        UsageError: its suffix is none that is known, or there is no such folder.
        MissingExtraError: Parquet is wanted and pyarrow is not installed.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out} has no suffix that says how to write it", hint=f"one of {', '.join(SUFFIXES)}")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist", hint=f"mkdir -p {out.parent}")
    if out.suffix == ".parquet":
        _pyarrow()


def row(path: str, work: Work, result: Result) -> dict[str, Any]:
    """One line of the output: the Answer, or the error in its place, behind what it is about."""
    about = {"schema": SCHEMA_VERSION, "document": path, "kind": work.kind}
    if result.answer is None:
        error = {name: (result.error or {}).get(name) for name in ("type", "message", "path", "hint")}
        return {**about, "question": work.question, "error": error}
    return {**about, **{name: value for name, value in result.answer.items() if name != "schema"}}


def lost(document: Row, work: Work) -> dict[str, Any]:
    """The line of a document that could not be read."""
    return row(document.path, work, Result(document.path, work.id, "", "failed", error=document.error))


def rows(job: Job, table: Table) -> Iterator[dict[str, Any]]:
    """All lines of a job, by document and then in the order of its works; what is not answered yet has none."""
    for document in table.documents(job.name):
        found = table.results(job.name, document.path)
        for work in job.works_of(document.path):
            result = found.get(work.id)
            if document.state in ("failed", "aside"):
                yield lost(document, work)
            elif result is not None and result.state != "open":
                yield row(document.path, work, result)


def write(job: Job, table: Table) -> None:
    """Write the results of a job, in place of what the file held; a reader sees the old file or the new one.

    Raises:
        LibraryError: the file cannot be written.
    """
    beside = job.out.with_name(f".{job.out.name}.{os.getpid()}")
    with guard(job.out, "file of results"):
        try:
            if job.out.suffix == ".parquet":
                _write_parquet(beside, job, table)
            else:
                with beside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                    (_write_csv if job.out.suffix == ".csv" else _write_lines)(file, job, table)
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(job.out)
        finally:
            beside.unlink(missing_ok=True)


def append(out: Path, line: dict[str, Any]) -> None:
    """Add a line to the results as soon as it is there; other formats than JSON lines wait for the end."""
    if out.suffix == ".jsonl":
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with guard(out, "file of results"), out.open("ab", buffering=0) as file:
            file.write(data)  # one write: lines of several processes do not mix


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """A line as the columns of a table; of an extraction, a column for each field beside."""
    usage = line.get("usage") or {}
    error = line.get("error")
    cells = {name: line.get(name) for name in (*_COLUMNS, *_LAST)} | {name: usage.get(name) for name in _ACCOUNT}
    cells["error"] = error["message"] if error else None
    if line.get("evidence") is not None:
        cells["evidence"] = json.dumps(line["evidence"], ensure_ascii=False)
    return cells | _fields(line)


def _fields(line: dict[str, Any]) -> dict[str, Any]:
    if line["kind"] != "extract" or "answer" not in line:
        return {}
    try:
        said = json.loads(line["answer"])
    except ValueError:  # a budget ended it before there was anything to say
        return {}
    plain = (str, int, float, bool, type(None))
    return {
        f"answer.{name}": value if isinstance(value, plain) else json.dumps(value, ensure_ascii=False)
        for name, value in said.items()
    }


def _columns(job: Job, table: Table) -> list[str]:
    """The columns of all lines, in their order."""
    fields = dict.fromkeys(name for line in rows(job, table) for name in _fields(line))
    return [*_COLUMNS, *fields, *_ACCOUNT, *_LAST]


def _write_lines(file: TextIO, job: Job, table: Table) -> None:
    for line in rows(job, table):
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_csv(file: TextIO, job: Job, table: Table) -> None:
    writer = csv.DictWriter(file, _columns(job, table), restval="")
    writer.writeheader()
    for line in rows(job, table):
        writer.writerow(flat(line))


def _write_parquet(path: Path, job: Job, table: Table) -> None:
    pyarrow = _pyarrow()
    from pyarrow import parquet

    columns = _columns(job, table)
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(_PARQUET_TYPES.get(name, "string"))) for name in columns])
    with parquet.ParquetWriter(path, schema) as writer:
        for lines in _batched(rows(job, table), _PARQUET_ROWS):
            writer.write_table(pyarrow.Table.from_pylist([_typed(flat(line)) for line in lines], schema))


def _typed(cells: dict[str, Any]) -> dict[str, Any]:
    """Cells as Parquet takes them: a column has one type, and that of an extracted field is text."""
    texts = {name: str(value) for name, value in cells.items() if name.startswith("answer.") and value is not None}
    return cells | texts


def _batched(lines: Iterator[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """The lines in lists of at most `most`."""
    while piece := list(islice(lines, most)):
        yield piece


def _pyarrow() -> Any:
    with needed("pyarrow, which writes Parquet,", "'readthrough[parquet]', or write .jsonl or .csv"):
        import pyarrow
    return pyarrow
