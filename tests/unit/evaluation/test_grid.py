"""Grids in YAML: what they span, and errors that name file, line and the nearest right name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.errors import ConfigError, ReadthroughError
from readthrough.evaluation.checking import check_examples
from readthrough.evaluation.grid import Grid, _takes_list, read_grid
from readthrough.types import Limits
from tests.evaluation_samples import GRID, opened_grid, settings, write_grid

OWN = """index: bm25
graph:
  nodes: {find: {retrieve: {k: 4}}, answer: {manager: {model: "scripted:other.yaml"}}}
  edges: [start -> find -> answer -> end]
"""


def test_lists_span_the_grid(tmp_path: Path) -> None:
    grid = opened_grid(
        tmp_path,
        """tasks:
  - oolong-count: {tokens: [2000, 3000], samples: 2, seed: [0, 1]}
  - questions: {path: data, ids: drawn.json}
systems:
  workflows: [retrieve, {retrieve: {k: [4, 8]}}]
  models: [SCRIPT]
  indexes: [bm25, hybrid]
limits: {seconds: 90, tokens: 5000, abstain_below: 0.3}
budget: {seconds: 3600}
parallel: 2
""",
    )
    made = [cell.spec["oolong-count"] for cell in grid.cells[:4]]
    assert [(options["tokens"], options["seed"]) for options in made] == [(2000, 0), (2000, 1), (3000, 0), (3000, 1)]
    assert grid.cells[0].place == f"{tmp_path}/grid.yaml:2"
    assert len(grid.cells) == 5 and grid.cells[4].spec == {"questions": {"path": "data", "ids": "drawn.json"}}
    assert grid.cells[4].task.path == tmp_path / "data"  # type: ignore[attr-defined]
    assert [(system.workflow, system.index) for system in grid.systems] == [
        (workflow, index)
        for workflow in ("retrieve", {"retrieve": {"k": 4}}, {"retrieve": {"k": 8}})
        for index in ("bm25", "hybrid")
    ]
    assert grid.limits == Limits(seconds=90.0, tokens=5000, abstain_below=0.3)
    assert (grid.budget_seconds, grid.parallel, len(grid.models)) == (3600.0, 2, 1)


def test_a_list_of_lists_spans_what_takes_a_list(tmp_path: Path) -> None:
    task = "needle-depth: {tokens: 2000, depths: [[0.0], [0.5, 1.0]]}"
    grid = opened_grid(tmp_path, GRID.replace("questions: {path: data}", task))
    assert [cell.spec["needle-depth"]["depths"] for cell in grid.cells] == [[0.0], [0.5, 1.0]]
    assert _takes_list(tuple[str, ...] | None) and _takes_list(Sequence[float]) and _takes_list(list)
    assert not _takes_list(str) and not _takes_list(int | None) and not _takes_list(Path | None)


def test_the_command_line_wins_and_settings_fill_in(tmp_path: Path) -> None:
    path = write_grid(tmp_path, GRID.replace("  models: [SCRIPT]\n", "").replace("  indexes: [bm25]\n", ""))
    script = f"scripted:{tmp_path}/script.yaml"
    grid = read_grid(path, settings(tmp_path).model_copy(update={"model": script}), {"workflow": "retrieve"})
    (system,) = grid.systems
    assert (system.workflow, system.model, system.index) == ("retrieve", script, "bm25")
    grid = read_grid(path, settings(tmp_path), {"model": script, "index": "hybrid"})
    assert {(system.model, system.index) for system in grid.systems} == {(script, "hybrid")}


def test_a_workflow_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "other.yaml").write_text("replies: {'': Ben}\n")
    named = GRID.replace("workflows: [retrieve, {chain-of-agents: {message_tokens: 100}}]", "workflows: [own.yaml]")
    (system,) = opened_grid(tmp_path, named).systems
    assert system.file == "own.yaml" and not system.own_models
    assert list(system.workflow) == ["own.yaml"]
    bare = named.replace("  models: [SCRIPT]\n", "")
    path = write_grid(tmp_path, bare)
    default = settings(tmp_path).model_copy(update={"model": f"scripted:{tmp_path}/script.yaml"})
    (system,) = read_grid(path, default).systems
    assert system.own_models and system.model == default.model
    assert replace(system, own_models=False).sources() == system.sources()
    (tmp_path / "own.yaml").write_text(OWN.replace("manager", "manger"))
    with pytest.raises(ConfigError, match=r"own\.yaml:3: .*'manger'.*'manager'"):
        opened_grid(tmp_path, named)


WRONG = {
    "task: [1]\n": r"grid\.yaml:1: unknown key 'task' \(did you mean 'tasks'\?\)",
    "tasks: [questions]\n": r"grid\.yaml:1: the key 'systems' is missing",
    GRID.replace("questions:", "qestions:"): r"grid\.yaml:2: unknown task 'qestions' \(did you mean 'questions'\?\)",
    GRID.replace("path:", "pth: 1, path:"): r"grid\.yaml:2: unknown option .*'pth' \(did you mean 'path'\?\)",
    GRID.replace("{path: data}", "{}"): r"grid\.yaml:2: questions\.path",
    GRID.replace("path: data", "path: []"): r"grid\.yaml:2: questions\.path lists nothing",
    GRID.replace("path: data", "path: data, limit: 0"): r"grid\.yaml:2: .*limit = 0: must be at least 1",
    GRID.replace("path: data", "path: [data, data]"): r"grid\.yaml:2: the task .* stands twice",
    GRID.replace("  - questions", "  questions"): r"grid\.yaml:1: 'tasks' must be a list",
    GRID.replace("[retrieve,", "[retreive,"): r"grid\.yaml:4: unknown workflow 'retreive' .*'retrieve'",
    GRID.replace("[retrieve,", "[retrieve, retrieve,"): r"grid\.yaml:4: the workflow 'retrieve' stands twice",
    GRID.replace("message_tokens: 100", "mesage_tokens: 100"): r"grid\.yaml:4: unknown option .*'message_tokens'",
    GRID.replace("[retrieve,", "[gone.yaml,"): r"grid\.yaml:4: gone\.yaml: cannot be read",
    GRID.replace("[SCRIPT]", "[smal]"): r"grid\.yaml:5: .*'smal'.*'small'",
    GRID.replace("[SCRIPT]", "['scripted:gone.yaml']"): r"grid\.yaml:5: cannot be read",
    GRID.replace("[SCRIPT]", "[3]"): r"grid\.yaml:5: 3 is no model",
    GRID.replace("[bm25]", "[bm26]"): r"grid\.yaml:6: unknown index 'bm26' \(did you mean 'bm25'\?\)",
    GRID.replace("  workflows", "  workflow"): r"grid\.yaml:4: unknown key under 'systems' 'workflow' .*'workflows'",
    GRID.replace("calls: 100", "calls: -1"): r"grid\.yaml:7: calls = -1: must be a positive number",
    GRID.replace("calls: 100", "abstain_below: 30"): r"grid\.yaml:7: abstain_below = 30: a confidence is from 0 to 1",
    GRID.replace("calls: 100", "calls: 1.5"): r"grid\.yaml:7: calls = 1\.5",
    GRID.replace("calls: 100", "seconds: true"): r"grid\.yaml:7: seconds = True",
    GRID.replace("calls: 100", "second: 9"): r"grid\.yaml:7: unknown key under 'limits' 'second' .*'seconds'",
    GRID + "budget: {seconds: no}\n": r"grid\.yaml:8: seconds = 'no'",
    GRID + "parallel: 0\n": r"grid\.yaml:8: parallel = 0",
    GRID + "tasks: []\n": r"grid\.yaml:8: the key 'tasks' stands twice",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ReadthroughError, match=WRONG[text]):
        opened_grid(tmp_path, text)


def test_a_local_model_answers_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readthrough.models.weights.resolve", Path)
    two = GRID.replace("SCRIPT", "small") + "parallel: 2\n"
    with pytest.raises(ConfigError, match=r"grid\.yaml:8: .*one question at a time"):
        opened_grid(tmp_path, two)
    grid: Grid = opened_grid(tmp_path, two.replace("small", "openai:m@http://localhost:1/v1"))
    assert grid.parallel == 2


def test_weights_that_are_not_there_are_missed_before_a_model_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadthroughError, match=r"no config\.json"):
        opened_grid(tmp_path, GRID.replace("SCRIPT", str(tmp_path / "empty")))


def test_the_example_can_be_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("readthrough.models.weights.resolve", Path)
    grid = read_grid(Path(__file__).parents[3] / "examples" / "eval" / "quick.yaml", settings(tmp_path))
    assert check_examples(grid) == 10 and len(grid.systems) == 3
    assert grid.budget_seconds is not None and grid.budget_seconds < 600
