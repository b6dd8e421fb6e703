"""`readthrough summarize` from a shell: the summary, its evidence, budgets; and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import readthrough as rt
from readthrough.models.scripted import ScriptedModel
from tests.e2e.conftest import Run
from tests.schemas import ANSWER, checked

SUMMARY = "Ann keeps the light."
SMALL = ("-o", "window_tokens=900", "-o", "summary_tokens=60")


def test_a_summary_with_its_evidence(run: Run, book: Path) -> None:
    done = run("summarize", book, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == SUMMARY
    assert "Ann keeps the light on the cliff" in done.stdout
    assert done.stderr.startswith("read ") and "not looked at" not in done.stderr


@pytest.mark.parametrize("form", ["hierarchical", "rolling"])
def test_json_and_a_focus(run: Run, book: Path, form: str) -> None:
    arguments = ("--words", "30", "--focus", "the light", "--form", form, "--json", "--quiet")
    done = run("summarize", book, *SMALL, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    answer = checked(done.stdout, ANSWER)
    assert answer["workflow"] == "iterative-summary" and "the light" in answer["question"]
    assert answer["coverage"]["read"] == answer["coverage"]["tokens"] > 2_000
    assert [item["supports"] for item in answer["evidence"]] == [[0]]
    assert answer["usage"]["calls"] > 2


def test_streaming_from_standard_input(run: Run, book: Path) -> None:
    done = run("summarize", "--stream", "--show", "none", "--quiet", stdin=book.read_text())
    assert (done.stdout, done.returncode) == (f"{SUMMARY}\n", 0)


def test_a_budget_ends_it_with_what_was_read(run: Run, book: Path) -> None:
    done = run("summarize", book, *SMALL, "--max-calls", "3", "--json")
    assert done.returncode == 3
    answer = checked(done.stdout, ANSWER)
    assert answer["stopped"] == "max_calls=3" and answer["answer"] == SUMMARY
    assert 0 < answer["coverage"]["read"] < answer["coverage"]["tokens"]
    on = run("runs", "resume", answer["run"], "--json")
    assert on.returncode == 0, on.stderr
    whole = checked(on.stdout, ANSWER)
    assert whole["coverage"]["unread"] == 0 and whole["run"] == answer["run"]


def test_dry_run_says_what_it_would_take(run: Run, book: Path) -> None:
    done = run("summarize", book, *SMALL, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["calls"] > 2


def test_in_python(book: Path, tmp_path: Path) -> None:
    model = ScriptedModel(replies={"": SUMMARY})
    with rt.read(book, model=model, home=tmp_path / "home", index="bm25") as opened:
        answer = opened.summarize(words=30, focus="the light", form="rolling", window_tokens=900)
        assert answer.answer == SUMMARY and answer.coverage.unread == 0
        assert "in at most 30 words" in model.calls[0].request.messages[-1].content
        assert "the light" in model.calls[0].request.messages[-1].content
        opened.summarize()
        assert "in at most 200 words" in model.calls[-1].request.messages[-1].content
