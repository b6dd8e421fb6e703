"""`ask`, `search`, `index` and `library` in this process: real files, library and graphs, a scripted model."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from readthrough.cli.main import run as run_command
from readthrough.documents.load import load
from tests.home_samples import ask_script, live_in, write_days
from tests.schemas import ANSWER, ERROR, HITS, checked

QUESTION = "Who keeps the light?"


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_days(tmp_path / "book.txt", 100, 50)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `readthrough` with arguments, nothing coming in on standard input."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ask_script(tmp_path, monkeypatch)
    live_in(tmp_path, monkeypatch)

    def call(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        code = run_command([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


BAD = {
    "path": (["ask", QUESTION, "none.txt"], 4, "MissingPathError", "none.txt"),
    "workflow": (["ask", QUESTION, "BOOK", "--workflow", "retreive"], 4, "UnknownNameError", "'retrieve'"),
    "model": (["ask", QUESTION, "BOOK", "--model", "smal"], 4, "UnknownNameError", "'small'"),
    "index": (["search", QUESTION, "BOOK", "--index", "bm52"], 4, "UnknownNameError", "'bm25'"),
    "dtype": (["ask", QUESTION, "BOOK", "--dtype", "int3"], 4, "ConfigError", "dtype"),
    "encoding": (["ask", QUESTION, "BOOK", "--encoding", "utf-9"], 4, "", "utf-9"),
    "option": (["ask", QUESTION, "BOOK", "--workflow", "chain-of-agents", "--k", "3"], 4, "UnknownNameError", "'k'"),
    "empty question": (["ask", "", "BOOK"], 2, "UsageError", "empty"),
    "no question": (["ask"], 2, "UsageError", "no question"),
    "questions": (["ask", "--questions", "none.txt", "BOOK"], 4, "MissingPathError", "none.txt"),
    "empty text": (["ask", QUESTION], 4, "", "empty"),
    "focus": (["summarize", "BOOK", "--focus", " "], 2, "UsageError", "focus"),
    "words": (["summarize", "BOOK", "--words", "0"], 2, "UsageError", "--words"),
    "about nothing": (["write", "BOOK", "--about", " "], 2, "UsageError", "about"),
    "about and index": (["write", "BOOK", "--about", "Ann", "--form", "index"], 2, "UsageError", "index"),
    "form": (["write", "BOOK", "--form", "poem"], 2, "UsageError", "--form"),
    "summarize's workflow": (["summarize", "BOOK", "--workflow", "retrieve"], 2, "UsageError", "--workflow"),
    "home": (["ask", QUESTION, "BOOK", "--home", "/dev/null/x"], 1, "LibraryError", "/dev/null"),
}


def test_write_prints_the_text_and_writes_files(run: Run, book: Path, tmp_path: Path) -> None:
    into = tmp_path / "out"
    done = run("write", book, "--about", "the light", "--sections", "1", "--into", into)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Ann keeps the light\n\nAnn keeps the light.[1]") and "on the cliff" in done.stdout
    assert "2 files in" in done.stderr
    names = ["01-ann-keeps-the-light.md", "report.md"]
    assert sorted(path.name for path in into.iterdir()) == names
    assert (into / "report.md").read_text().startswith("# Report: the light\n\n## Ann keeps the light")
    again = run("write", book, "--about", "the light", "--sections", "1", "--into", into, "--json")
    assert again.returncode == 2 and "is there already" in checked(again.stdout, ERROR)["error"]["message"]
    over = run("write", book, "--about", "the light", "--sections", "1", "--into", into, "--overwrite", "--json")
    assert checked(over.stdout, ANSWER)["workflow"] == "write-long"
    listed = run("write", book, "--form", "index", "--terms", "5", "--dry-run")
    assert listed.returncode == 0 and "0 calls" in listed.stdout


def test_show_none_and_quiet(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--show", "none", "--quiet")
    assert (done.stdout, done.stderr, done.returncode) == ("Ann keeps the light.\n", "", 0)


def test_stream(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--stream", "--show", "none", "--quiet")
    assert (done.stdout, done.returncode) == ("Ann keeps the light.\n", 0)


def test_several_questions_are_a_line_each(run: Run, book: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "Which?", "choices": ["Ann", "Tom"]}) + "\n")
    done = run("ask", "--questions", questions, book, "-q", QUESTION, "--json")
    lines = done.stdout.splitlines()
    assert [checked(line, ANSWER)["question"] for line in lines] == ["Which?", QUESTION]
    assert json.loads(lines[0])["choices"] == ["Ann", "Tom"]


def test_several_questions_are_runs_of_their_own(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "-q", "Who mends the nets?", "--workflow", "chain-of-agents", "--json")
    assert len({json.loads(line)["run"] for line in done.stdout.splitlines()}) == 2
    text = run("ask", QUESTION, book, "-q", "Who mends the nets?", "--show", "none").stdout
    assert text.index(QUESTION) < text.index("Who mends the nets?")


def test_where_one_of_several_fails_the_others_are_printed(run: Run, book: Path) -> None:
    late = "Who " + "keeps " * 9000 + "it?"
    done = run("ask", QUESTION, book, "-q", late, "-q", "Who?", "--workflow", "chain-of-agents", "--json")
    answers, error = done.stdout.splitlines()[:2], done.stdout.splitlines()[2:]
    assert [checked(line, ANSWER)["question"] for line in answers] == [QUESTION, "Who?"]
    assert done.returncode == 5 and checked("\n".join(error), ERROR)["error"]["type"] == "PromptTooLongError"


def test_choices(run: Run, book: Path) -> None:
    done = run("ask", "Who keeps it?", book, "--choice", "Tom", "--choice", "Ann", "--json")
    assert checked(done.stdout, ANSWER)["choices"] == ["Tom", "Ann"]
    assert run("ask", "Who?", book, "--choice", "Ann").returncode == 2


def test_chain_of_agents(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--workflow", "chain-of-agents", "--json")
    coverage = checked(done.stdout, ANSWER)["coverage"]
    assert coverage["read"] == coverage["tokens"]


def test_search(run: Run, book: Path) -> None:
    done = run("search", "keeps the light", book, "--json", "--k", "3")
    hits = checked(done.stdout, HITS)["hits"]
    assert 1 <= len(hits) <= 3
    assert "Ann keeps the light" in hits[0]["quote"]
    text = load(book).text
    assert all(text[hit["start"] : hit["end"]] == hit["quote"] for hit in hits)
    assert run("search", "keeps the light", book).stdout.startswith(" 1. “")
    assert run("search", " ", book).returncode == 2
    late = run("search", "the boats", book, "--json", "--lines", "150-160", "--in", "*.txt")
    assert all(hit["line"] <= 160 for hit in checked(late.stdout, HITS)["hits"])
    assert run("search", "the boats", book, "--lines", "9-").returncode == 2
    assert run("search", "the boats", book, "--section", "none").returncode == 4


def test_index_then_library(run: Run, book: Path) -> None:
    done = run("index", book)
    assert done.returncode == 0, done.stderr
    assert str(book) in done.stdout
    listed = json.loads(run("library", "list", "--json").stdout)["documents"]
    assert [row["paths"] for row in listed] == [[str(book)]]
    assert run("library", "size").stdout.strip()
    shown = json.loads(run("library", "show", book, "--json").stdout)
    assert shown["document"]["id"] == listed[0]["id"]
    assert run("library", "delete", listed[0]["id"][:12]).returncode == 0
    assert json.loads(run("library", "list", "--json").stdout)["documents"] == []
    assert run("library", "show", book).returncode == 4


def test_readings_are_shown_and_pruned(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "readings" / "0123"
    folder.mkdir(parents=True)
    for name, days in (("new", 0), ("old", 3), ("older", 9)):
        path = folder / f"{name}.safetensors"
        path.write_bytes(bytes(1000))
        used = time.time() - days * 86400 - 10
        os.utime(path, (used, used))
    assert "0.0 MB, 3 readings" in run("library", "size").stdout
    size = json.loads(run("library", "size", "--json").stdout)
    assert (size["readings_bytes"], size["readings"], size["documents"]) == (3000, 3, 0)
    for flags, left in (
        (["--unused-days", "5"], {"new", "old"}),
        (["--readings", "1000"], {"new"}),
        (["--limit", "1000"], {"new"}),
        (["--readings", "0"], set()),
    ):
        done = run("library", "prune", *flags)
        assert done.returncode == 0, done.stderr
        assert {path.stem for path in folder.iterdir()} == left
    assert "1 readings were deleted" in done.stderr
    assert run("library", "prune").returncode == 2
    assert run("library", "prune", "--readings", "many").returncode == 2


def test_partial(run: Run, book: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    book.rename(folder / "book.txt")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    done = run("ask", QUESTION, folder, "--json")
    answer = checked(done.stdout, ANSWER)
    assert done.returncode == 3
    assert [file["path"] for file in answer["skipped_files"]] == [str(folder / "broken.pdf")]
    assert "broken.pdf" in done.stderr


def test_files_that_are_no_documents_are_no_failure(run: Run, book: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    book.rename(folder / "book.txt")
    (folder / "__init__.py").touch()
    (folder / "logo.png").write_bytes(bytes(range(256)) * 16)
    (folder / "link.txt").symlink_to(folder / "book.txt")
    done = run("ask", QUESTION, folder, "--json")
    assert done.returncode == 0, done.stderr
    skipped = {Path(file["path"]).name for file in checked(done.stdout, ANSWER)["skipped_files"]}
    assert skipped == {"__init__.py", "logo.png", "link.txt"}
    assert "passed over 3" in done.stderr


def test_bad_settings_file(run: Run, book: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "readthrough.yaml").write_text("workflow: retrieve\nworkflow: retrieve\n")
    done = run("ask", QUESTION, book)
    assert done.returncode == 4
    assert "readthrough.yaml:2" in done.stderr


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, run: Run, book: Path) -> None:
    arguments, code, kind, word = BAD[case]
    arguments = [str(book) if argument == "BOOK" else argument for argument in arguments]
    plain = run(*arguments)
    assert plain.returncode == code, plain.stderr
    assert plain.stdout == ""
    assert word in plain.stderr
    assert plain.stderr.startswith("readthrough: ")
    assert plain.stderr.count("\n") == 1
    as_json = run(*arguments, "--json")
    assert as_json.returncode == code
    error = checked(as_json.stdout, ERROR)["error"]
    assert kind in ("", error["type"])
