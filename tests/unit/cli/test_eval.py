"""`eval` in this process: real files, library, results and reports, a scripted model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from readthrough.cli.main import run as run_command
from readthrough.evaluation.store import Result, Store
from tests.cli_samples import Done, Run
from tests.evaluation_samples import GRID, write_grid, write_questions
from tests.schemas import ERROR, checked


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `readthrough` with arguments, in a folder with a grid."""
    write_grid(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / "user" / name)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        return Done(run_command(list(arguments)), *capsys.readouterr())

    return call


def test_run_prints_scores_writes_reports_and_goes_on(run: Run, tmp_path: Path) -> None:
    done = run("eval", "run", "grid.yaml", "--jsonl", "rows.jsonl")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "questions(path=data)" and "score (95% interval)" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["chain-of-agents(message_tokens=100)", "retrieve"]
    assert lines[3].split()[1] == "0.333" and "6 questions were asked, 0 had an answer from before" in done.err
    folder = tmp_path / "evaluations" / "grid"
    assert "retrieve" in (folder / "report.md").read_text()
    assert (folder / "report.html").read_text().startswith("<!")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    store = Store(folder)
    assert [Result.from_dict(row) for row in rows] == store.results() and len(rows) == 6
    store.close()
    assert any((folder / "library").iterdir())
    again = run("eval", "run", "grid.yaml")
    assert again.out == done.out and "0 questions were asked, 6 had an answer from before" in again.err


def test_run_as_json(run: Run, tmp_path: Path) -> None:
    done = run("eval", "run", "grid.yaml", "--json", "--into", "here", "--workflow", "retrieve")
    said = done.json
    assert done.code == 0 and (tmp_path / "here" / "results.sqlite").is_file()
    assert {name: said[name] for name in ("schema", "folder", "asked", "kept", "failed", "left")} == {
        "schema": 1,
        "folder": "here",
        "asked": 3,
        "kept": 0,
        "failed": 0,
        "left": 0,
    }
    (row,) = said["scores"]
    assert row["system"] == "retrieve" and row["questions"] == 3 and row["score"] == pytest.approx(1 / 3)
    assert row["low"] <= row["score"] <= row["high"] and row["mean_tokens"] > 0


def test_what_is_left_or_failed_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grid(tmp_path, GRID + "budget: {seconds: 0.000001}\n")
    done = run("eval", "run", "grid.yaml")
    assert done.code == 3
    assert "the budget is spent: 6 are left; `readthrough eval run grid.yaml` goes on" in done.err
    write_grid(tmp_path)
    (tmp_path / "data" / "docs" / "book.txt").write_bytes(b"\x00\x01" * 50)
    done = run("eval", "run", "grid.yaml", "-v")
    assert done.code == 3 and "6 failed and score 0; `readthrough eval run grid.yaml` tries them again" in done.err
    assert "NotTextError" in done.err


def test_an_interrupt_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("readthrough.evaluation.running.evaluate", interrupted)
    done = run("eval", "run", "grid.yaml", "--into", "my folder")
    assert done.code == 130
    assert done.err == "interrupted; `readthrough eval run grid.yaml --into 'my folder'` goes on\n"


def test_errors_are_one_line(run: Run, tmp_path: Path) -> None:
    write_grid(tmp_path, GRID.replace("questions:", "qestions:"))
    done = run("eval", "run", "grid.yaml")
    assert done.code == 4
    assert done.err == "readthrough: grid.yaml:2: unknown task 'qestions' (did you mean 'questions'?)\n"
    done = run("eval", "run", "none.yaml", "--json")
    assert done.code == 4 and checked(done.out, ERROR)["error"]["path"] == "none.yaml"
    assert not (tmp_path / "evaluations").exists()
    assert run("eval", "report").code == 2
    assert run("eval", "report", "nowhere").code == 4
    assert run("eval", "compare", "retrieve", "chain-of-agents").code == 2


def test_report_can_score_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("eval", "run", "grid.yaml")
    monkeypatch.setattr("readthrough.evaluation.base.score", lambda example, answer: 0.5)
    before = run("eval", "report", "--json").json
    assert [row["score"] for row in before["scores"]] == pytest.approx([1 / 3, 1 / 3])
    done = run("eval", "report", "--rescore", "--json")
    assert {row["score"] for row in done.json["scores"]} == {0.5} and "6 of 6 scores changed" in done.err
    assert all((tmp_path / path).is_file() for path in done.json["reports"])


