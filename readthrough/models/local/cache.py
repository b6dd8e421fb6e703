"""The KV of token sequences: growing buffers, shared prefixes, copy on write.

A `Sequence` is a chain of prefix parts that it only reads, and one tail that it alone appends to. Forking
shares the parts without a copy, so that many continuations of one text hold its KV once. Blocks are
append-only: a token another sequence can see is never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

PART_TOKENS_MIN = 64
"""A shorter shared part is copied: reading it apart would cost an attention call a layer and save nothing."""

PARTS_MAX = 4
"""The most parts a sequence reads before its tail; later ones are copied into the tail."""

GROWTH_RATIO = 1.25
ROUND_TOKENS = 64


class Block:
    """The keys and values of consecutive tokens in every layer, `[Hkv, capacity, D]` each.

    `length` counts the tokens that are complete in all layers; a forward pass writes behind it and commits at
    its end, so an interrupted pass leaves no trace. `shared` counts the tokens that others read, `nbytes` what
    the buffers take, whether filled or not.
    """

    def __init__(self, reserve_tokens: int = 0) -> None:
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.length = 0
        self.shared = 0
        self.reserve_tokens = reserve_tokens
        self.nbytes = 0

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put keys and values `[Hkv, n, D]` of `layer` behind the committed tokens."""
        end = self.length + keys.shape[1]
        if layer == len(self.keys):
            self.keys.append(self._buffer(keys, end))
            self.values.append(self._buffer(values, end))
        elif end > self.keys[layer].shape[1]:
            self.keys[layer] = self._grown(self.keys[layer], end)
            self.values[layer] = self._grown(self.values[layer], end)
        self.keys[layer][:, self.length : end] = keys
        self.values[layer][:, self.length : end] = values

    def read(self, layer: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views `[Hkv, length, D]` of the first `length` keys and values of `layer`.

        `length` may go up to the next multiple of `ROUND_TOKENS`: what was never written reads as zeros.
        """
        return self.keys[layer][:, :length], self.values[layer][:, :length]

    def _buffer(self, like: torch.Tensor, needed_tokens: int) -> torch.Tensor:
        capacity = max(needed_tokens, self.reserve_tokens)
        capacity = -(-capacity // ROUND_TOKENS) * ROUND_TOKENS
        self.nbytes += like.shape[0] * capacity * like.shape[2] * like.itemsize
        return like.new_zeros(like.shape[0], capacity, like.shape[2])

    def _grown(self, old: torch.Tensor, needed_tokens: int) -> torch.Tensor:
        grown = self._buffer(old, max(needed_tokens, int(old.shape[1] * GROWTH_RATIO)))
        grown[:, : self.length] = old[:, : self.length]
        self.nbytes -= old.nbytes
        return grown


Part = tuple[Block, int]


class Sequence:
    """The KV of one sequence of tokens, position 0 first.

    Attributes:
        parts: shared blocks with the number of their tokens that belong to this sequence, in order.
        tail: the block behind them, which this sequence alone writes.
    """

    def __init__(self, parts: Iterable[Part] = (), reserve_tokens: int = 0) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self.tail = Block(reserve_tokens)
        self._parts_tokens = sum(tokens for _, tokens in self.parts)

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return self._parts_tokens + self.tail.length

    def append(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the next tokens' keys and values `[Hkv, n, D]` of one layer; `commit` makes them count."""
        self.tail.write(layer, keys, values)

    def commit(self, tokens: int) -> None:
        """Take in the first `tokens` that were appended to every layer."""
        self.tail.length += tokens

    def fork(self, length: int | None = None, reserve_tokens: int = 0) -> Sequence:
        """A sequence of the first `length` tokens (default: all) that shares their KV with this one."""
        kept = self._first(self.length if length is None else length)
        copied: list[Part] = []
        while kept and (kept[-1][1] < PART_TOKENS_MIN or len(kept) > PARTS_MAX):
            copied.insert(0, kept.pop())
        for block, tokens in kept:
            block.shared = max(block.shared, tokens)
        child = Sequence(kept, reserve_tokens)
        for block, tokens in copied:
            for layer in range(len(block.keys)):
                child.append(layer, *block.read(layer, tokens))
            child.commit(tokens)
        return child

    def crop(self, length: int) -> None:
        """Forget the tokens from `length` on. What other sequences read stays with them.

        Raises:
            ValueError: there are fewer than `length` tokens.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop {self.length} tokens to {length}")
        own = length - self._parts_tokens
        if own >= self.tail.shared:
            self.tail.length = own
            return
        other = self.fork(length)
        self.parts, self.tail, self._parts_tokens = other.parts, other.tail, other._parts_tokens

    def gather(self, layer: int, extra_tokens: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of `layer`, `[Hkv, length + extra_tokens, D]`: views where there is one block.

        `extra_tokens` counts tokens that were appended and not committed yet.
        """
        reads = [block.read(layer, tokens) for block, tokens in self.parts]
        if self.tail.length + extra_tokens:
            reads.append(self.tail.read(layer, self.tail.length + extra_tokens))
        if len(reads) == 1:
            return reads[0]
        return torch.cat([keys for keys, _ in reads], 1), torch.cat([values for _, values in reads], 1)

    def blocks(self) -> list[Block]:
        """Every block that holds some of this sequence."""
        return [*(block for block, _ in self.parts), self.tail]

    def _first(self, length: int) -> list[Part]:
        if not 0 <= length <= self.length:
            raise ValueError(f"a sequence of {self.length} tokens has no first {length}")
        found: list[Part] = []
        for block, tokens in (*self.parts, (self.tail, self.tail.length)):
            take = min(tokens, length)
            if take:
                found.append((block, take))
            length -= take
        return found


def bytes_held(sequences: Iterable[Sequence]) -> int:
    """The bytes of all blocks of `sequences`, shared ones counted once."""
    blocks = {id(block): block for sequence in sequences for block in sequence.blocks()}
    return sum(block.nbytes for block in blocks.values())


class _SequenceLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a `Sequence` as transformers sees it."""

    is_sliding = False
    is_croppable = True

    def __init__(self, sequence: Sequence, layer: int, last: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sequence, self.layer, self.last = sequence, layer, last
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: blocks are made when they are written."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append `[1, Hkv, n, D]` and return all keys and values, `[1, Hkv, length, D]`."""
        if key_states.shape[0] != 1:
            raise ValueError(f"a sequence holds a batch of 1, got {key_states.shape[0]}")
        added = key_states.shape[2]
        self.sequence.append(self.layer, key_states[0], value_states[0])
        keys, values = self.sequence.gather(self.layer, added)
        if self.last:
            self.sequence.commit(added)
        return keys.unsqueeze(0), values.unsqueeze(0)

    def get_seq_length(self) -> int:
        """How many tokens are held."""
        return self.sequence.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The number of keys that a mask must cover, and the position of the first."""
        return self.sequence.length + query_length, 0

    def get_max_length(self) -> int:
        """No limit, in transformers' words."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last `-tokens_to_remove` tokens (transformers asks every layer; once is enough)."""
        if self.last:
            self.sequence.crop(self.sequence.length - abs(tokens_to_remove))


class SequenceCache(Cache):
    """A `Sequence` as the `past_key_values` of `model.generate`, for a batch of one."""

    def __init__(self, sequence: Sequence, layers: int) -> None:
        super().__init__(layers=[_SequenceLayer(sequence, i, i == layers - 1) for i in range(layers)])
        self.sequence = sequence
