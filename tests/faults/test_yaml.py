"""Faults 23 and 24: YAML that would run code, exhaust memory, or say something else than it seems to.

Every file is handed to the command: exit code 4, the line, one line of error, nothing executed.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import pytest

from readthrough.cli.main import run

GRAPH = """graph:
  nodes: {find: {retrieve: {k: 4}}, answer: manager}
  edges: [start -> find -> answer -> end]
"""
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


def check(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """`graph check` of a file: the exit code, and the error."""
    path.write_text(text, encoding="utf-8")
    code = run(["graph", "check", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    return code, said.get("error", {})


@pytest.fixture(autouse=True)
def nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))


def test_the_graph_that_the_faults_are_put_into_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path / "own.yaml", GRAPH, capsys) == (0, {})


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GRAPH + "model: !!python/object/apply:os.system ['touch MARK']\n", 4, "tag"),
        (GRAPH + "model: !!python/name:os.system\n", 4, "tag"),
        (GRAPH + "model: !!python/module:os\n", 4, "tag"),
        (GRAPH + "model: !include MARK\n", 4, "tag"),
        (BOMB, 2, "alias"),
        ("graph: &g {nodes: {a: manager}}\nprompts: *g\n", 2, "alias"),
        ("<<: {graph: {}}\n" + GRAPH, 1, "unknown key '<<'"),
        ("graph: " + "[" * 20_000, 1, "deeper"),
        ("graph:\n" + "- " * 20_000 + "x", 2, "deeper"),
        ("graph: " + "{a: " * 20_000, 1, "deeper"),
        (GRAPH + "modle: small\n", 4, "unknown key 'modle'"),
        (GRAPH + GRAPH, 4, "'graph' stands twice"),
        (GRAPH.replace("answer: manager", "find: manager"), 2, "'find' stands twice"),
        (GRAPH.replace("k: 4", "k: 4, k: 5"), 2, "'k' stands twice"),
        (GRAPH.replace("k: 4", "k: no"), 2, "integer"),
        (GRAPH.replace("k: 4", "k: 012"), 2, "leading zero"),
        (GRAPH.replace("k: 4", "k: 4.5"), 2, "integer"),
        (GRAPH.replace("k: 4", "k: '4'"), 2, "must be a number"),
        (GRAPH.replace("k: 4", "k: true"), 2, "must be a number"),
        (GRAPH.replace("k: 4", "k: .inf"), 2, "integer"),
        (GRAPH.replace("k: 4", "k: 1e999"), 2, "out of range"),
        (GRAPH.replace("k: 4", "k: 0"), 2, "at least one"),
        ("workflow: {retrieve: {second_look: no}}", 1, "must be true or false"),
        ("workflow:\n  retrieve: {k: 5, second_look: 'true'}", 2, "must be true or false"),
        (GRAPH + "  limits: {rounds: no}\n", 4, "rounds = 'no'"),
        (GRAPH + "  limits: {rounds: 1e3}\n", 4, "rounds = 1000.0"),
        (GRAPH + "---\n" + GRAPH, 4, "second document"),
        ("- " + GRAPH.replace("\n", "\n  "), 1, "mapping"),
        ("", 1, "either the key"),
        ("42", 1, "mapping"),
    ],
)
def test_fault_23(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, message: str, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.yaml"
    started = time.process_time()
    code, error = check(path, text, capsys)
    took_seconds = time.process_time() - started
    assert (code, error["path"]) == (4, f"{path}:{line}")
    assert message in error["message"] and "\n" not in error["message"]
    assert took_seconds < 20, "a bomb would take for ever"
    assert [item.name for item in tmp_path.iterdir()] == ["own.yaml"], "nothing was executed"


CODE = [
    "os:system",
    "os.system",
    "builtins:eval",
    "readthrough.agents.nodes.manager:ManagerNode",
    "../evil",
    "__init__",
]


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize(
    ("point", "text"),
    [
        ("node", "graph:\n  nodes:\n    a: {0}\n  edges: [start -> a -> end]\n"),
        ("node", "graph:\n  nodes:\n    a: {{{0}: {{args: [x]}}}}\n  edges: [start -> a -> end]\n"),
        ("workflow", "\n\nworkflow: {0}\n"),
        ("workflow", "\n\nworkflow: {{{0}: {{}}}}\n"),
        ("chunker", "workflow: retrieve\n\nchunker: {0}\n"),
        ("index", "workflow: retrieve\n\nindex: {0}\n"),
        ("model", "workflow: retrieve\n\nmodel: {{{0}: {{name: x}}}}\n"),
    ],
)
def test_fault_24(tmp_path: Path, capsys: pytest.CaptureFixture[str], point: str, text: str, name: str) -> None:
    before = set(sys.modules)
    code, error = check(tmp_path / "own.yaml", text.format(json.dumps(name)), capsys)
    assert code == 4
    assert error["path"] == f"{tmp_path / 'own.yaml'}:3"
    assert "evil" not in {name.rpartition(".")[2] for name in set(sys.modules) - before}
    assert name in error["message"]


@pytest.mark.parametrize("option", ["__class__", "cls", "func", "import", "tools"])
def test_an_option_cannot_reach_behind_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    code, error = check(tmp_path / "own.yaml", GRAPH.replace("k: 4", f"{option}: 'os:system'"), capsys)
    assert (code, error["path"]) == (4, f"{tmp_path / 'own.yaml'}:2")
    assert f"unknown option of node 'retrieve' '{option}'" in error["message"]


@pytest.mark.parametrize("place", ["{question.__class__}", "{material.__init__.__globals__}", "{0}", "{question!r}"])
def test_a_prompt_cannot_reach_into_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    text = GRAPH + f"prompts:\n  answer: '{{material}} {{question}} {place}'\n"
    code, error = check(tmp_path / "own.yaml", text, capsys)
    assert (code, error["path"]) == (4, f"{tmp_path / 'own.yaml'}:5")
    assert "not a place" in error["message"]
