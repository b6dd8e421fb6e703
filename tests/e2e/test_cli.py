"""`ask`, `search`, `index` and `library` from a shell: what they print where, and how they end."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from readthrough.documents.load import load
from tests.e2e.conftest import COMMAND, Run
from tests.schemas import ANSWER, checked

QUESTION = "Who keeps the light?"


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


def test_the_small_model_finds_it(run: Run, book: Path) -> None:
    """Nothing scripted: the embedded model, the embedder, both indexes."""
    real = {"READTHROUGH_MODEL": "small", "READTHROUGH_INDEX": "hybrid"}
    done = run("ask", "Who keeps the light on the cliff?", book, "--json", extra=real)
    assert done.returncode == 0, done.stderr
    answer = checked(done.stdout, ANSWER)
    assert "Ann" in answer["answer"]
    assert any("Ann keeps the light" in item["quote"] for item in answer["evidence"])
    assert answer["model"] == "small"
    assert answer["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("paths", [[], ["-"]])
def test_standard_input(run: Run, book: Path, paths: list[str]) -> None:
    done = run("ask", QUESTION, *paths, "--json", stdin=book.read_bytes())
    answer = checked(done.stdout, ANSWER)
    assert {item["document"] for item in answer["evidence"]} == {"-"}


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
    questions.write_text("\n".join(f"{QUESTION} {number}" for number in range(30)))
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
    for number in range(150):
        (folder / f"{number}.txt").write_text(f"Page {number}. " + "The boats went out at dawn. " * 200)
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
    assert code == 130
    assert re.fullmatch(r"interrupted(; `readthrough runs resume \S+` goes on)?\n", err)
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
