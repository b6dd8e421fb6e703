"""The search of layer budgets, on functions whose best point is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.evolve_budgets import Evolution, search


def test_evolution_finds_a_peak_across_a_narrow_ridge() -> None:
    peak = np.array([0.7, 2.0, 0.1, 1.4])

    def value(point: np.ndarray) -> float:
        far = point - peak
        return -float(100 * (far[0] + far[1]) ** 2 + 10 * far[2] ** 2 + (far[0] - far[1]) ** 2 + far[3] ** 2)

    evolution = Evolution(np.ones(4), 0.3, np.random.default_rng(0))
    for _ in range(120):
        evolution.step(value)
    assert evolution.best[1] == pytest.approx(peak, abs=1e-3)


def test_a_best_point_at_the_edge() -> None:
    evolution = Evolution(np.ones(3), 0.3, np.random.default_rng(0))
    for _ in range(60):
        evolution.step(lambda point: -float(((point - [-1.0, 0.0, 2.0]) ** 2).sum()))
    assert evolution.best[1] == pytest.approx([0, 0, 2], abs=0.05)


def test_the_ratios_of_layers() -> None:
    best = np.array([2.0, 1.5, 1.0, 0.5, 0.5, 0.5])
    tried = []

    def score(ratios: Sequence[float]) -> float:
        assert len(ratios) == 6 and np.mean(ratios) == pytest.approx(1) and min(ratios) >= 0
        tried.append(tuple(ratios))
        return -float(((np.array(ratios) - best) ** 2).sum())

    found = search(score, 6, group_layers=3, generations=40)
    assert tried[0] == (1.0,) * 6, "what is equal is tried first"
    assert score(found) > -0.02 and score([1.0] * 6) == pytest.approx(-2)
    assert found == search(score, 6, group_layers=3, generations=40), "the same every time"
    assert search(lambda ratios: 0.0, 6, generations=2) == [1.0] * 6, "nothing is better than equal"
