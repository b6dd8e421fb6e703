"""KV of earlier calls in two memories: the device's, and for what that has no room for the processor's.

What moves is copied, never taken away: sequences that are being continued go on reading the blocks that they read. A
block and its copy know each other for as long as both are there, so that what several sequences share is copied once in
either direction, and a sequence that moves to the processor again costs only what is new in it.

Copies are ordinary, waited for, into ordinary memory. Memory that is locked for a GPU would be filled faster, but torch
rounds each piece of it up to a power of two and gives none of it back, so that no limit would hold.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

import torch

from readthrough.models.local.cache import AnyBlock, Sequence
from readthrough.models.local.memory import where_memory_suffices
from readthrough.models.local.prefixes import PREFIX_TOKENS_MIN, KeptSequences, Leave
from readthrough.models.local.prompts import Tokens

HOST = torch.device("cpu")


class Tiers(KeptSequences):
    """Sequences of earlier calls; beyond a number of bytes the least recently used ones move to the host's memory.

    What is found there is copied back, and stays there too.

    Args:
        limit_bytes: the most that they take in the memory of `device`; 0 keeps none anywhere.
        host_limit_bytes: the most that they take in the host's.
        device: where KV is used.
        leave: is told of what the host has no room for either, and of all that is kept when it is dropped.

    Attributes:
        host: what is kept there.
    """

    def __init__(self, limit_bytes: int, host_limit_bytes: int, device: torch.device, leave: Leave) -> None:
        super().__init__(limit_bytes, self._to_host)
        self.host = KeptSequences(host_limit_bytes, leave)
        self._device = device
        self._give_up = leave
        self._copies: WeakKeyDictionary[AnyBlock, ref[AnyBlock]] = WeakKeyDictionary()

    def match(self, tokens: Tokens, limit: int) -> tuple[Sequence | None, int]:
        """As of `KeptSequences`; where the host has more of it, that is copied to the device."""
        found, length = super().match(tokens, limit)
        hosted, further = self.host.match(tokens, limit)
        if hosted is None or further - length < PREFIX_TOKENS_MIN:
            return found, length
        return self.bring(hosted, further), further

    def bring(self, sequence: Sequence, length: int) -> Sequence:
        """The first `length` tokens of a sequence in the host's memory, on the device."""
        return sequence.moved(length, lambda block, tokens: self._copy(block, tokens, self._device))

    def drop(self, number: int) -> None:
        """Forget an entry, if it is still there, in both memories."""
        super().drop(number)
        self.host.drop(number)

    def clear(self) -> None:
        """Drop everything. It leaves with the longest first: what they begin like has left with them."""
        for entry in sorted(self.entries() + self.host.entries(), key=lambda entry: -len(entry[1])):
            with where_memory_suffices():
                self._give_up(*entry)
        super().clear()
        self.host.clear()

    def _to_host(self, number: int, tokens: Tokens, sequence: Sequence) -> None:
        """Move an entry to the host; where even the host has no memory for it, it is dropped."""
        needed = sum(block.nbytes for block in sequence.blocks() if self._copy_of(block) is None)
        with where_memory_suffices():
            if needed > self.host.limit_bytes:
                self._give_up(number, tokens, sequence)
                return
            self.host.shrink(self.host.limit_bytes - needed)
            hosted = sequence.moved(len(tokens), lambda block, count: self._copy(block, count, HOST))
            self.host.put(number, tokens, hosted)

    def _copy(self, block: AnyBlock, tokens: int, device: torch.device) -> AnyBlock:
        """The copy of a block on the other device, with `tokens` of its tokens at least."""
        copy = self._copy_of(block) or block.empty()
        if copy.length < tokens:
            copy.follow(block, tokens, device)  # type: ignore[arg-type]  # both are of one kind
            self._copies[block], self._copies[copy] = ref(copy), ref(block)
        for each in (block, copy):
            each.shared = max(each.shared, tokens)  # whoever writes a block leaves the tokens that others read
        return copy

    def _copy_of(self, block: AnyBlock) -> AnyBlock | None:
        known = self._copies.get(block)
        return None if known is None else known()
