"""Scores of different slates on one scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

_RIDGE = 1e-3

Item = TypeVar("Item", bound=Hashable)


def calibrated(slates: Sequence[Mapping[Item, float]]) -> dict[Item, float]:
    """One score an item, and one shift a slate, that together are nearest to the scores that were given in slates.

    The log-probabilities with which items of a slate are chosen say how far they are apart, and nothing of the other
    slates: those are tied by the items that they share. A slate that shares none keeps its scores.

    Source: the latent scores of LATTICE, arXiv 2510.13217. Differs from the paper: least squares alone, and one shift
    a slate without a slope, which has a solution (its authors' code, nilesh2797/lattice b24930d, weighs the
    Plackett-Luce term by 0 as well, and descends).
    """
    items = {item: number for number, item in enumerate(dict.fromkeys(item for slate in slates for item in slate))}
    if not items:
        return {}
    rows = np.array([items[item] for slate in slates for item in slate])
    columns = np.repeat(np.arange(len(slates)), [len(slate) for slate in slates])
    given = np.array([score for slate in slates for score in slate.values()])
    held = np.zeros((len(items), len(slates)))
    held[rows, columns] = 1
    uses = held.sum(axis=1)
    means = np.bincount(rows, given) / uses
    # With the best score of every item put in, the shifts of the slates are what is left to solve for.
    between = np.diag(held.sum(axis=0) + _RIDGE) - held.T @ (held / uses[:, None])
    shifts = np.linalg.solve(between, np.bincount(columns, given - means[rows], len(slates)))
    scores = np.bincount(rows, given - shifts[columns]) / uses
    return {item: float(scores[number]) for item, number in items.items()}
