"""`ask`, `search`, `index` and `library` from a shell: what they print where, and how they end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from readthrough.documents.load import load
from tests.e2e.conftest import COMMAND, Run

QUESTION = "Who keeps the light?"

NUMBER = {"type": "number"}
TEXT_OR_NULL = {"type": ["string", "null"]}
EVIDENCE = {
    "document": {"type": "string"},
    "start": {"type": "integer"},
    "end": {"type": "integer"},
    "quote": {"type": "string", "minLength": 1},
    "page": {"type": ["integer", "null"]},
    "line": {"type": ["integer", "null"]},
    "section": TEXT_OR_NULL,
    "supports": {"type": "array", "items": {"type": "integer"}},
    "verified": {"type": "boolean"},
}
STATES = ("tokens", "read", "retrieved", "compressed", "gisted", "skipped", "unread")
COVERAGE = {state: {"type": "integer", "minimum": 0} for state in STATES}
USAGE = {
    **{key: {"type": "integer"} for key in ("prompt_tokens", "cached_tokens", "completion_tokens", "calls")},
    "seconds": NUMBER,
    "cost": {"type": ["number", "null"]},
}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema of an object with these properties, all of them, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ANSWER = closed(
    {
        "schema": {"const": 1},
        "question": {"type": "string"},
        "choices": {"type": ["array", "null"], "items": {"type": "string"}},
        "answer": {"type": "string"},
        "abstained": {"type": "boolean"},
        "confidence": {"type": ["number", "null"]},
        "stopped": TEXT_OR_NULL,
        "evidence": {"type": "array", "items": closed(EVIDENCE)},
        "coverage": closed(COVERAGE),
        "skipped_files": {"type": "array", "items": closed({"path": {"type": "string"}, "reason": {"type": "string"}})},
        "usage": closed(USAGE),
        "workflow": {"type": "string"},
        "model": {"type": "string"},
        "plan": {"type": "string"},
        "run": {"type": "string", "minLength": 1},
    }
)
HITS = closed(
    {
        "schema": {"const": 1},
        "hits": {
            "type": "array",
            "items": closed(
                {key: EVIDENCE[key] for key in ("document", "start", "end", "quote", "page", "line", "section")}
                | {"score": NUMBER}
            ),
        },
    }
)
ERROR = closed(
    {
        "schema": {"const": 1},
        "error": closed(
            {"type": {"type": "string"}, "message": {"type": "string"}, "path": TEXT_OR_NULL, "hint": TEXT_OR_NULL}
        ),
    }
)


def checked(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The one JSON object that `text` is, if it has the schema."""
    value: dict[str, Any] = json.loads(text)
    jsonschema.validate(value, schema)
    return value