def test_compare_systems_and_folders(run: Run, tmp_path: Path) -> None:
    run("eval", "run", "grid.yaml")
    done = run("eval", "compare", "retrieve", "chain")
    lines = done.out.splitlines()
    assert lines[0] == "retrieve: 0.333" and lines[1] == "chain-of-agents(message_tokens=100): 0.333"
    assert lines[-1] == "the difference is smaller than its interval: these 3 questions show none"
    write_questions(tmp_path, answers=("Ann",))
    run("eval", "run", "grid.yaml", "--into", "better")
    said = run("eval", "compare", "evaluations/grid", "better", "--json").json["comparisons"]
    assert [row["one"] for row in said] == [
        "evaluations/grid: retrieve",
        "evaluations/grid: chain-of-agents(message_tokens=100)",
    ]
    assert said[0]["difference"] == pytest.approx(2 / 3) and said[0]["wins"] == 2 and said[0]["losses"] == 0
    assert said[0]["p"] is not None and said[0]["low"] <= said[0]["difference"] <= said[0]["high"]
    one = run("eval", "compare", "evaluations/grid:retrieve", "better:retrieve", "--json").json["comparisons"]
    assert one[0]["difference"] == said[0]["difference"]
    unknown = run("eval", "compare", "retreive", "chain")
    assert unknown.code == 4 and "did you mean 'retrieve'?" in unknown.err


def test_a_model_judges_the_answers(run: Run, tmp_path: Path) -> None:
    run("eval", "run", "grid.yaml")
    script = tmp_path / "judge.yaml"
    script.write_text('choices: {"Right answer: Ann": "Yes", "Right answer: Ben": "Yes", "Answer 1": "1", "": "No"}\n')
    done = run("eval", "judge", "--model", f"scripted:{script}", "--json")
    assert done.code == 0, done.err
    said = done.json
    assert said["folder"] == "evaluations/grid" and said["swapped_ratio"] is None
    assert {row["system"]: (row["answers"], row["right"]) for row in said["systems"]} == {
        "retrieve": (3, pytest.approx(2 / 3)),
        "chain-of-agents(message_tokens=100)": (3, pytest.approx(2 / 3)),
    }
    assert "right by scripted:" in (tmp_path / "evaluations" / "grid" / "report.md").read_text()
    ranked = run("eval", "judge", "evaluations/grid", "--rank", "--model", f"scripted:{script}")
    assert ranked.code == 0 and ranked.out.splitlines()[0].split()[-1] == "strength"
    assert "are ties" in ranked.err
    assert run("eval", "judge", "nowhere").code == 4


def test_tasks_are_listed_with_their_options(run: Run) -> None:
    done = run("eval", "tasks")
    lines = done.out.splitlines()
    assert "questions" in lines and "    options: path, limit, ids" in lines
    rows = {row["name"]: row for row in run("eval", "tasks", "--json").json["tasks"]}
    assert rows["questions"]["options"] == {"path": None, "limit": None, "ids": None}
    assert "ids:" in run("eval", "tasks", "questions").out
    assert run("eval", "tasks", "qestions").code == 4


def test_calibrate_from_the_answers_of_an_evaluation(run: Run, tmp_path: Path) -> None:
    write_questions(tmp_path, 12)
    assert run("eval", "run", "grid.yaml").code == 0
    store = Store(tmp_path / "evaluations" / "grid")
    model = store.results()[0].answer["model"]
    store.close()
    done = run("eval", "calibrate", "--from", "evaluations/grid", "--model", model, "--home", "home", "--json")
    said = done.json
    assert done.code == 0 and said["model"] == model and said["answers"] == 24
    assert said["right_ratio"] == 0.25 and said["calibration"]["written"]["weights"].keys() == {"stated"}
    kept = json.loads((tmp_path / "home" / "calibrations.json").read_text())
    assert kept == {model: said["calibration"]}
    plain = run("eval", "calibrate", "--from", "evaluations/grid", "--model", model, "--home", "home")
    assert "24 answers, 25% of them right" in plain.out and "--abstain-below" in plain.out
    for arguments in ((), ("--from", "evaluations/grid", "data"), ("--from", "evaluations/grid", "--model", "small")):
        assert checked(run("eval", "calibrate", *arguments, "--json").out, ERROR)["error"]["type"] == "UsageError"
