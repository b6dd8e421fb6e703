"""Rows that benchmarks keep: a run goes on with its own, and never with those of other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import add_rows, interval_over_texts, put_back, report, rows_of, settle
from readthrough.evaluation.store import Store, write_json_lines
from tests.unit.evaluation.test_store import FAILED, RESULT


def test_a_run_goes_on_where_it_was_with_the_same_settings_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    settle(folder, {"model": "small", "questions": 10})
    add_rows(folder / "dense.jsonl", [{"text": "0-8192", "score": 1.0}])
    settle(folder, {"questions": 10, "model": "small"})
    assert rows_of(folder / "dense.jsonl") == [{"text": "0-8192", "score": 1.0}]
    for other in ({"model": "default", "questions": 10}, {"model": "small", "questions": 5}):
        with pytest.raises(SystemExit, match="another folder"):
            settle(folder, other)


def test_rows_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "none.jsonl") == []


def test_rows_of_an_evaluation_are_put_back(tmp_path: Path) -> None:
    write_json_lines([RESULT, FAILED], tmp_path / "rows.jsonl")
    assert put_back(tmp_path / "rows.jsonl", tmp_path / "folder") == 2
    store = Store(tmp_path / "folder")
    assert store.find([RESULT.key, FAILED.key]) == {RESULT.key: RESULT, FAILED.key: FAILED}
    store.close()


def test_a_report_of_rows(tmp_path: Path) -> None:
    write_json_lines([RESULT], tmp_path / "rows.jsonl")
    for name, begins in (("page.md", "# Evaluation"), ("page.html", "<!DOCTYPE html>")):
        assert report(tmp_path / "rows.jsonl", tmp_path / name) == 1
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith(begins) and RESULT.system_name in text


def test_texts_count_alike_however_many_questions_they_have() -> None:
    assert interval_over_texts([("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0)])["value"] == 0.5
