"""The files of results: what a line says in each format, and that a reader sees the old file or the new one."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from readthrough.batch import output
from readthrough.batch.files import Found, unfinished
from readthrough.batch.job import Job, Work
from readthrough.batch.open import open_table
from readthrough.batch.table import Result, Table
from readthrough.config import Settings
from readthrough.errors import LibraryError, MissingExtraError, UsageError
from readthrough.types import Answer, Coverage, Evidence, Usage
from tests.batch_samples import WHO, rows
from tests.schemas import ANSWER, closed

EXTRACT = Work("extract", "What does the text say?")
ERROR = {"type": "DocumentError", "message": 'broken, "very"\nbroken', "path": "b.pdf", "hint": "mend it"}
LINE = {"document": {"type": "string"}, "kind": {"enum": ["ask", "extract", "summarize"]}}
ROW = closed({**LINE, **ANSWER["properties"]})
FAILED = closed(
    {
        "schema": {"const": 1},
        **LINE,
        "question": {"type": "string"},
        "error": closed({name: {"type": ["string", "null"]} for name in ("type", "message", "path", "hint")}),
    }
)


def answer(text: str) -> dict[str, Any]:
    evidence = (Evidence("a.txt", 0, 3, "Ann", None, 1, None, (0,), True),)
    usage = Usage(10, 0, 4, 1, 0.5, 0.01)
    coverage = Coverage(tokens=10, read=10)
    told = Answer(WHO, text, evidence=evidence, coverage=coverage, usage=usage, confidence=0.75, run="r", workflow="w")
    return told.to_dict()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = open_table(Settings(home=tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def job(tmp_path: Path, table: Table) -> Job:
    """A job of which one document is answered in part, one is broken, one was passed over, and one waits."""
    job = Job(tmp_path, (Work("ask", WHO), EXTRACT), tmp_path / "out.jsonl")
    fill(job, table)
    return job


def fill(job: Job, table: Table) -> None:
    table.register(job.name, job.describe())
    found = [Found(path, path, 1, 1, path.encode()) for path in ("a.txt", "b.pdf", "c.bin", "d.txt")]
    recipes = {work.id: "r" for work in job.works}
    table.enter(job.name, found, lambda path, content: recipes)
    ask, extract = job.works
    table.claim(job.name, "me")
    table.keep(job.name, "me", Result("a.txt", ask.id, "r", "done", "r", answer('Ann, "the\nkeeper" \ud83d 灯')))
    fields = {"name": "Ann", "age": 71, "boats": ["Ida", "Fo"], "=cmd": None}
    table.keep(job.name, "me", Result("a.txt", extract.id, "r", "stopped", "s", answer(json.dumps(fields))))
    table.leave(job.name, "me", "a.txt", "done")
    table.claim(job.name, "me")
    table.leave(job.name, "me", "b.pdf", "failed", ERROR)
    table.claim(job.name, "me")
    table.leave(job.name, "me", "c.bin", "skipped", ERROR | {"type": "NotTextError"})
    table.claim(job.name, "me")
    table.keep(job.name, "me", Result("d.txt", ask.id, "r", "open", "t"))
    table.keep(job.name, "me", Result("d.txt", extract.id, "r", "failed", "t", error=ERROR | {"traceback": "secret"}))


def test_lines(job: Job, table: Table) -> None:
    import jsonschema

    output.write(job, table)
    lines = rows(job.out)
    assert [(line["document"], line["kind"], "error" in line) for line in lines] == [
        ("a.txt", "ask", False),
        ("a.txt", "extract", False),
        ("b.pdf", "ask", True),
        ("b.pdf", "extract", True),
        ("d.txt", "extract", True),
    ]
    for line in lines:
        jsonschema.validate(line, FAILED if "error" in line else ROW)
    assert lines[0]["answer"] == 'Ann, "the\nkeeper" \ud83d 灯'
    assert lines[2]["error"] == ERROR
    assert "secret" not in job.out.read_text(), "a traceback stays in the table"


def test_a_result_that_is_no_longer_of_what_is_there_has_no_line(job: Job, table: Table) -> None:
    found = [Found("a.txt", "edited", 1, 1, b"a")]
    table.enter(job.name, found, lambda path, content: {work.id: content for work in job.works})
    assert list(output.rows(job, table)) == []


def table_of(job: Job, table: Table, suffix: str) -> Job:
    other = Job(job.folder, job.works, job.out.with_suffix(suffix))
    fill(other, table)
    output.write(other, table)
    return other


COLUMNS = [
    *("document", "kind", "question", "answer", "abstained", "confidence", "stopped", "evidence"),
    *("answer.name", "answer.age", "answer.boats", "answer.=cmd"),
    *("prompt_tokens", "completion_tokens", "calls", "seconds", "cost", "workflow", "model", "run", "error"),
]


def test_csv(job: Job, table: Table) -> None:
    with table_of(job, table, ".csv").out.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    assert reader.fieldnames == COLUMNS
    assert lines[0]["answer"] == 'Ann, "the\nkeeper" \\ud83d 灯'
    assert (lines[0]["calls"], lines[0]["cost"], lines[0]["answer.name"]) == ("1", "0.01", "")
    assert json.loads(lines[0]["evidence"])[0]["quote"] == "Ann"
    assert (lines[1]["answer.name"], lines[1]["answer.age"]) == ("Ann", "71")
    assert json.loads(lines[1]["answer.boats"]) == ["Ida", "Fo"]
    assert (lines[2]["error"], lines[2]["answer"]) == (ERROR["message"], "")


def test_parquet(job: Job, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(output, "_PARQUET_ROWS", 2)
    read = parquet.read_table(table_of(job, table, ".parquet").out)
    assert read.column_names == COLUMNS
    lines = read.to_pylist()
    assert len(lines) == 5
    assert (lines[0]["confidence"], lines[0]["calls"], lines[0]["abstained"]) == (0.75, 1, False)
    assert lines[0]["answer"] == 'Ann, "the\nkeeper" \\ud83d 灯'
    assert (lines[1]["answer.age"], lines[1]["answer.boats"]) == ("71", '["Ida", "Fo"]')
    assert (lines[2]["error"], lines[2]["confidence"]) == (ERROR["message"], None)


def test_a_table_without_rows(table: Table, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for suffix in output.SUFFIXES:
        job = Job(tmp_path, (EXTRACT,), tmp_path / f"none{suffix}")
        output.write(job, table)
        assert job.out.exists()
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert (tmp_path / "none.csv").read_text().startswith("document,")


def test_an_extraction_that_is_no_object_has_no_columns() -> None:
    for text in ("", "no JSON", "[1]", "7", "null"):
        line = output.row("a", EXTRACT, Result("a", "w", "r", "done", "r", answer(text)))
        assert not any(name.startswith("answer.") for name in output.flat(line))


def test_the_old_file_stays_until_the_new_one_is_there(job: Job, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    output.write(job, table)
    before = job.out.read_bytes()

    def breaks(document: object, work: Work) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "lost", breaks)
    with pytest.raises(LibraryError, match="No space left") as caught:
        output.write(job, table)
    assert caught.value.path == str(job.out)
    assert job.out.read_bytes() == before
    assert sorted(path.name for path in job.folder.iterdir() if path.is_file()) == ["out.jsonl"]
    monkeypatch.undo()
    unfinished(job.out).write_text("left by a kill, longer than what is written now" * 1000)
    output.write(job, table)
    assert job.out.read_bytes() == before
    assert not unfinished(job.out).exists()


def test_lines_are_added_to_json_lines_alone(tmp_path: Path) -> None:
    line = {"answer": "Ann \udce9"}
    for _ in range(2):
        output.append(tmp_path / "out.jsonl", line)
        output.append(tmp_path / "out.csv", line)
    assert rows(tmp_path / "out.jsonl") == [line, line]
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out", "out.txt", "out.json", "nowhere/out.jsonl", "/dev/stdout"])
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        output.check(tmp_path / name)
    assert caught.value.hint


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        output.check(tmp_path / "out.parquet")


def test_a_name_that_is_no_text(tmp_path: Path, table: Table) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    job = Job(tmp_path, (EXTRACT,), out)
    table.register(job.name, job.describe())
    output.write(job, table)
    assert table.find(None)[0] == job.name
    assert out.exists()
