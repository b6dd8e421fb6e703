"""Commands that need no library and no model, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readthrough import __version__, catalogue
from readthrough.cli.listing import summary
from readthrough.cli.main import run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / "user" / name)
    monkeypatch.setenv("READTHROUGH_HOME", str(tmp_path / "home"))


def test_version(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"readthrough {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["eval"], ["runs"]])
def test_without_a_command_the_help_is_all(arguments: list[str], capsys: Captured) -> None:
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: readthrough" in printed.out and printed.err == ""


def test_a_wrong_choice_names_the_right_ones(capsys: Captured) -> None:
    assert run(["schema", "eva"]) == 2
    assert capsys.readouterr().err.startswith("readthrough: Invalid value for 'KIND': 'eva' is not one of 'workflow', ")


@pytest.mark.parametrize("point", catalogue.points())
def test_list(point: str, capsys: Captured) -> None:
    assert run(["list", point]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == catalogue.names(point)
    assert "(broken" not in "".join(lines)


def test_list_as_json(capsys: Captured) -> None:
    assert run(["list", "workflows", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [part["name"] for part in value["parts"]] == catalogue.names("workflows")


def test_list_of_nothing(capsys: Captured) -> None:
    assert run(["list", "workflow"]) == 4
    assert "did you mean 'workflows'?" in capsys.readouterr().err


@pytest.mark.parametrize("point", catalogue.points())
def test_one_part_with_its_options(point: str, capsys: Captured) -> None:
    name = catalogue.names(point)[0]
    assert run(["list", point, name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == name and shown["about"]


def test_the_options_of_a_workflow(capsys: Captured) -> None:
    assert run(["list", "workflows", "map-reduce"]) == 0
    shown = capsys.readouterr().out
    assert "\nwindow_tokens: int = " in shown and "\n    the most tokens of text" in shown
    assert run(["list", "workflows", "map-reduse"]) == 4
    assert "did you mean 'map-reduce'?" in capsys.readouterr().err


def test_broken_parts_are_shown_as_broken() -> None:
    assert summary("readthrough.nowhere:Thing") == "(broken: there is no module readthrough.nowhere)"
    assert summary("readthrough.nowhere.deeper:Thing").startswith("(broken: ")
    assert summary("readthrough.types:Thing") == "(broken: readthrough.types has no Thing)"


def test_config_show(capsys: Captured) -> None:
    Path("readthrough.yaml").write_text("workflow: chain-of-agents\n")
    assert run(["config", "show", "--model", "small", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["model"] == {"value": "small", "origin": "flag"}
    assert settings["workflow"] == {"value": "chain-of-agents", "origin": "readthrough.yaml:1"}
    assert settings["home"]["origin"] == "READTHROUGH_HOME"
    assert settings["index"]["origin"] == "default"
    assert run(["config", "show"]) == 0
    assert "readthrough.yaml:1" in capsys.readouterr().out


def test_config_that_is_wrong(capsys: Captured) -> None:
    Path("readthrough.yaml").write_text("modle: small\n")
    assert run(["config", "show"]) == 4
    assert capsys.readouterr().err == (
        "readthrough: readthrough.yaml:1: unknown setting 'modle' (did you mean 'model'?)\n"
    )


def test_models(capsys: Captured) -> None:
    assert run(["models", "list", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert "qwen2.5-coder-1.5b-instruct" in [model["name"] for model in models]
    assert run(["models", "show", "small"]) == 0
    assert "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32" in capsys.readouterr().out
    assert run(["models", "show", "smal"]) == 4
    assert "did you mean 'small'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ak"], "No such command 'ak'"),
        (["ask", "who?", "x", "--modle", "y"], "--modle"),
        (["ask"], "there is no question"),
        (["ask", " ", "book.txt"], "the question is empty"),
        (["ask", "who?", "x", "--show", "all"], "--show"),
        (["ask", "who?", "x", "--stream", "--json"], "exclude each other"),
        (["search"], "QUERY"),
        (["search", "x", "y", "--k", "0"], "--k"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: Captured) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    said = json.loads(out)["error"]["message"] if "--json" in arguments else err
    assert message in said
    assert run([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"
