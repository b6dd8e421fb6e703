"""`runs` and the budgets of `ask` in this process: real files, library, log and checkpoints, a scripted model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import readthrough as rt
from readthrough.api import Book
from readthrough.cli.main import run as run_command
from readthrough.errors import MissingPathError, ModelError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.models.scripted import ScriptedModel
from tests.cli_samples import Done, Run
from tests.home_samples import Terminal, ask_script, live_in, write_days
from tests.schemas import ANSWER, ERROR, checked

QUESTION = "Who keeps the light?"
CHAIN = ("--workflow", "chain-of-agents", "-o", "message_tokens=100")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_days(tmp_path / "here" / "book.txt", 200, 50).parent)
    ask_script(tmp_path, monkeypatch, "window_tokens: 1024\n")
    return live_in(tmp_path, monkeypatch)


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `readthrough` with arguments, `typed` or nothing coming in on standard input."""

    def call(*arguments: str, typed: str | None = None) -> Done:
        stdin = io.TextIOWrapper(io.BytesIO()) if typed is None else Terminal(typed)
        monkeypatch.setattr(sys, "stdin", stdin)
        if typed is not None:
            monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        return Done(run_command(list(arguments)), *capsys.readouterr())

    return call


def ask(run: Run, *flags: str, typed: str | None = None) -> Done:
    return run("ask", QUESTION, "book.txt", *CHAIN, *flags, typed=typed)


def test_a_budget_ends_a_run_and_resume_finishes_it(run: Run) -> None:
    whole = checked(ask(run, "--json").out, ANSWER)
    cut = ask(run, "--max-calls", "6", "--json")
    answer = checked(cut.out, ANSWER)
    assert cut.code == 3 and answer["stopped"] == "max_calls=6" and answer["coverage"]["unread"] > 0
    assert f"readthrough runs resume {answer['run']}" in cut.err
    shown = run("runs", "list", "--json").json["runs"]
    assert [(each["id"], each["state"]) for each in shown[:1]] == [(answer["run"], "stopped")]
    done = run("runs", "resume", answer["run"][-8:], "--json")
    resumed = checked(done.out, ANSWER)
    assert done.code == 0 and resumed["run"] == answer["run"]
    for value in (whole, resumed):
        del value["run"], value["usage"]
    assert resumed == whole
    assert run("runs", "resume", "last").out == run("runs", "resume", "last").out != ""


def test_a_trace_of_a_run_and_beside_an_answer(run: Run) -> None:
    done = ask(run, "--trace", "--json")
    answer = done.json
    trace = answer.pop("trace")
    checked(json.dumps(answer), ANSWER)
    quotes = [cause["evidence"]["quote"] for cause in trace["written"][0]["causes"] if cause["evidence"]]
    assert "Ann keeps the light on the cliff." in quotes and trace["run"] == answer["run"]
    again = run("runs", "trace", "last", "--json").json
    assert again["written"] == trace["written"]
    shown = run("runs", "trace", answer["run"], "--k", "1", "--no-check")
    assert "caused by" in shown.out and "1. “" in shown.out and "traced by search" in shown.err
    refused = run("runs", "trace", "last", "--method", "attention", "--json")
    assert refused.code == 5 and "its attention" in checked(refused.out, ERROR)["error"]["message"]


def test_an_answer_that_cannot_be_traced_is_printed_all_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ModelError("no attention here")

    monkeypatch.setattr(Book, "trace", fails)
    done = ask(run, "--trace", "--json")
    assert done.code == 0 and checked(done.out, ANSWER)["answer"]
    assert "not traced: no attention here" in done.err


@pytest.mark.parametrize(("flag", "value"), [("--max-tokens", "900"), ("--max-seconds", "0.000001")])
def test_other_budgets(flag: str, value: str, run: Run) -> None:
    done = ask(run, flag, value, "--json")
    assert done.code == 3 and checked(done.out, ANSWER)["stopped"] == f"{flag[2:].replace('-', '_')}={float(value):g}"


