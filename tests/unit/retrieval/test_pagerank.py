"""PageRank against the solution of its linear equations."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough.retrieval.pagerank import pagerank


@pytest.mark.parametrize("damping", [0.0, 0.5, 0.85, 0.99])
@pytest.mark.parametrize("edges", [0, 1, 30, 200])
def test_equals_the_stationary_distribution(damping: float, edges: int) -> None:
    chance, count = np.random.default_rng(edges), 20
    sources, targets = chance.integers(0, count, edges), chance.integers(0, count, edges)
    weights, restart = chance.random(edges) + 0.1, chance.random(count)
    home = restart / restart.sum()
    walk = np.zeros((count, count))
    np.add.at(walk, (sources, targets), weights)
    out = walk.sum(axis=1, keepdims=True)
    walk = np.where(out > 0, walk / np.where(out > 0, out, 1), home)
    expected = np.linalg.solve(np.eye(count) - damping * walk.T, (1 - damping) * home)
    rank = pagerank(sources, targets, weights, restart, damping)
    assert np.allclose(rank, expected, atol=1e-6)
    assert rank.sum() == pytest.approx(1)


def test_ten_thousand_nodes_take_little_time() -> None:
    """No bound on seconds: that it ends within a test's patience is enough to notice a dense matrix."""
    chance, count, edges = np.random.default_rng(0), 10_000, 300_000
    sources, targets = chance.integers(0, count, edges), chance.integers(0, count, edges)
    assert pagerank(sources, targets, np.ones(edges), np.ones(count)).shape == (count,)
