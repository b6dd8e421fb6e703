"""`chat` and `runs search` in this process: real files, library, conversations and log, a scripted model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from readthrough.cli.main import run as run_command
from readthrough.memory.conversations import Conversations
from readthrough.models.scripted import ScriptedModel
from tests.cli_samples import Done, Run
from tests.home_samples import Terminal, ask_script, live_in, write_days
from tests.schemas import ANSWER, ERROR, checked

WHO = "Who keeps the light?"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_days(tmp_path / "here" / "book.txt", 60, 30).parent)
    ask_script(tmp_path, monkeypatch)
    return live_in(tmp_path, monkeypatch)


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `readthrough` with arguments; `piped` comes in on standard input, or `typed` at a terminal."""

    def call(*arguments: str, piped: str | bytes = "", typed: str | None = None) -> Done:
        data = piped.encode() if isinstance(piped, str) else piped
        stdin = io.TextIOWrapper(io.BytesIO(data)) if typed is None else Terminal(typed)
        monkeypatch.setattr(sys, "stdin", stdin)
        return Done(run_command(list(arguments)), *capsys.readouterr())

    return call


def test_questions_from_a_pipe(run: Run) -> None:
    done = run("chat", "book.txt", "--session", "whale", piped=f"{WHO}\n\n   \n{WHO[:-1]}\n")
    assert done.code == 0
    assert done.out.count("Ann keeps the light.\n") == 2 and done.out.count("book.txt, line 61") == 2
    assert "a new conversation: whale" in done.err and "answered from the log: run " in done.err
    assert "`readthrough chat --session whale` goes on" in done.err
    assert ">" not in done.out and "/help" not in done.err, "nobody sits at a prompt"
    on = run("chat", "--session", "whale", "--quiet", piped=WHO)
    assert (on.code, on.err) == (0, "") and on.out.startswith("Ann keeps the light.\n"), "the texts are known"


def test_answers_as_json_lines(run: Run) -> None:
    done = run("chat", "book.txt", "--json", "--quiet", piped=f"\ufeff{WHO}\n/nonsense\n{WHO}\n")
    first, error, second = done.out.splitlines()
    one, two = checked(first, ANSWER), checked(second, ANSWER)
    assert one["question"] == WHO and one["usage"]["calls"] > two["usage"]["calls"]
    assert one["run"] == two["run"]
    assert "there is no /nonsense" in checked(error, ERROR)["error"]["message"]
    assert done.code == 2, "the first that went wrong, and all others answered"


def test_fresh(run: Run) -> None:
    rows = [json.loads(run("chat", "book.txt", "--json", "--fresh", piped=WHO).out) for _ in range(2)]
    assert rows[0]["run"] != rows[1]["run"] and rows[1]["usage"]["calls"] > 0


def test_commands(run: Run) -> None:
    done = run(
        "chat", "book.txt", piped=f"{WHO}\n/turns\n/sources\n/similar light\n/help\n/trns\n/again\n/quit\n{WHO}\n"
    )
    assert "  1. Who keeps the light?\n     Ann keeps the light.\n" in done.out
    assert "book.txt  text, " in done.out and "/similar TEXT" in done.err
    assert "did you mean /turns?" in done.err
    assert done.out.count("Ann keeps the light.\n\n 1. ") == 2, "asked, and again; what stands after /quit is not heard"
    rows = run("chat", "book.txt", "--json", "--quiet", piped="/turns\n/sources\n/similar light\n").out.splitlines()
    turns, sources, runs = map(json.loads, rows)
    assert (turns["turns"], sources["sources"][0]["document"]) == ([], "book.txt")
    assert {row["question"] for row in runs["runs"]} == {WHO} and runs["runs"][0]["score"] > 0


def test_a_path_is_no_command(run: Run) -> None:
    done = run("chat", "book.txt", "--quiet", piped="/etc/passwd is read by whom?\n")
    assert (done.code, done.out) == (0, "The text does not say.\n"), "no word of it stands in the text"