def test_show_replay_search_and_prune(run: Run) -> None:
    answer = checked(ask(run, "--json").out, ANSWER)
    shown = run("runs", "show", "last", "--json").json
    assert shown["run"]["id"] == answer["run"] and shown["run"]["result"] == answer
    nodes = [step["node"] for step in shown["steps"]]
    assert nodes == ["plan", *["work"] * (len(nodes) - 2), "manage"]
    assert shown["steps"][-1]["decisions"][0]["options"] == ["Yes", "No"]
    plain = run("runs", "show", "last").out
    assert "step 2  work" in plain and "noted    Ann keeps the light." in plain and "Yes 0.50" in plain
    replayed = run("runs", "replay", "last", "--json").json["steps"]
    text = Path("book.txt").read_text()
    read = [span for step in replayed if step["node"] == "work" for span in step["read"]]
    assert "".join(text[span["start"] : span["end"]] for span in read) == text
    assert all(span["line"] == text.count("\n", 0, span["start"]) + 1 for span in read)
    third = run("runs", "replay", "last", "--at", "3")
    assert "step 3" in third.out and "step 2" not in third.out
    assert run("runs", "replay", "last", "--at", "99").code == 2
    found = [run("runs", "search", text, "--json").json["runs"] for text in ("keeps the LIGHT", "zebra")]
    assert [len(rows) for rows in found] == [1, 0]
    assert run("runs", "prune").code == 2
    assert run("runs", "prune", "--older-than", "1", "--json").json["deleted"] == []
    assert run("runs", "prune", "--keep", "0", "--json").json["deleted"] == [answer["run"]]
    assert run("runs", "list", "--json").json["runs"] == []
    assert run("runs", "show", "last").code == 2


def test_a_replay_needs_neither_model_nor_texts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(run)
    Path("book.txt").unlink()
    monkeypatch.setenv("READTHROUGH_MODEL", "scripted:gone.yaml")
    assert "noted    Ann keeps the light." in run("runs", "replay", "last").out
    run("library", "delete", run("library", "list", "--json").json["documents"][0]["id"])
    assert "book.txt 0 to" in run("runs", "replay", "last").out


def test_dry_run_answers_nothing(run: Run, home: Path) -> None:
    done = ask(run, "--dry-run", "--json")
    cost = done.json
    assert done.code == 0 and cost["calls"] > 5 and cost["tokens"] == cost["prompt_tokens"] + cost["completion_tokens"]
    assert ask(run, "--dry-run").out.startswith("about ")
    assert RunLog(home / "runs.sqlite").runs() == []


def test_options_of_the_workflow(run: Run) -> None:
    steps = [
        len(run("runs", "show", "last", "--json").json["steps"])
        for tokens in ("100", "200")
        if ask(run, "-o", f"message_tokens={tokens}").code == 0
    ]
    assert steps[1] > steps[0]
    assert ask(run, "-o", "order=right-to-left").code == 0
    assert "did you mean 'message_tokens'" in ask(run, "-o", "mesage_tokens=1").err
    assert ask(run, "-o", "message_tokens").code == 2
    assert ask(run, "-o", "message_tokens=many").code == 4


def test_an_interrupt_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, calls = ScriptedModel.complete, []

    def interrupted(model: ScriptedModel, requests: Any) -> Any:
        calls.append(requests)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return complete(model, requests)

    with monkeypatch.context() as patched:
        patched.setattr(ScriptedModel, "complete", interrupted)
        done = ask(run)
    assert done.code == 130 and done.out == ""
    name = run("runs", "list", "--json").json["runs"][0]["id"]
    assert done.err == f"interrupted; `readthrough runs resume {name}` goes on\n"
    assert "Ann keeps the light." in run("runs", "resume", name).out


def test_an_interrupt_before_anything_was_read_says_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("readthrough.agents.workflows.chain_of_agents.ChainOfAgents._plan", interrupted)
    done = ask(run)
    assert (done.code, done.err) == (130, "interrupted\n")


def test_approval_without_a_terminal_and_with_one(run: Run) -> None:
    waiting = ask(run, "--approve-below", "0.99", "--json")
    assert waiting.code == 3 and checked(waiting.out, ANSWER)["stopped"] == "approve_below=0.99"
    denied = run("runs", "resume", "last", "--deny", "--json")
    assert denied.code == 3 and denied.json["abstained"] and "runs resume" not in denied.err
    assert run("runs", "resume", "last").code == 3
    yes = ask(run, "--approve-below", "0.99", typed="what\ny\n")
    assert yes.code == 0 and yes.out.startswith("Ann keeps the light.")
    assert yes.err.count("Accept it? [y/n]") == 2
    assert ask(run, "--approve-below", "0.99", typed="n\n").code == 3
    left = ask(run, "--approve-below", "0.99", typed="")
    assert left.code == 130 and "goes on" in left.err
    assert run("runs", "resume", "last", "--approve").code == 0


def test_a_changed_text_is_named(run: Run) -> None:
    ask(run, "--max-calls", "6")
    Path("book.txt").write_text("Something else.\n")
    done = run("runs", "resume", "last", "--json")
    assert done.code == 2
    assert "the documents (book.txt)" in checked(done.out, ERROR)["error"]["message"]


@pytest.mark.parametrize(
    "flags", [("--max-calls", "0"), ("--max-seconds", "-1"), ("--max-cost", "0"), ("--approve-below", "2")]
)
def test_budgets_that_are_none(flags: tuple[str, str], run: Run) -> None:
    done = ask(run, *flags)
    assert done.code == 2 and flags[0][2:].replace("-", "_") in done.err


