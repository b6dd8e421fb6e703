"""What is summarised together: neighbours that are alike, or RAPTOR's soft clusters wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from readthrough.errors import needed

Clustering = Literal["neighbours", "mixture"]
Clusters = list[list[int]]

# Of RAPTOR's authors' code.
DIMENSIONS = 10
MOST_COMPONENTS = 50
LEAST_SHARE = 0.1
_SEED = 224


def neighbours(vectors: np.ndarray, tokens: Sequence[int], most: int, room_tokens: int) -> Clusters:
    """Runs of `most // 2` to `most` items that fit the room, each ended where its last item is least like the next.

    Where a run ends depends on what stands in it alone, so that a change in one place moves ends near it only. A run
    is shorter where the room is small, or at the end.

    Args:
        vectors: unit vectors `[N, D]` in reading order.
        tokens: how many tokens each item has, none more than the room.
        most: the most items of a run.
        room_tokens: the most tokens of a run.
    """
    alike = (vectors[:-1] * vectors[1:]).sum(axis=1)
    runs: Clusters = []
    start = 0
    while start < len(tokens):
        longest = _fitting(tokens[start : start + most], room_tokens)
        left = len(tokens) - start
        lengths = [length for length in range(min(max(2, most // 2), longest), longest + 1) if left - length != 1]
        if longest == left or not lengths:
            lengths = [longest]
        ends = [start + length - 1 for length in lengths]
        length = lengths[int(np.argmin(alike[ends]))] if len(lengths) > 1 else lengths[0]
        runs.append(list(range(start, start + length)))
        start += length
    return runs


def mixture(vectors: np.ndarray, tokens: Sequence[int], most: int, room_tokens: int) -> Clusters:
    """Soft clusters by Gaussian mixtures, first of all items, then within each cluster: RAPTOR's, arXiv 2401.18059.

    Items that a component has with a share above 0.1 are in its cluster; how many components there are, the Bayesian
    information criterion says. A cluster that does not fit the room is divided again.

    Differs from the authors' code (parthsarthi03/raptor, 2e3e83e): principal components in place of UMAP, so that the
    same items give the same clusters; an item that no component has so much of is in its most probable one, where
    theirs loses it; a cluster that mixtures do not divide is divided into neighbours, where theirs does not end. Few
    items are one cluster. `most` does not count.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if len(tokens) <= DIMENSIONS + 1:
        return _in_room([list(range(len(tokens)))], vectors, tokens, most, room_tokens)
    found: Clusters = []
    for inside in _components(vectors):
        local = [list(range(len(inside)))] if len(inside) <= DIMENSIONS + 1 else _components(vectors[inside])
        found += [[inside[place] for place in cluster] for cluster in local]
    distinct = [list(cluster) for cluster in dict.fromkeys(tuple(cluster) for cluster in found)]
    return _in_room(distinct, vectors, tokens, most, room_tokens)


CLUSTERINGS: dict[Clustering, Callable[[np.ndarray, Sequence[int], int, int], Clusters]] = {
    "neighbours": neighbours,
    "mixture": mixture,
}


def _fitting(tokens: Sequence[int], room_tokens: int) -> int:
    """How many of the first items fit the room: one at least."""
    return max(1, int(np.searchsorted(np.cumsum(tokens), room_tokens, side="right")))


def _in_room(found: Clusters, vectors: np.ndarray, tokens: Sequence[int], most: int, room_tokens: int) -> Clusters:
    """The clusters, each that does not fit divided until its parts do."""
    fitting: Clusters = []
    for cluster in found:
        sizes = [tokens[item] for item in cluster]
        if sum(sizes) <= room_tokens:
            fitting.append(cluster)
            continue
        undivided = len(cluster) == len(tokens) or len(cluster) <= DIMENSIONS + 1
        divide = neighbours if undivided else mixture
        parts = divide(vectors[cluster], sizes, most, room_tokens)
        fitting += [[cluster[place] for place in part] for part in parts]
    return fitting


def _components(vectors: np.ndarray) -> Clusters:
    """The items of each component of the mixture that describes the vectors best; a component may have none."""
    kind = _gaussian_mixture()
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][: min(DIMENSIONS, len(vectors) - 2)]
    points = (centred @ axes.T).astype(np.float64)
    most = min(MOST_COMPONENTS, len(points), len(np.unique(points.round(6), axis=0)) + 1)
    fits = [kind(count, random_state=_SEED).fit(points) for count in range(1, most)]
    shares = min(fits, key=lambda fit: fit.bic(points)).predict_proba(points)
    inside = shares > LEAST_SHARE
    inside[np.arange(len(points)), shares.argmax(axis=1)] = True
    return [column.nonzero()[0].tolist() for column in inside.T if column.any()]


def _gaussian_mixture() -> Any:
    with needed("scikit-learn", "'readthrough[embedder]'"):
        from sklearn.mixture import GaussianMixture
    return GaussianMixture
