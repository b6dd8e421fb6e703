"""Prompt-lookup drafts: what is copied is foreseen, longer where it comes true."""

from __future__ import annotations

import numpy as np

from readthrough.models.local.drafts import FIRST_TOKENS, Lookup


def written(lookup: Lookup, reply: list[int], most: int) -> tuple[int, list[int]]:
    """Passes that a greedy model takes to write `reply`, and the lengths of the drafts it was given."""
    passes, lengths, at = 0, list[int](), 0
    while at < len(reply):
        draft = lookup.draft(most).tolist()
        lengths.append(len(draft))
        right = next((n for n, (one, other) in enumerate(zip(draft, reply[at:], strict=False)) if one != other), None)
        for token in reply[at : at + (min(len(draft), len(reply) - at - 1) if right is None else right) + 1]:
            lookup.push(token)
            at += 1
        passes += 1
    return passes, lengths


def test_a_copy_takes_few_passes_and_its_drafts_grow() -> None:
    text = list(range(100, 200))
    passes, lengths = written(Lookup(np.array([1, *text, 2, 100]), 200), text[1:], 15)
    assert lengths[0] == FIRST_TOKENS[0] and set(lengths[1:-1]) == {15}
    assert passes <= 8


def test_a_draft_that_did_not_come_true_is_followed_by_a_short_one() -> None:
    lookup = Lookup(np.array([*range(50), 0, 1]), 100)
    assert lookup.draft(15).tolist() == list(range(2, 2 + FIRST_TOKENS[1]))
    for token in range(2, 2 + FIRST_TOKENS[1] + 1):
        lookup.push(token)
    assert len(lookup.draft(15)) == 15
    lookup.push(30)  # not what was foreseen
    assert lookup.draft(15).tolist() == list(range(31, 31 + FIRST_TOKENS[0]))
    assert len(lookup.draft(1)) == 1, "never more than there is room for"


def test_nothing_seen_before_is_no_draft() -> None:
    lookup = Lookup(np.array([1, 2, 3]), 10)
    assert len(lookup.draft(15)) == 0
    lookup.push(4)
    assert len(lookup.draft(15)) == 0
