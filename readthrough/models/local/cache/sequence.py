"""The KV of token sequences: growing buffers, shared prefixes, copy on write.

A `Sequence` is a chain of prefix parts that it only reads, and one tail that it alone appends to. Forking
shares the parts without a copy, so that many continuations of one text hold its KV once. Blocks are
append-only: a token another sequence can see is never overwritten. The first part may be compressed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from typing import Any

import torch

from readthrough.kernels.attention import attend
from readthrough.kernels.scores import page_bounds
from readthrough.models.local.cache.compressed import CompressedBlock, KeptKV
from readthrough.models.local.cache.numbers import GROWTH_RATIO, ROUND_TOKENS

PART_TOKENS_MIN = 64
"""A shorter shared part is copied: reading it apart would cost an attention call a layer and save nothing."""

PARTS_MAX = 4
"""The most parts a sequence reads before its tail; later ones are copied into the tail."""


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
        self._bounds: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

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

    def bounds(self, layer: int, pages: int, page_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and greatest values of each channel of the keys in the first whole pages, `[Hkv, pages, D]` each.

        They are kept: every page is looked at once, all pages of a block being equally wide.
        """
        low, high = self._bounds.get(layer, (None, None))
        known = 0 if low is None or high is None else low.shape[1]
        if known < pages:
            new = page_bounds(self.keys[layer][:, known * page_tokens : pages * page_tokens], page_tokens)
            low, high = (x if old is None else torch.cat([old, x], 1) for old, x in zip((low, high), new, strict=True))
            self._bounds[layer] = (low, high)
            self.nbytes += sum(x.nbytes for x in new)
        return low[:, :pages], high[:, :pages]  # type: ignore[index]

    def forget_bounds(self) -> None:
        """What `bounds` found no longer holds: other tokens will be written there."""
        self.nbytes -= sum(x.nbytes for pair in self._bounds.values() for x in pair)
        self._bounds.clear()

    def attend(self, layer: int, tokens: int, q: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of queries `[H, Tq, D]` behind the block over its first `tokens` tokens: output and log-sum-exp."""
        return attend(q, *self.read(layer, tokens), causal=False, scale=scale)

    def empty(self) -> Block:
        """A block for a copy of this one."""
        return Block()

    def follow(self, other: Block, tokens: int, device: torch.device) -> None:
        """Become a copy of the first `tokens` tokens of `other`, in the memory of `device`.

        It may be one of fewer tokens already: who reads those goes on doing so.
        """
        keys, values = ([_copied(x, tokens, device) for x in tensors] for tensors in (other.keys, other.values))
        self.nbytes += sum(x.nbytes for x in (*keys, *values)) - sum(x.nbytes for x in (*self.keys, *self.values))
        self.keys, self.values, self.length = keys, values, tokens

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


AnyBlock = Block | CompressedBlock
Part = tuple[AnyBlock, int]


class Sequence:
    """The KV of one sequence of tokens, position 0 first.

    Attributes:
        parts: shared blocks with the number of their tokens that belong to this sequence, in order; only the first may
            be compressed.
        tail: the block behind them, which this sequence alone writes.
        floor: the fewest tokens that the sequence can be cropped to or forked at: what came before is compressed.
        shift_tokens: by how much positions are smaller than the numbers of tokens, where tokens that were dropped are
            not counted.
        memory: what a selector remembers of the reply that is being written, by layer; forks have none.
        memories: what it remembers once each of the tokens that were appended, and not committed, counts.
    """

    def __init__(self, parts: Iterable[Part] = (), reserve_tokens: int = 0) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self.tail = Block(reserve_tokens)
        self.floor = 0
        self.shift_tokens = 0
        self.memory: dict[int, Any] = {}
        self.memories: dict[int, list[Any]] = {}
        self._parts_tokens = sum(tokens for _, tokens in self.parts)

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return self._parts_tokens + self.tail.length

    @property
    def layers(self) -> int:
        """How many layers are held."""
        return max(len(block.keys) for block in self.blocks() if isinstance(block, Block))

    @property
    def compressed(self) -> CompressedBlock | None:
        """The compressed part, if there is one."""
        block = self.parts[0][0] if self.parts else None
        return block if isinstance(block, CompressedBlock) else None

    @property
    def compressed_tokens(self) -> int:
        """How many tokens have been compressed."""
        return self.parts[0][1] if self.compressed else 0

    def append(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the next tokens' keys and values `[Hkv, n, D]` of one layer; `commit` makes them count."""
        self.tail.write(layer, keys, values)

    def rewrite(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Replace what one layer holds of the tokens `places`, integers `[n]`, by keys and values `[Hkv, n, D]`.

        They must be in the tail, and no other sequence may read them yet.
        """
        own = (places - self._parts_tokens).to(keys.device)
        self.tail.keys[layer][:, own] = keys
        self.tail.values[layer][:, own] = values

    def commit(self, tokens: int) -> None:
        """Take in the first `tokens` that were appended to every layer."""
        self.tail.length += tokens
        if self.memories:
            self.memory = {layer: each[min(tokens, len(each)) - 1] for layer, each in self.memories.items()}
            self.memories = {}

    def fork(self, length: int | None = None, reserve_tokens: int = 0) -> Sequence:
        """A sequence of the first `length` tokens (default: all) that shares their KV with this one.

        Raises:
            ValueError: there are fewer tokens, or they end in what is compressed.
        """
        kept = self._first(self.length if length is None else length)
        copied: list[tuple[Block, int]] = []
        while kept and (kept[-1][1] < PART_TOKENS_MIN or len(kept) > PARTS_MAX):
            block, tokens = kept[-1]
            if isinstance(block, CompressedBlock):
                break
            copied.insert(0, (block, tokens))
            kept.pop()
        for block, tokens in kept:
            block.shared = max(block.shared, tokens)
        child = Sequence(kept, reserve_tokens)
        child.floor, child.shift_tokens = (self.floor, self.shift_tokens) if kept else (0, 0)
        for block, tokens in copied:
            child._copy(block, tokens)
        return child

    def compress(
        self, end: int, kept: Seq[KeptKV], block: CompressedBlock, turn: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> None:
        """Keep of the tokens up to `end` no more than this of those that were not compressed yet.

        Args:
            end: the first token that stays as it is.
            kept: what is kept of them in each layer.
            block: where it goes, if nothing is compressed yet.
            turn: turns the keys behind them, `[Hkv, n, D]`, to their new positions.
        """
        start = self.compressed_tokens
        tail = Block()
        for layer in range(len(kept)):
            keys, values = (x[:, end - start :] for x in self.gather(layer))
            if keys.shape[1]:
                tail.write(layer, keys if turn is None else turn(keys), values)
        tail.length = self.length - end
        self.floor = self.length
        self.parts = (((self.compressed or block).extended(start, end, kept), end),)
        self.tail, self._parts_tokens = tail, end

    def snapshot(self) -> Sequence:
        """A copy of a sequence that has just been compressed; what is compressed is shared."""
        child = Sequence(self.parts)
        child.floor, child.shift_tokens = self.floor, self.shift_tokens
        child._copy(self.tail, self.tail.length)
        return child

    def moved(self, length: int, move: Callable[[AnyBlock, int], AnyBlock]) -> Sequence:
        """The first `length` tokens, read from what `move` gives for a block and how many of its tokens are read."""
        child = Sequence((move(block, tokens), tokens) for block, tokens in self._first(length))
        child.floor, child.shift_tokens = self.floor, self.shift_tokens
        return child

    def crop(self, length: int) -> None:
        """Forget the tokens from `length` on. What other sequences read stays with them.

        Raises:
            ValueError: there are fewer than `length` tokens.
        """
        if not self.floor <= length <= self.length:
            raise ValueError(f"cannot crop {self.length} tokens to {length}")
        own = length - self._parts_tokens
        if own >= self.tail.shared:
            self.tail.length = own
            self.tail.forget_bounds()
            return
        other = self.fork(length)
        self.parts, self.tail, self._parts_tokens = other.parts, other.tail, other._parts_tokens
        self.floor, self.shift_tokens = other.floor, other.shift_tokens

    def gather(self, layer: int, extra_tokens: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of `layer` that are not compressed, `[Hkv, n, D]`: views where there is one block.

        `extra_tokens` counts tokens that were appended and not committed yet.
        """
        reads = [block.read(layer, tokens) for block, tokens in self.parts if isinstance(block, Block)]
        if self.tail.length + extra_tokens:
            reads.append(self.tail.read(layer, self.tail.length + extra_tokens))
        if len(reads) == 1:
            return reads[0]
        return torch.cat([keys for keys, _ in reads], 1), torch.cat([values for _, values in reads], 1)

    def blocks(self) -> list[AnyBlock]:
        """Every block that holds some of this sequence."""
        return [*(block for block, _ in self.parts), self.tail]

    def _copy(self, block: Block, tokens: int) -> None:
        for layer in range(len(block.keys)):
            self.append(layer, *block.read(layer, tokens))
        self.commit(tokens)

    def _first(self, length: int) -> list[Part]:
        if not self.floor <= length <= self.length:
            raise ValueError(f"a sequence of {self.length} tokens has no first {length}")
        found: list[Part] = []
        for block, tokens in (*self.parts, (self.tail, self.tail.length)):
            take = min(tokens, length)
            if take:
                found.append((block, take))
            length -= take
        return found


def _copied(x: torch.Tensor, tokens: int, device: torch.device) -> torch.Tensor:
    """The first `tokens` of `[H, n, D]` on another device, zeros up to a whole page behind them."""
    pages = -(-tokens // ROUND_TOKENS) * ROUND_TOKENS
    copy = torch.empty(x.shape[0], pages, x.shape[2], dtype=x.dtype, device=device)
    copy[:, tokens:] = 0
    for target, source in zip(copy, x, strict=True):  # each in one run: for others a GPU takes more of its own memory
        target[:tokens].copy_(source[:tokens])
    return copy


def bytes_held(sequences: Iterable[Sequence]) -> int:
    """The bytes of all blocks of `sequences`, shared ones counted once."""
    blocks = {id(block): block for sequence in sequences for block in sequence.blocks()}
    return sum(block.nbytes for block in blocks.values())
