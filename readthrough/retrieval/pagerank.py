"""Personalised PageRank: where a walk along weighted edges is, that now and then goes back to where it began.

Page, Brin, Motwani and Winograd 1999, http://ilpubs.stanford.edu:8090/422/; with a restart of one's own, Haveliwala
2002, https://doi.org/10.1145/511446.511513.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-9
MOST_ROUNDS = 200


def pagerank(
    sources: np.ndarray, targets: np.ndarray, weights: np.ndarray, restart: np.ndarray, damping: float = 0.85
) -> np.ndarray:
    """The rank of each of N nodes, float64 `[N]`, which sums to 1.

    Args:
        sources: int `[E]`, the node where each edge begins; `targets` where it ends.
        weights: float `[E]`, positive; the walk takes the edges of a node in proportion to them.
        restart: float `[N]`, not negative, not all zero: where the walk goes back to, from a node without edges always.
        damping: how likely the walk goes on along an edge.
    """
    count = len(restart)
    home = restart / restart.sum()
    out = np.bincount(sources, weights, count)
    shares = weights / out[sources] if len(sources) else weights
    dangling = out == 0
    rank: np.ndarray = home
    for _ in range(MOST_ROUNDS):
        carried = np.bincount(targets, rank[sources] * shares, count)
        moved: np.ndarray = damping * carried + (1 - damping + damping * rank[dangling].sum()) * home
        if np.abs(moved - rank).sum() < TOLERANCE:
            return moved
        rank = moved
    return rank
