"""Finding shared prefixes within a call and over calls."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from readthrough.models.local.cache import Sequence
from readthrough.models.local.prefixes import PREFIX_TOKENS_MIN, KeptSequences, shared_prefixes


def held(tokens: np.ndarray) -> Sequence:
    sequence = Sequence()
    sequence.append(0, torch.zeros(1, len(tokens), 4), torch.zeros(1, len(tokens), 4))
    sequence.commit(len(tokens))
    return sequence


def tokens_of(*runs: tuple[int, int]) -> np.ndarray:
    """Runs of (value, count)."""
    return np.concatenate([np.full(count, value, dtype=np.int64) for value, count in runs])


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(20, 50)), min_size=1, max_size=4), max_size=7))
def test_shared_prefixes_hold(runs: list[list[tuple[int, int]]]) -> None:
    prompts = [tokens_of(*each) for each in runs]
    limits = [len(prompt) - 1 for prompt in prompts]
    nodes = shared_prefixes(prompts, limits)
    for index, node in enumerate(nodes):
        assert len(node.members) > 1
        begin = prompts[node.members[0]][: node.length]
        assert all(np.array_equal(prompts[member][: node.length], begin) for member in node.members)
        assert all(node.length <= limits[member] for member in node.members)
        parent = nodes[node.parent] if node.parent is not None else None
        assert node.parent is None or node.parent < index
        assert node.length - (parent.length if parent else 0) >= PREFIX_TOKENS_MIN
        assert parent is None or set(node.members) <= set(parent.members)
    # nothing worth sharing is missed: every pair meets in a node that is at most the minimum shorter
    for a in range(len(prompts)):
        for b in range(a):
            size = min(limits[a], limits[b])
            different = np.flatnonzero(prompts[a][:size] != prompts[b][:size])
            common = int(different[0]) if len(different) else size
            found = max((node.length for node in nodes if {a, b} <= set(node.members)), default=0)
            assert found <= common
            assert common - found < PREFIX_TOKENS_MIN


def test_three_levels() -> None:
    system, text = (1, 100), (2, 200)
    prompts = [tokens_of(system, text, (i, 20)) for i in (3, 4, 5)] + [tokens_of(system, (9, 50))]
    nodes = shared_prefixes(prompts, [len(prompt) for prompt in prompts])
    assert [(node.length, sorted(node.members), node.parent) for node in nodes] == [
        (100, [0, 1, 2, 3], None),
        (300, [0, 1, 2], 0),
    ]


def test_the_longest_match_is_found() -> None:
    kept = KeptSequences(1 << 30)
    short, long = tokens_of((1, 50), (2, 50)), tokens_of((1, 50), (3, 100))
    for tokens in (short, long):
        kept.add(tokens, held(tokens))
    asked = tokens_of((1, 50), (3, 80), (4, 10))
    found, length = kept.match(asked, len(asked))
    assert (found.length if found else 0, length) == (150, 130)
    assert kept.match(asked, 60)[1] == 60
    assert kept.match(tokens_of((1, PREFIX_TOKENS_MIN - 1), (7, 50)), 60) == (None, 0)
    assert kept.match(tokens_of((9, 100)), 100) == (None, 0)


def test_what_is_only_continued_is_kept_once() -> None:
    kept = KeptSequences(1 << 30)
    sequence = held(tokens_of((1, 100)))
    kept.add(tokens_of((1, 60)), sequence)
    kept.add(tokens_of((1, 100)), sequence)
    assert len(kept) == 1
    assert kept.match(tokens_of((1, 90)), 90)[1] == 90


def test_the_oldest_leave_and_the_limit_is_kept() -> None:
    one = held(tokens_of((0, 128))).tail.nbytes
    kept = KeptSequences(3 * one)
    for value in range(3):
        kept.add(tokens_of((value, 128)), held(tokens_of((value, 128))))
    kept.match(tokens_of((0, 128)), 128)
    kept.add(tokens_of((7, 128)), held(tokens_of((7, 128))))
    assert kept.nbytes <= kept.limit_bytes
    lengths = {value: kept.match(tokens_of((value, 128)), 128)[1] for value in (0, 1, 2, 7)}
    assert lengths == {0: 128, 1: 0, 2: 128, 7: 128}


def test_no_bytes_keep_nothing() -> None:
    kept = KeptSequences(0)
    kept.add(tokens_of((1, 100)), held(tokens_of((1, 100))))
    assert len(kept) == 0
