"""Dual chunk attention in a forward pass: which keys each query reads, and at which position.

Keys are rotated for their places within chunks. So are queries; towards keys of earlier chunks they are turned further.
What is read of a sequence is cut where its blocks and its chunks end: each such stretch is a view of a block, read once
for all sequences of the pass that share it, and the stretches are merged by log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from readthrough.compression.positions.dual_chunk import DualChunk
from readthrough.kernels.attention import NEWEST_TOKENS, TILE_TOKENS, attend, attend_newest
from readthrough.kernels.merge import merge_lse
from readthrough.kernels.rotary import rerotate
from readthrough.models.local.cache import Block, Sequence
from readthrough.models.local.rows import Rows, joined, on_device

Pair = tuple[torch.Tensor, torch.Tensor]
Stretch = tuple[Block, int, int, int]
"""Of a block the keys from one number to another, and how many chunks back they lie: 0, 1, or 2 for any earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class DualChunks:
    """Dual chunk attention on a model with these inverse frequencies `[R]`."""

    positions: DualChunk
    inverse_frequencies: torch.Tensor

    def lay(self, pieces: Iterable[tuple[Sequence | None, slice]]) -> ChunkedPass:
        """What a pass computes of new tokens, which are these rows of the packed input."""
        return ChunkedPass(self, pieces)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """New tokens of one chunk: their rows, the stretch of their own block up to the last of them, what lies before."""

    rows: slice
    own: Stretch
    past: list[Stretch]


class ChunkedPass:
    """The attention of one forward pass.

    Args:
        chunks: how it is computed.
        pieces: as for `DualChunks.lay`. A sequence of None is that of tokens whose KV nobody will read again.

    Attributes:
        maker: as `chunks`.
        places: the places of all rows within their chunks, `[T]`: what the model rotates them for.
    """

    def __init__(self, chunks: DualChunks, pieces: Iterable[tuple[Sequence | None, slice]]) -> None:
        self.maker = chunks
        self._pieces = [(Sequence() if sequence is None else sequence, rows) for sequence, rows in pieces]
        width = chunks.positions.chunk_tokens
        places = [torch.arange(rows.stop - rows.start) + sequence.length for sequence, rows in self._pieces]
        self.places = (torch.cat(places) % width).to(chunks.inverse_frequencies.device)
        self._runs = [run for sequence, rows in self._pieces for run in _runs(sequence, rows, width)]
        readers: dict[Stretch, list[slice]] = {}
        for run in self._runs:
            for stretch in run.past:
                readers.setdefault(stretch, []).append(run.rows)
        self._reads: list[tuple[Stretch, Rows]] = [(stretch, joined(rows)) for stretch, rows in readers.items()]

    def attend(self, layer: int, qkv: tuple[torch.Tensor, ...], out: torch.Tensor, scale: float) -> None:
        """Attention of all rows over what their sequences hold and themselves, after writing themselves there.

        Args:
            layer: the number of the layer.
            qkv: queries `[H, T, D]`, keys and values `[Hkv, T, D]` of the rows, rotated for `places`.
            out: `[H, T, D]`, to be filled.
            scale: what the scores are multiplied with.
        """
        q, k, v = qkv
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        for sequence, rows in self._pieces:
            sequence.append(layer, k[:, rows], v[:, rows])
        for run in self._runs:
            out[:, run.rows], lse[:, run.rows] = _own(run.own, layer, q[:, run.rows], scale)
        turned = {back: self._turned(q, back) for back in {stretch[3] for stretch, _ in self._reads}}
        for (block, first, end, back), shared in self._reads:
            at = on_device(shared, q.device)
            keys, values = (x[:, first:] for x in block.read(layer, end))
            past = attend(turned[back][:, at], keys, values, causal=False, scale=scale)
            out[:, at], lse[:, at] = merge_lse([(out[:, at], lse[:, at]), past])

    def _turned(self, q: torch.Tensor, chunks_back: int) -> torch.Tensor:
        """All queries at their positions towards keys of other chunks."""
        if not chunks_back:
            return q
        positions = self.maker.positions.towards(self.places, chunks_back)
        return rerotate(q, self.places, positions, self.maker.inverse_frequencies)


def _runs(sequence: Sequence, rows: slice, width: int) -> Iterator[_Run]:
    """A sequence's new tokens, which are these rows, by chunks of a width."""
    held, end = sequence.length, sequence.length + rows.stop - rows.start
    parts = [(block, tokens) for block, tokens in sequence.parts if isinstance(block, Block)]
    for chunk in range(held // width, -(-end // width)):
        start, stop = chunk * width, min(end, (chunk + 1) * width)
        here = slice(max(start, held) - held + rows.start, stop - held + rows.start)
        blocks = [*parts, (sequence.tail, stop - held + sequence.tail.length)]
        *past, own = _stretches(blocks, [(0, start - width, 2), (start - width, start, 1), (start, stop, 0)])
        yield _Run(here, own, past)


def _stretches(blocks: list[tuple[Block, int]], spans: list[tuple[int, int, int]]) -> Iterator[Stretch]:
    """Where the blocks of a sequence lie in spans, from one token to another, that are so many chunks back."""
    begin = 0
    for block, tokens in blocks:
        for first, end, back in spans:
            stretch = max(first - begin, 0), min(end - begin, tokens)
            if stretch[0] < stretch[1]:
                yield block, *stretch, back
        begin += tokens


def _own(stretch: Stretch, layer: int, q: torch.Tensor, scale: float) -> Pair:
    """Causal attention of the last tokens of a stretch over it."""
    block, first, end, _ = stretch
    if q.shape[1] > NEWEST_TOKENS:
        keys, values = (x[:, first:] for x in block.read(layer, end))
        return attend(q, keys, values, causal=True, scale=scale)
    start = first // TILE_TOKENS * TILE_TOKENS
    tiles = -(-end // TILE_TOKENS) * TILE_TOKENS
    keys, values = (x[:, start:] for x in block.read(layer, tiles))
    return attend_newest(q, keys, values, first=first - start, tokens=end - start, scale=scale)
