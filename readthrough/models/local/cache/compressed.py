"""KV that a plan has compressed: each head's own tokens, plain or packed. What is dropped takes no memory."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch

from readthrough.compression.store import FULL, Store
from readthrough.kernels.attention import attend
from readthrough.kernels.gathered import QUERIES_MAX, attend_split
from readthrough.kernels.merge import merge_lse
from readthrough.kernels.packed_attention import attend_packed
from readthrough.models.local.cache.numbers import Consecutive, Hosted, Mapped, Numbers, Plain, Quantised

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class KeptKV:
    """What stays of some tokens in one layer: for each key head `[n, D]`, n its own.

    Attributes:
        keys, values: of each head.
        positions: of its tokens in the sequence, int32 `[n]`, ascending.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    positions: tuple[torch.Tensor, ...]


@dataclass(slots=True)
class _Heads:
    """Some heads of a layer that hold equally many tokens."""

    keys: Numbers
    values: Numbers
    positions: Numbers

    @classmethod
    def empty(cls, store: Store, whole: bool) -> _Heads:
        plain = {"disk": Mapped, "host": Hosted}.get(store.form, Plain)
        keys, values = (plain() if scheme is None else Quantised(scheme) for scheme in (store.keys, store.values))
        return cls(keys, values, Consecutive() if whole else Plain())

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.positions.nbytes

    def beginning(self, count: int) -> _Heads:
        return _Heads(self.keys.beginning(count), self.values.beginning(count), self.positions.beginning(count))

    def follow(self, other: _Heads, count: int, device: torch.device) -> None:
        self.keys.follow(other.keys, count, device)
        self.values.follow(other.values, count, device)
        self.positions.follow(other.positions, count, device)


