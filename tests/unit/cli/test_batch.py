"""`batch run|status|retry` in this process: flags, wrong usage, what is said of failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readthrough.batch.open import open_table
from readthrough.batch.running import run as run_batch
from readthrough.cli.main import run as run_command
from readthrough.config import Settings
from tests.batch_samples import SAID, WHO, asking, lights, rows, scripted, write_folder, write_script
from tests.cli_samples import Done, Run
from tests.schemas import ERROR, checked


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in {
        "XDG_CONFIG_HOME": tmp_path / "config",
        "READTHROUGH_HOME": tmp_path / "home",
        "READTHROUGH_MODEL": f"scripted:{write_script(tmp_path / 'script.yaml')}",
        "READTHROUGH_INDEX": "bm25",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Done:
        code = run_command(["batch", *map(str, arguments)])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "docs", lights(2))


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["docs", "-q", WHO], 2, "where are the results to go"),
        (["docs", "--out", "o.jsonl"], 2, "nothing to do"),
        (["docs", "-q", WHO, "--out", "o.txt"], 2, "suffix"),
        (["docs", "-q", WHO, "--out", "nowhere/o.jsonl"], 2, "does not exist"),
        (["nowhere", "-q", WHO, "--out", "o.jsonl"], 4, "no such folder"),
        (["docs", "-q", WHO, "-q", WHO, "--out", "o.jsonl"], 2, "the same twice"),
        (["docs", "-q", " ", "--out", "o.jsonl"], 2, "empty"),
        (["docs", "-q", WHO, "--words", "9", "--out", "o.jsonl"], 2, "--summarize"),
        (["docs", "-q", WHO, "--out", "o.jsonl", "--tries", "0"], 2, "tries"),
        (["docs", "-q", WHO, "--out", "o.jsonl", "--over", "nothing"], 2, "over"),
        (["docs", "-q", WHO, "--out", "o.jsonl", "--workflow", "retreive"], 4, "retrieve"),
        (["docs", "-q", WHO, "--out", "o.jsonl", "-o", "kk=3"], 4, "kk"),
        (["docs", "-q", WHO, "--out", "o.jsonl", "--include", "!"], 2, "pattern"),
        (["docs", "--questions", "nowhere.txt", "--out", "o.jsonl"], 4, "nowhere.txt"),
    ],
)
def test_wrong_usage(run: Run, folder: Path, arguments: list[str], code: int, match: str) -> None:
    done = run("run", *arguments)
    assert done.code == code, done.err
    assert match in done.err
    assert done.err.count("\n") == 1
    as_json = run("run", *arguments, "--json")
    assert as_json.code == code
    assert match in checked(as_json.out, ERROR)["error"]["message"] + str(as_json.json["error"])


@pytest.mark.parametrize(
    "flags",
    [
        ["-q", WHO],
        ["--out", "o.jsonl"],
        ["--summarize"],
        ["--include", "*"],
        ["--no-recursive"],
        ["--tries", "2"],
        ["--workers", "1"],
        ["--over", "folder"],
        ["--document-calls", "3"],
        ["--max-calls", "3"],
        ["--words", "3"],
    ],
)
def test_flags_that_a_yaml_file_says(run: Run, folder: Path, flags: list[str]) -> None:
    Path("job.yaml").write_text(json.dumps({"folder": "docs", "out": "o.jsonl", "questions": [WHO]}))
    done = run("run", "job.yaml", *flags)
    assert done.code == 2
    assert f"{flags[0]} is not for here" in done.err


def test_a_yaml_file_with_settings_from_flags(run: Run, folder: Path) -> None:
    Path("job.yaml").write_text(json.dumps({"folder": "docs", "out": "o.jsonl", "questions": [WHO], "model": "none"}))
    model = f"scripted:{write_script(Path('ben.yaml'), {'': 'Ben.'})}"
    assert run("run", "job.yaml", "--model", model).code == 0, "a flag wins over the file"
    assert {row["answer"] for row in rows(Path("o.jsonl"))} == {"Ben."}


def test_questions_from_a_file_and_answers_as_they_come(run: Run, folder: Path) -> None:
    Path("questions.txt").write_text(f"{WHO}\nWho has the key?\n")
    done = run("run", "docs", "--questions", "questions.txt", "--out", "o.jsonl", "-v")
    assert done.code == 0
    assert f"light000.txt: {WHO} {SAID}" in done.err
    assert len(rows(Path("o.jsonl"))) == 4
    quiet = run("run", "docs", "--questions", "questions.txt", "--out", "o.jsonl", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_failures_are_named_up_to_a_number(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "docs", {f"{number:02}.pdf": b"%PDF-1.4 broken" + bytes([number]) for number in range(24)})
    done = run("run", "docs", "-q", WHO, "--out", "o.jsonl")
    assert done.code == 3
    assert done.err.count("failed ") == 20
    assert "4 more; `readthrough batch status -v` names them" in done.err
    assert run("status").out.count(".pdf: ") == 20
    assert run("status", "-v").out.count(".pdf: ") == 24


def test_failed_answers_are_told_with_their_question(run: Run, folder: Path) -> None:
    write_script(Path("script.yaml"), {"cliff 0": SAID})
    assert run("run", "docs", "-q", WHO, "--out", "o.jsonl").code == 3
    (error,) = run("status", "--json").json["errors"]
    assert (error["document"], error["question"], error["state"]) == ("light001.txt", WHO, "failed")
    assert error["error"]["type"] == "ModelError"
    assert run("retry", "--json").json["waiting"] == 1
    write_script(Path("script.yaml"))
    assert run("run", "docs", "-q", WHO, "--out", "o.jsonl").code == 0
    assert run("status", "--json").json["errors"] == []


def test_answers_that_a_budget_stopped(run: Run, folder: Path) -> None:
    assert run("run", "docs", "-q", WHO, "--out", "o.jsonl", "--document-calls", "1").code == 3
    assert "stopped by a budget light000.txt" in run("status").out


def test_status_and_retry_of_no_batch(run: Run, folder: Path) -> None:
    for command in ("status", "retry"):
        done = run(command)
        assert (done.code, "no batch yet" in done.err) == (2, True)
    run("run", "docs", "-q", WHO, "--out", "o.jsonl")
    done = run("status", "other.jsonl")
    assert done.code == 2
    assert "no batch that writes" in done.err and "o.jsonl" in done.err
    assert run("status", "./docs/../o.jsonl").code == 0


def test_what_the_command_line_and_python_do_is_one_batch(run: Run, folder: Path, tmp_path: Path) -> None:
    run("run", "docs", "-q", WHO, "--out", "o.jsonl")
    settings = Settings(home=tmp_path / "home", model=f"scripted:{tmp_path / 'script.yaml'}", index="bm25")
    done = run_batch(asking(folder, tmp_path / "o.jsonl"), settings)
    assert (done.asked, done.counts) == (0, {"done": 2})
    table = open_table(scripted(tmp_path / "home"))
    assert table.find(None)[0] == str(tmp_path / "o.jsonl")
    table.close()
