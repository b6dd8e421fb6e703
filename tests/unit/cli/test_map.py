"""`readthrough map`, and `search` over source code, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readthrough.cli.main import run as run_command
from tests.cli_samples import Done, Run
from tests.code_samples import FILES, write_repository
from tests.schemas import ERROR, MAP, checked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "repository")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / "user" / name)
    monkeypatch.setenv("READTHROUGH_HOME", str(tmp_path / "home"))

    def call(*arguments: str | Path) -> Done:
        code = run_command([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


def test_map_of_a_repository(run: Run, folder: Path) -> None:
    done = run("map", "repository")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "repository/:"
    assert "coast/tower.py" in lines
    assert "  7 class Tower" in lines
    assert " 13   def keep_watch(self, hours=MAX_HOURS)" in lines
    assert run("map", folder).out.splitlines()[1:] == lines[1:]


def test_map_for_a_question_as_json(run: Run, folder: Path) -> None:
    done = run("map", "repository", "--for", "How is the barometer read?", "--tokens", "120", "--json")
    value = checked(done.out, MAP)
    assert value["files"][0]["path"] == "repository/coast/weather/storm.py"
    first = value["files"][0]["definitions"][0]
    line = FILES["coast/weather/storm.py"].split("\n")[first["line"] - 1]
    assert line.startswith(first["signature"])
    assert value["tokens"] <= 120


def test_a_budget_that_is_too_small(run: Run, folder: Path) -> None:
    done = run("map", "repository", "--tokens", "3")
    assert (done.code, done.out) == (0, "")
    assert "not one definition fits" in done.err


BAD = {
    "path": (["map", "repositry"], 4, "MissingPathError", "repository"),
    "no code": (["map", "repository/README.md"], 4, "InputError", "python"),
    "tokens": (["map", "repository", "--tokens", "0"], 2, "UsageError", "--tokens"),
    "encoding": (["map", "repository", "--encoding", "utf-9"], 4, "ConfigError", "utf-9"),
    "home": (["map", "repository", "--home", "/dev/null/x"], 1, "LibraryError", "/dev/null"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, run: Run, folder: Path) -> None:
    arguments, code, kind, word = BAD[case]
    plain = run(*arguments)
    assert (plain.code, plain.out) == (code, "")
    assert word in plain.err
    assert plain.err.count("\n") == 1
    assert checked(run(*arguments, "--json").out, ERROR)["error"]["type"] == kind


def test_a_search_points_to_the_line(run: Run, folder: Path) -> None:
    done = run("search", "forecastStorm", "repository", "--index", "bm25", "--json")
    hits = json.loads(done.out)["hits"]
    assert {hit["document"] for hit in hits} >= {"repository/coast/weather/storm.py", "repository/coast/tower.py"}
    for hit in hits:
        lines = FILES[hit["document"].removeprefix("repository/")].split("\n")
        assert hit["quote"].split("\n")[0] == lines[hit["line"] - 1]
