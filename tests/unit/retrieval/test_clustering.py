"""What is summarised together."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough.retrieval.trees.clustering import CLUSTERINGS, DIMENSIONS, mixture, neighbours


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def walk(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors of which neighbours are alike, as those of a text's chunks are."""
    steps = np.random.default_rng(seed).normal(size=(count, 16))
    made = [steps[0]]
    for step in steps[1:]:
        made.append(0.7 * made[-1] + step)
    return unit(np.array(made))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 9, 17, 200])
@pytest.mark.parametrize(("most", "room"), [(8, 10_000), (8, 250), (2, 10_000), (3, 150), (8, 100)])
def test_neighbours_are_runs_that_hold_everything_once(count: int, most: int, room: int) -> None:
    tokens = [20 + 80 * (number % 5 == 0) for number in range(count)]
    runs = neighbours(walk(count), tokens, most, room)
    assert [item for run in runs for item in run] == list(range(count))
    assert all(len(run) <= most and sum(tokens[item] for item in run) <= room for run in runs)
    if room == 10_000:
        assert all(len(run) >= most // 2 for run in runs[:-1])
        assert len(runs) < max(2, count), "levels end"
    small = [room // 2] * count
    assert len(neighbours(walk(count), small, most, room)) < max(2, count), "two that fit are put together"


def test_runs_end_where_the_text_changes_its_subject() -> None:
    subjects = np.repeat(np.eye(4), [5, 7, 4, 6], axis=0)
    assert [len(run) for run in neighbours(subjects, [1] * 22, 8, 100)] == [5, 7, 4, 6]


def test_a_change_in_one_place_changes_runs_near_it() -> None:
    before = walk(300)
    for place in (3, 120, 298):
        changed = np.insert(before, place, unit(np.random.default_rng(place).normal(size=(1, 16))), axis=0)
        old = {tuple(run) for run in neighbours(before, [1] * 300, 8, 100)}
        new = {
            tuple(item - (item > place) for item in run)
            for run in neighbours(changed, [1] * 301, 8, 100)
            if place not in run
        }
        assert len(old - new) <= 4


def test_mixture_finds_what_belongs_together_wherever_it_stands() -> None:
    chance = np.random.default_rng(1)
    centres = unit(chance.normal(size=(3, 32)))
    labels = np.arange(60) % 3
    vectors = unit(centres[labels] + 0.05 * chance.normal(size=(60, 32)))
    found = mixture(vectors, [10] * 60, 8, 10_000)
    assert all(len({item % 3 for item in cluster}) == 1 for cluster in found)
    assert {item for cluster in found for item in cluster} == set(range(60)) and len(found) < 30
    assert mixture(vectors, [10] * 60, 8, 10_000) == found, "the same again"


@pytest.mark.parametrize("room", [40, 55, 200, 10_000])
@pytest.mark.parametrize("count", [2, DIMENSIONS + 1, DIMENSIONS + 2, 40])
def test_mixtures_hold_everything_and_fit(count: int, room: int) -> None:
    tokens = [15 + number % 3 for number in range(count)]
    found = mixture(walk(count, seed=3), tokens, 8, room)
    assert {item for cluster in found for item in cluster} == set(range(count))
    assert all(sum(tokens[item] for item in cluster) <= room for cluster in found)
    assert all(cluster == sorted(set(cluster)) for cluster in found)


def test_alike_texts_do_not_break_a_mixture() -> None:
    same = np.tile(unit(np.ones((1, 32))), (30, 1))
    assert {item for cluster in mixture(same, [10] * 30, 8, 100) for item in cluster} == set(range(30))
    assert set(CLUSTERINGS) == {"neighbours", "mixture"}
