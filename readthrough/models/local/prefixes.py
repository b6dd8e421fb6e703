"""Finding tokens that need not be computed again: within a call, and from earlier calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from readthrough.models.local.cache import Sequence, bytes_held
from readthrough.models.local.prompts import Tokens, common_length

PREFIX_TOKENS_MIN = 32
"""A shorter common prefix is not worth its bookkeeping."""


Leave = Callable[[int, Tokens, Sequence], None]
"""Gets the number, the tokens and the KV of an entry that there is no room for."""


class KeptSequences:
    """Sequences of earlier calls, the least recently used ones dropped beyond a number of bytes.

    Args:
        limit_bytes: the most that they take together; 0 keeps none.
        leave: is told of what goes because there is no room.
    """

    def __init__(self, limit_bytes: int, leave: Leave | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._leave = leave
        self._entries: OrderedDict[int, tuple[Tokens, Sequence]] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """The bytes that the kept sequences take together."""
        return bytes_held(sequence for _, sequence in self._entries.values())

    def match(self, tokens: Tokens, limit: int) -> tuple[Sequence | None, int]:
        """The kept sequence that begins most like `tokens`, and how many of the first `limit` it has."""
        best, best_key = PREFIX_TOKENS_MIN - 1, None
        for key, (kept, sequence) in self._entries.items():
            if len(kept) > best and kept[0] == tokens[0]:
                length = common_length(kept, tokens[:limit])
                if length > best and length >= sequence.floor:
                    best, best_key = length, key
        if best_key is None:
            return None, 0
        self._entries.move_to_end(best_key)
        return self._entries[best_key][1], best

    def add(self, tokens: Tokens, sequence: Sequence) -> int:
        """Keep a sequence; entries that it only continues are replaced by it. Returns the number of its entry."""
        number, self._next = self._next, self._next + 1
        self.put(number, tokens[: sequence.length], sequence)
        return number

    def put(self, number: int, tokens: Tokens, sequence: Sequence) -> None:
        """As `add`, for an entry that has its number already."""
        if len(tokens) < PREFIX_TOKENS_MIN or not self.limit_bytes:
            return
        for key, (kept, _) in list(self._entries.items()):
            if sequence.floor <= len(kept) <= len(tokens) and np.array_equal(kept, tokens[: len(kept)]):
                del self._entries[key]
        self._entries[number] = (tokens, sequence)
        self.shrink(self.limit_bytes)

    def shrink(self, limit_bytes: int) -> None:
        """Let go of what was used longest ago until all take at most so many bytes."""
        while self._entries and self.nbytes > limit_bytes:
            self._let_go()

    def make_room(self) -> bool:
        """Let go of everything; whether there was anything."""
        held = len(self._entries) > 0
        while self._entries:
            self._let_go()
        return held

    def bring(self, sequence: Sequence, length: int) -> Sequence:
        """The first `length` tokens of a sequence, where they are used."""
        return sequence

    def entries(self) -> list[tuple[int, Tokens, Sequence]]:
        """The number, the tokens and the KV of each entry, least recently used first."""
        return [(number, *entry) for number, entry in self._entries.items()]

    def drop(self, number: int) -> None:
        """Forget an entry, if it is still there."""
        self._entries.pop(number, None)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def _let_go(self) -> None:
        number, (tokens, sequence) = self._entries.popitem(last=False)
        if self._leave is not None:
            self._leave(number, tokens, sequence)


@dataclass(frozen=True, slots=True)
class Shared:
    """A prefix of `length` tokens that `members` have in common; `parent` is the shared prefix it continues.

    Members and parents are indices, the parent's smaller than the node's own.
    """

    length: int
    members: tuple[int, ...]
    parent: int | None


def shared_prefixes(prompts: Seq[Tokens], limits: Seq[int]) -> list[Shared]:
    """The tree of prefixes that two or more prompts have in common, parents before children.

    Args:
        prompts: the token sequences.
        limits: for each, the most tokens that may be taken from a prefix.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i].tobytes())
    common = [min(common_length(prompts[a], prompts[b]), limits[a], limits[b]) for a, b in pairwise(order)]
    found: list[Shared] = []
    pending: list[tuple[int, int, int, int | None]] = [(0, len(order), 0, None)]
    while pending:
        first, end, depth, parent = pending.pop()
        start = first
        for i in range(first, end):
            if i + 1 < end and common[i] >= depth + PREFIX_TOKENS_MIN:
                continue
            if i > start:
                length = min(common[start:i])
                found.append(Shared(length, tuple(order[start : i + 1]), parent))
                pending.append((start, i + 1, length, len(found) - 1))
            start = i + 1
    return found