def test_ask(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Ann keeps the light."
    assert "Ann keeps the light on the cliff" in done.stdout
    assert any(line.strip().startswith(f"{book}, line 301") for line in lines)
    assert done.stderr.startswith("read ")
    assert done.stderr.count("\n") == 1, "no bars, no warnings where standard error is no terminal"
    assert "\x1b" not in done.stdout + done.stderr


def test_show_none_and_quiet(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--show", "none", "--quiet")
    assert (done.stdout, done.stderr, done.returncode) == ("Ann keeps the light.\n", "", 0)


def test_stream(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--stream", "--show", "none", "--quiet")
    assert (done.stdout, done.returncode) == ("Ann keeps the light.\n", 0)


def test_ask_as_json(run: Run, book: Path) -> None:
    done = run("ask", QUESTION, book, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    answer = checked(done.stdout, ANSWER)
    text = load(book).text
    assert answer["evidence"]
    for item in answer["evidence"]:
        assert item["verified"]
        assert text[item["start"] : item["end"]] == item["quote"]
    coverage = answer["coverage"]
    assert sum(coverage.values()) == 2 * coverage["tokens"] > 0


def test_several_questions_are_a_line_each(run: Run, book: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "Which?", "choices": ["Ann", "Tom"]}) + "\n")
    done = run("ask", "--questions", questions, book, "-q", QUESTION, "--json")
    lines = done.stdout.splitlines()
    assert [checked(line, ANSWER)["question"] for line in lines] == ["Which?", QUESTION]
    assert json.loads(lines[0])["choices"] == ["Ann", "Tom"]


def test_choices(run: Run, book: Path) -> None:
    done = run("ask", "Who keeps it?", book, "--choice", "Tom", "--choice", "Ann", "--json")
    assert checked(done.stdout, ANSWER)["choices"] == ["Tom", "Ann"]
    assert run("ask", "Who?", book, "--choice", "Ann").returncode == 2


@pytest.mark.parametrize("paths", [[], ["-"]])
def test_standard_input(run: Run, book: Path, paths: list[str]) -> None:
    done = run("ask", QUESTION, *paths, "--json", stdin=book.read_bytes())
    answer = checked(done.stdout, ANSWER)
    assert {item["document"] for item in answer["evidence"]} == {"-"}


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
    "home": (["ask", QUESTION, "BOOK", "--home", "/dev/null/x"], 1, "LibraryError", "/dev/null"),
}


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


def test_bad_settings_file(run: Run, book: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "readthrough.yaml").write_text("workflow: retrieve\nworkflow: retrieve\n")
    done = run("ask", QUESTION, book)
    assert done.returncode == 4
    assert "readthrough.yaml:2" in done.stderr


def on_terminal(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run with standard input and standard error on a terminal: exit code, standard output, what the terminal got."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *arguments], stdin=end, stdout=subprocess.PIPE, stderr=end, env={**environment, "TERM": "xterm"}
    )
    os.close(end)
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # what Linux says when the other end is closed
            break
        if not piece:
            break
        seen += piece
    assert process.stdout is not None
    out = process.stdout.read().decode()
    os.close(terminal)
    return process.wait(timeout=60), out, seen.decode()


def test_question_without_text(environment: dict[str, str]) -> None:
    code, out, seen = on_terminal(["ask", QUESTION], environment)
    assert (code, out) == (2, "")
    assert "no text to read" in seen


def test_colours(environment: dict[str, str], book: Path) -> None:
    assert "\x1b[2m" in on_terminal(["ask", QUESTION, str(book)], environment)[2]
    for arguments, extra in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        seen = on_terminal(["ask", QUESTION, str(book), *arguments], {**environment, **extra})[2]
        assert "\x1b[3" not in seen


def test_broken_pipe(run: Run, environment: dict[str, str], book: Path, tmp_path: Path) -> None:
    questions = tmp_path / "many.txt"
    questions.write_text("\n".join(f"{QUESTION} {number}" for number in range(200)))
    process = subprocess.Popen(
        [COMMAND, "ask", "--questions", str(questions), str(book), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 141
    assert run("ask", QUESTION, book).returncode == 0


def interrupt(arguments: list[str], environment: dict[str, str], when: Path) -> tuple[int, str]:
    """Press Ctrl-C once the file `when` is there: exit code and standard error."""
    process = subprocess.Popen(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not when.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


def test_interrupted_while_indexing(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}.txt").write_text(f"Page {number}. " + "The boats went out at dawn. " * 400)
    (folder / "keeper.txt").write_text("Ann keeps the light.")
    code, err = interrupt(["index", str(folder)], environment, tmp_path / "home" / "library.sqlite")
    assert (code, err) == (130, "interrupted\n")
    done = run("ask", QUESTION, folder, "--json")
    assert done.returncode == 0, done.stderr
    assert checked(done.stdout, ANSWER)["evidence"]


def test_interrupted_while_answering(run: Run, environment: dict[str, str], book: Path, tmp_path: Path) -> None:
    questions = tmp_path / "many.txt"
    questions.write_text("\n".join(f"{QUESTION} {number}" for number in range(2000)))
    assert run("index", book).returncode == 0
    code, err = interrupt(
        ["ask", "--questions", str(questions), str(book), "--quiet"], environment, tmp_path / "home" / "runs.sqlite"
    )
    assert (code, err) == (130, "interrupted\n")
    assert run("ask", QUESTION, book).returncode == 0


def test_module_and_command_are_one(environment: dict[str, str]) -> None:
    module = subprocess.run([sys.executable, "-m", "readthrough", "--version"], capture_output=True, env=environment)
    command = subprocess.run([COMMAND, "--version"], capture_output=True, env=environment)
    assert module.stdout == command.stdout != b""


def test_shell_completion_is_offline_and_light(environment: dict[str, str]) -> None:
    asked = {**environment, "_READTHROUGH_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    asked["COMP_WORDS"] = "readthrough ask --workflow chain"
    done = subprocess.run([COMMAND], capture_output=True, text=True, env=asked, timeout=30)
    assert done.stdout.split() == ["chain-of-agents"]