def test_nothing_asked(run: Run) -> None:
    done = run("chat", "book.txt", piped="")
    assert (done.code, done.out) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat"], "there is no text to ask"),
        (["chat", "-"], "standard input brings the questions"),
        (["chat", "--session", "whael"], "no conversation is named 'whael'"),
        (["chat", "--session", "last"], "no conversation is named 'last'"),
        (["chat", "book.txt", "--max-calls", "0"], "max_calls"),
        (["chat", "--delete", "whale"], "no conversation is named 'whale'"),
        (["runs", "search", "  "], "nothing to look for"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, run: Run) -> None:
    done = run(*arguments, piped=WHO)
    assert done.code == 2 and message in done.err and done.out == ""


def test_what_is_not_text_is_said(run: Run) -> None:
    done = run("chat", "book.txt", piped=WHO.encode() + b"\n\xff\xfe\xff\n")
    assert done.code == 4 and "standard input:2" in done.err and done.out.startswith("Ann keeps")


def test_texts_that_changed_are_told(run: Run) -> None:
    run("chat", "book.txt", "--session", "whale", piped=WHO)
    Path("book.txt").write_text("Nobody keeps the light.\n")
    Path("more.txt").write_text("A second text.\n")
    told = run("chat", "book.txt", "more.txt", "--session", "whale", "--quiet", piped=WHO)
    assert "book.txt was changed: earlier answers may not hold any more" in told.err and "more.txt is new" in told.err
    Path("book.txt").unlink()
    gone = run("chat", "--session", "whale", piped=WHO)
    assert gone.code == 4 and "book.txt" in gone.err


def test_from_another_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("chat", "book.txt", "--session", "whale", piped=WHO)
    monkeypatch.chdir(tmp_path)
    done = run("chat", "--session", "whale", "--json", "--quiet", piped=WHO)
    assert checked(done.out, ANSWER)["evidence"][0]["document"] == str(tmp_path / "here" / "book.txt")
    assert "changed" not in done.err and "is new" not in done.err


def test_list_and_delete(run: Run, home: Path) -> None:
    assert run("chat", "--list").out == ""
    run("chat", "book.txt", "--session", "whale", piped=WHO)
    run("chat", "book.txt", "--session", "shark", piped=f"{WHO}\nWhat did you tell me about the light?\n")
    listed = run("chat", "--list", "--json").json["conversations"]
    assert [(row["name"], row["turns"], row["texts"]) for row in listed] == [
        ("shark", 2, ["book.txt"]),
        ("whale", 1, ["book.txt"]),
    ]
    assert run("chat", "--list").out.splitlines()[1].startswith("whale")
    assert run("chat", "--delete", "shark", "--json").json == {"schema": 1, "deleted": "shark"}
    log = Conversations(home / "conversations.sqlite")
    assert [session.name for session in log.sessions()] == ["whale"]
    assert run("runs", "list", "--json").json["runs"], "runs stay"


def test_ctrl_c_stops_an_answer_and_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    complete = ScriptedModel.complete

    def interrupted(model: ScriptedModel, requests: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return complete(model, requests)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedModel, "complete", interrupted)
    done = run("chat", "book.txt", "--json", typed=f"{WHO}\n/again\n")
    assert done.code == 0 and "stopped; /again goes on" in done.err and done.err.count("> ") == 3
    assert checked(done.out, ANSWER)["answer"] == "Ann keeps the light."
    assert len(run("runs", "list", "--json").json["runs"]) == 1
    calls = 0
    piped = run("chat", "book.txt", "--fresh", piped=f"{WHO}\n{WHO}\n")
    assert (piped.code, piped.out) == (130, ""), "in a pipe nobody could go on"


def test_runs_search(run: Run) -> None:
    run("ask", WHO, "book.txt")
    run("ask", "How many baskets came back on day 7?", "book.txt")
    found = run("runs", "search", "baskets of a day", "--json").json["runs"]
    assert found[0]["question"].startswith("How many baskets") and found[0]["score"] > 0
    assert {"id", "started", "answer", "state"} <= found[0].keys()
    lines = run("runs", "search", "light", "--limit", "1").out.splitlines()
    assert lines[0].endswith("done") and lines[1:] == [f"  {WHO}", "  Ann keeps the light."]
    assert run("runs", "search", "zebra").out == ""
    assert [row["question"] for row in run("runs", "list", "--text", "LIGHT?", "--json").json["runs"]] == [WHO]
    assert len(run("library", "list", "--json").json["documents"]) == 1, "runs are no texts of the library"
