"""Sequences: what they hold after appends, forks and crops, and that nobody's tokens are overwritten."""

from __future__ import annotations

import pytest
import torch

from readthrough.models.local.cache import Sequence, bytes_held
from readthrough.models.local.cache.sequence import PARTS_MAX

LAYERS, HEADS, WIDTH = 2, 2, 4


def grow(sequence: Sequence, values: list[int]) -> None:
    """Append tokens whose keys are all their value, and whose values are its negative."""
    for layer in range(LAYERS):
        keys = torch.tensor(values, dtype=torch.float32).view(1, -1, 1).expand(HEADS, len(values), WIDTH)
        sequence.append(layer, keys + layer * 1000, -keys)
    sequence.commit(len(values))


def content(sequence: Sequence) -> list[int]:
    keys, values = sequence.gather(0)
    other, _ = sequence.gather(1)
    assert torch.equal(keys, -values)
    assert torch.equal(other, keys + 1000)
    return keys[0, :, 0].int().tolist()


def filled(count: int) -> Sequence:
    sequence = Sequence()
    grow(sequence, list(range(count)))
    return sequence


def test_append_grows_over_any_capacity() -> None:
    sequence, expected = Sequence(), []
    for size in (1, 62, 2, 300, 1, 1000):
        values = list(range(len(expected), len(expected) + size))
        grow(sequence, values)
        expected += values
        assert content(sequence) == expected


def test_what_was_not_committed_does_not_count() -> None:
    sequence = filled(10)
    for layer in range(LAYERS):
        sequence.append(layer, torch.ones(HEADS, 5, WIDTH), torch.ones(HEADS, 5, WIDTH))
    assert content(sequence) == list(range(10))
    grow(sequence, [77])
    assert content(sequence) == [*range(10), 77]


@pytest.mark.parametrize("length", [0, 10, 63, 64, 200, 300])
def test_forks_and_their_origin_grow_apart(length: int) -> None:
    origin = filled(300)
    fork = origin.fork(length)
    grow(fork, [1, 2, 3])
    grow(origin, [7, 8])
    assert content(fork) == [*range(length), 1, 2, 3]
    assert content(origin) == [*range(300), 7, 8]


def test_a_fork_shares_memory() -> None:
    origin = filled(1000)
    forks = [origin.fork() for _ in range(10)]
    assert bytes_held([origin, *forks]) == bytes_held([origin])
    grow(forks[0], [1])
    assert bytes_held([origin, *forks]) < 1.2 * bytes_held([origin])


def test_counted_bytes_are_the_buffers() -> None:
    sequence = filled(1000)
    grow(sequence, list(range(500)))
    block = sequence.tail
    assert bytes_held([sequence]) == sum(tensor.nbytes for tensor in (*block.keys, *block.values))


def test_long_chains_of_forks_stay_short_in_parts() -> None:
    sequence, expected = filled(100), list(range(100))
    for step in range(10):
        sequence = sequence.fork()
        grow(sequence, [step] * 100)
        expected += [step] * 100
        assert len(sequence.parts) <= PARTS_MAX
        assert content(sequence) == expected


@pytest.mark.parametrize("length", [0, 50, 99, 100, 150, 170])
def test_crop_leaves_forks_alone(length: int) -> None:
    origin = filled(100).fork()
    grow(origin, list(range(100, 170)))
    fork = origin.fork(160)
    origin.crop(length)
    grow(origin, [5, 6])
    assert content(origin) == [*range(length), 5, 6]
    assert content(fork) == list(range(160))


def test_lengths_that_are_not_there_are_refused() -> None:
    sequence = filled(10)
    for length in (-1, 11):
        with pytest.raises(ValueError, match="10 tokens"):
            sequence.crop(length)
        with pytest.raises(ValueError, match="10 tokens"):
            sequence.fork(length)
