"""Fusion by rank and by score."""

from __future__ import annotations

import pytest

from readthrough.retrieval.indexes.hybrid import fuse, fuse_scores


def test_formula() -> None:
    fused = dict(fuse([([(1, 9.0), (2, 8.0)], 1.0), ([(2, 0.5), (3, 0.4)], 0.5)], rank_offset=60))
    assert fused[1] == pytest.approx(1 / 61)
    assert fused[2] == pytest.approx(1 / 62 + 0.5 / 61)
    assert fused[3] == pytest.approx(0.5 / 62)


def test_best_first_and_ties_by_id() -> None:
    assert [chunk for chunk, _ in fuse([([(9, 1.0)], 1.0), ([(4, 1.0)], 1.0)])] == [4, 9]
    assert [chunk for chunk, _ in fuse([([(9, 1.0), (4, 0.5)], 1.0), ([(4, 1.0)], 1.0)])] == [4, 9]


def test_one_list_keeps_its_order() -> None:
    ranked = [(5, 3.0), (1, 2.0), (7, 1.0)]
    assert [chunk for chunk, _ in fuse([(ranked, 1.0), ([], 1.0)])] == [5, 1, 7]


def test_scores_are_brought_to_one_scale() -> None:
    fused = dict(fuse_scores([([(1, 30.0), (2, 20.0), (3, 10.0)], 1.0), ([(2, 0.9), (4, 0.7)], 3.0)]))
    assert fused == {1: pytest.approx(0.25), 2: pytest.approx(0.125 + 0.75), 3: 0.0, 4: 0.0}


def test_equal_scores_all_count() -> None:
    assert fuse_scores([([(5, 2.0), (6, 2.0)], 1.0), ([], 1.0)]) == [(5, 0.5), (6, 0.5)]
    assert fuse_scores([([], 1.0)]) == []
