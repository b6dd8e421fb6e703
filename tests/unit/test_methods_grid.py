"""The grid of methods: stopped and resumed on a tiny model, and the report of its rows."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks import methods_grid, methods_report
from benchmarks.methods_grid import ROWS, cells, methods
from benchmarks.results import rows_of
from readthrough.compression.plan import Plan
from tests import tiny_models

METHODS = ["keep:snapkv", "keep:duo-attention", "keep:random", "decode:random", "select:random"]


def test_every_method_is_a_plan_that_is_within_its_budget() -> None:
    names = methods()
    assert len(names) == len(set(names)) > 35
    for cell in cells(names, [0.25, 0.1], 8192):
        plan = Plan.of(cell.plan)
        for part in (plan.keep, plan.decode, plan.select):
            if part is not None and cell.budget is not None:
                window = getattr(part, "window_tokens", 0)
                assert getattr(part, "budget_ratio", None) == cell.budget or window < cell.budget * 8192


def grid(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["methods_grid", *arguments])
    methods_grid.main()


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_models.save(tmp_path / "tiny", max_position_embeddings=8192)
    for number in range(2):
        text = " ".join(f"On day {number + day} the keeper saw {day * 7 % 11} ships." for day in range(600))
        (tmp_path / f"book{number}.txt").write_text(text, encoding="utf-8")
    folder = tmp_path / "rows"
    given = [str(tmp_path), str(folder), "--model", str(model), "--tokens", "3000", "--contexts", "2"]
    given += ["--questions", "3", "--places", "2", "--budgets", "0.25", "--methods", *METHODS]
    ask, asked = methods_grid.ask, []

    def killed(*of: Any) -> Any:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(of[1])
        return ask(*of)

    monkeypatch.setattr(methods_grid, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        grid(monkeypatch, *given)
    before = rows_of(folder / ROWS)
    monkeypatch.setattr(methods_grid, "ask", ask)
    grid(monkeypatch, *given)
    rows = rows_of(folder / ROWS)
    assert rows[: len(before)] == before
    grid(monkeypatch, *given)
    assert rows_of(folder / ROWS) == rows, "all is there"
    made = methods_report.by_cell(rows)
    assert [row["part"] for row in made.pop(("keep:duo-attention", 0.25))] == ["refused"]
    assert set(made) == {("dense", None)} | {(name, 0.25) for name in METHODS if name != "keep:duo-attention"}
    for (method, _), of in made.items():
        assert [row["part"] for row in of if "nll" in row] == ["book0", "book1"]
        assert [row["part"] for row in of if "score" in row] == ["context-0"] * 3 + ["context-1"] * 3
        if method.startswith(("keep", "decode")):
            assert all(row["cached_tokens"] > 2500 for row in of if "score" in row), "it was read for dense"
    of_dense, of_kept = (made[key][-1]["kv_bytes"] for key in (("dense", None), ("keep:random", 0.25)))
    assert of_dense / of_kept == pytest.approx(4, rel=0.15)
    losses = {method: sum(methods_report.losses(of).values()) for (method, _), of in made.items()}
    assert min(abs(a - b) for a, b in combinations(losses.values(), 2)) > 0.002

    pages = [tmp_path / name for name in ("page.md", "page.html")]
    monkeypatch.setattr(sys, "argv", ["methods_report", str(folder), *map(str, pages)])
    methods_report.main()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "snapkv" in text and "refused: " in text and "it has no calibration" in text
    assert "<svg" in text


def row(method: str, part: str, **values: Any) -> dict[str, Any]:
    return {"method": method, "budget": None if method == "dense" else 0.1, "part": part, **values}


def test_what_is_worse_than_random_is_marked() -> None:
    rows = []
    for method, score, nll in (
        ("dense", 1, 2.0),
        ("keep:random", 0.5, 2.2),
        ("keep:bad", 0, 2.5),
        ("keep:good", 1, 2.1),
    ):
        rows += [row(method, f"text{number}", nll=nll + number / 10) for number in range(2)]
        for number in range(4):
            sizes = {"kv_bytes": 8 if method == "dense" else 2, "cached_tokens": 1}
            seconds = {"prefill_seconds": 1.0, "answer_seconds": 0.5}
            rows.append(row(method, f"context-{number}", score=score, type="key", **sizes, **seconds))
    (table,) = methods_report.tables(rows)
    found = {line[0].text: [cell.text for cell in line] for line in table.rows}
    assert found["bad"][-1] == "answers worse than random, loss worse than random"
    assert found["good"][-1] == found["random"][-1] == found["dense"][-1] == ""
    assert found["good"][1:5] == ["10%", "1.105", "100 (100-100)", "100"] and found["good"][-2] == "4.0"
    assert list(found) == ["dense", "good", "random", "bad"]