class CompressedBlock:
    """The first tokens of a sequence, compressed a piece at a time.

    Sequences that begin alike share one, each reading it up to the piece that it knows.

    Attributes:
        shared: as a `Block`'s: the number of tokens that others read.

    Args:
        heads: how many key heads a layer has.
        ragged: the heads may hold different numbers of tokens; otherwise they are stored, and read, together.
        store: how numbers are held.
        whole: no token is dropped.
    """

    def __init__(self, heads: int, *, ragged: bool, store: Store = FULL, whole: bool = False) -> None:
        self.heads = heads
        self.whole = whole
        self.ragged = ragged
        self.store = store
        self.shared = 0
        self._layers: list[list[_Heads]] = []
        # the tokens of the sequence at the end of each piece, and what every layer's heads held then
        self._marks: list[tuple[int, list[list[int]]]] = []

    @property
    def nbytes(self) -> int:
        """The bytes of all buffers."""
        return sum(head.nbytes for layer in self._layers for head in layer)

    @property
    def length(self) -> int:
        """How many tokens of the sequence have been compressed."""
        return self._marks[-1][0] if self._marks else 0

    def counts(self, tokens: int) -> list[list[int]]:
        """How many tokens each head of each layer keeps of the first `tokens` of the sequence."""
        each = 1 if self.ragged else self.heads
        return [[count for count in layer for _ in range(each)] for layer in self._mark(tokens)]

    def extended(self, tokens: int, end: int, pieces: Seq[KeptKV]) -> CompressedBlock:
        """The first `tokens` tokens of the sequence and a new piece up to `end`: this block, or a copy of its beginning
        where another sequence has gone on differently.

        Args:
            tokens: the tokens of this block that count; a piece ends there.
            end: the tokens of the sequence at the new piece's end.
            pieces: what stays of the new piece, in every layer.
        """
        if tokens == self.length:
            self._append(end, pieces)
            return self
        copy = self.empty()
        if tokens:
            copy._marks = [mark for mark in self._marks if mark[0] <= tokens]
            for layer, counts in zip(self._layers, copy._marks[-1][1], strict=True):
                copy._layers.append([heads.beginning(count) for heads, count in zip(layer, counts, strict=True)])
        copy._append(end, pieces)
        return copy

    def empty(self) -> CompressedBlock:
        """A block for a copy of this one."""
        return CompressedBlock(self.heads, ragged=self.ragged, store=self.store, whole=self.whole)

    def follow(self, other: CompressedBlock, tokens: int, device: torch.device) -> None:
        """Become a copy of `other`, which it may be of its first pieces already, in the memory of `device`.

        All of `other` is copied, not the first `tokens` tokens of the sequence alone: a copy that ends sooner could be
        continued otherwise, and would be no copy any more.
        """
        for layer, heads in enumerate(other._layers):
            if layer == len(self._layers):
                self._layers.append([_Heads.empty(self.store, self.whole) for _ in heads])
            for own, others, count in zip(self._layers[layer], heads, other._marks[-1][1][layer], strict=True):
                own.follow(others, count, device)
        self._marks = list(other._marks)

    def attend(self, layer: int, tokens: int, q: torch.Tensor, scale: float) -> Pair:
        """Attention of queries `[H, Tq, D]` behind all of it over what is kept of the first `tokens` tokens.

        Returns:
            The output `[H, Tq, D]`, and the log-sum-exp `[H, Tq]`: minus infinity for heads that keep nothing.
        """
        counts = self._mark(tokens)[layer]
        rows = q.shape[0] // len(counts)
        parts = [
            _attend(q[index * rows : (index + 1) * rows], head, count, scale)
            for index, (head, count) in enumerate(zip(self._layers[layer], counts, strict=True))
        ]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([out for out, _ in parts]), torch.cat([lse for _, lse in parts])

    def read(self, layer: int, tokens: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Keys and values `[h, n, D]` and positions `[h, n]` of each group of heads that are stored together."""
        found = []
        for head, count in zip(self._layers[layer], self._mark(tokens)[layer], strict=True):
            runs = [list(numbers.read(count)) for numbers in (head.keys, head.values, head.positions)]
            if count:
                keys, values, positions = (run[0] if len(run) == 1 else torch.cat(run, 1) for run in runs)
                found.append((keys, values, positions[..., 0]))
        return found

    def _mark(self, tokens: int) -> list[list[int]]:
        for length, counts in reversed(self._marks):  # nearly always the last
            if length == tokens:
                return counts
        raise ValueError(f"no piece ends at {tokens} tokens, but at {[length for length, _ in self._marks]}")

    def _append(self, end: int, pieces: Seq[KeptKV]) -> None:
        counts = []
        for layer, piece in enumerate(pieces):
            if layer == len(self._layers):
                groups = self.heads if self.ragged else 1
                self._layers.append([_Heads.empty(self.store, self.whole) for _ in range(groups)])
            before = self._marks[-1][1][layer] if self._marks else [0] * len(self._layers[layer])
            added = []
            for index, head in enumerate(self._layers[layer]):
                own = slice(index, index + 1) if self.ragged else slice(None)
                head.keys.append(torch.stack(piece.keys[own]))
                head.values.append(torch.stack(piece.values[own]))
                head.positions.append(torch.stack(piece.positions[own]).unsqueeze(-1))
                added.append(len(piece.positions[index]))
            counts.append([old + new for old, new in zip(before, added, strict=True)])
        self._marks.append((end, counts))


def _attend(q: torch.Tensor, head: _Heads, count: int, scale: float) -> Pair:
    if not count:
        return torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
    if isinstance(head.keys, Quantised) and isinstance(head.values, Quantised):
        return attend_packed(q, head.keys.packed(count), head.values.packed(count), scale=scale)
    parts = []
    for keys, values in zip(head.keys.read(count), head.values.read(count), strict=True):
        if q.shape[1] <= QUERIES_MAX:
            parts.append(attend_split(q, keys, values, scale=scale))
        else:
            parts.append(attend(q, keys, values, causal=False, scale=scale))
    return merge_lse(parts)