def test_a_limit_of_money_wants_prices(run: Run) -> None:
    done = ask(run, "--max-cost", "1", "--json")
    error = checked(done.out, ERROR)["error"]
    assert done.code == 4 and error["type"] == "ConfigError" and "prices" in error["hint"]


def test_resuming_from_python(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut = checked(ask(run, "--max-calls", "6", "--json").out, ANSWER)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPathError, match="the run was asked in"):
        rt.resume(cut["run"])
    monkeypatch.chdir(tmp_path / "here")
    assert rt.resume("last", limits=rt.Limits(calls=7)).stopped == "max_calls=7"
    answer = rt.resume("last")
    assert (answer.run, answer.stopped) == (cut["run"], None)
    model = ScriptedModel(replies={"": "Ann keeps the light."}, window_tokens=1024)
    with rt.read("book.txt", model=model) as book:
        first = book.ask(QUESTION, workflow="chain-of-agents", message_tokens=100, limits=rt.Limits(calls=6))
    with pytest.raises(UsageError, match="handed over ready"):
        rt.resume(first.run)
    assert rt.resume(first.run, model=model).stopped is None


def test_keys_are_not_kept(run: Run, home: Path) -> None:
    spec = {
        "openai": {
            "model": "m",
            "api_key": "sk-secret",
            "base_url": "http://me:secret@127.0.0.1:9/v1",
            "window_tokens": 4096,
        }
    }
    with rt.read("book.txt", model=spec) as book, pytest.raises(rt.ReadthroughError):
        book.ask(QUESTION, limits=rt.Limits(seconds=5))
    kept = b"".join(path.read_bytes() for path in home.glob("runs.sqlite*"))
    assert b"127.0.0.1:9" in kept and b"secret" not in kept


def test_diff_shows_the_first_step_that_differs(run: Run, home: Path) -> None:
    first = checked(ask(run, "--json").out, ANSWER)["run"]
    second = checked(ask(run, "--json").out, ANSWER)["run"]
    same = run("runs", "diff", first, second, "--json").json
    assert same["first"] is None and same["different"] == [] and same["same"] == same["steps"] > 3
    assert same["changed"] == [] and same["a"]["coverage"] == same["b"]["coverage"]
    assert "steps are the same" in run("runs", "diff", first, second).out
    text = Path("book.txt").read_text()
    Path("book.txt").write_text(text.replace("On day 190 ", "On day 190 the storm came, and "))
    script = home.parent / "script.yaml"
    script.write_text(
        'replies: {storm: "Ann keeps the light.\\nA storm came.", "": Ann keeps the light.}\nwindow_tokens: 1024\n'
    )
    edited = checked(ask(run, "--json").out, ANSWER)["run"]
    found = run("runs", "diff", first, edited, "--json").json
    assert found["changed"] == ["the documents (book.txt)"]
    steps = [step["node"] for step in run("runs", "show", first, "--json").json["steps"]]
    assert steps[found["first"]["a"] - 1] == "work" and found["first"]["a"] > 0.8 * len(steps)
    assert set(found["first"]["differs"]) == {"read", "noted"}
    assert "+A storm came." in found["first"]["texts"] and "-A storm" not in found["first"]["texts"]
    told = run("runs", "diff", first, edited).out
    assert "  +A storm came." in told and "+ answer" in told and "differ, the first is" in told
    assert run("runs", "diff", first, "nowhere").code == 2


def test_as_of_reads_nothing_after_it(run: Run) -> None:
    done = ask(run, "--as-of", "line 99", "--json")  # the fact stands in line 101
    answer = checked(done.out, ANSWER)
    assert (
        answer["as_of"]["line"] == 99 and answer["as_of"]["end"] == Path("book.txt").read_text().index("Ann keeps") - 1
    )
    assert answer["coverage"]["unread"] >= answer["as_of"]["unread_tokens"] > answer["coverage"]["tokens"] // 2
    assert "as of line 99 of book.txt (to line 99)" in ask(run, "--as-of", "line 99").err
    hits = run("search", "keeps the light", "book.txt", "--as-of", "15%", "--json").json["hits"]
    assert hits and not any("Ann keeps" in hit["quote"] for hit in hits)
    wrong = ask(run, "--as-of", "chapter 3")
    assert wrong.code == 4 and "no section 'chapter 3'" in wrong.err
    cut = ask(run, "--as-of", "50%", "--max-calls", "6", "--json")
    whole = checked(ask(run, "--as-of", "50%", "--json").out, ANSWER)
    resumed = checked(run("runs", "resume", checked(cut.out, ANSWER)["run"], "--json").out, ANSWER)
    assert resumed["as_of"] == whole["as_of"] and resumed["coverage"] == whole["coverage"]
