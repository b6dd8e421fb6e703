"""The attention of positions that bring one: `Reaching`, sequence by sequence, and dual chunk attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from readthrough.compression.base import Positions
from readthrough.compression.positions.dual_chunk import DualChunk
from readthrough.compression.positions.reaching import Reaching
from readthrough.kernels.rotary import rotate
from readthrough.models.local.cache import Block, Sequence
from readthrough.models.local.dual_chunk import DualChunks
from readthrough.models.local.loading import Loaded
from readthrough.models.local.own import OwnAttention


def own_attention(positions: Positions | None, loaded: Loaded) -> OwnAttention | None:
    """The attention that positions bring, on a model; None where they bring none.

    Raises:
        ModelError: they bring one, and the model's positions cannot be moved.
    """
    if isinstance(positions, DualChunk):
        return DualChunks(positions, loaded.inverse_frequencies)
    return Reachings(positions, loaded.inverse_frequencies) if isinstance(positions, Reaching) else None


@dataclass(frozen=True, slots=True, eq=False)
class Reachings:
    """`Reaching` on a model with these inverse frequencies `[R]`."""

    positions: Reaching
    inverse_frequencies: torch.Tensor

    def lay(self, pieces: Iterable[tuple[Sequence | None, slice]]) -> ReachingPass:
        """See `OwnAttention.lay`."""
        return ReachingPass(self, pieces)

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """See `compression.positions.reaching.Rotate`."""
        return rotate(x, positions.to(x.device), self.inverse_frequencies.to(x.device))


class ReachingPass:
    """The attention of one forward pass. The cache holds keys without positions; each sequence is read by itself.

    Args:
        maker: how it is computed.
        pieces: as for `OwnAttention.lay`.

    Attributes:
        maker: see above.
        places: zeros: the model rotates nothing.
    """

    def __init__(self, maker: Reachings, pieces: Iterable[tuple[Sequence | None, slice]]) -> None:
        self.maker = maker
        self._pieces = [(Sequence() if sequence is None else sequence, rows) for sequence, rows in pieces]
        rows = self._pieces[-1][1].stop
        self.places = torch.zeros(rows, dtype=torch.long, device=maker.inverse_frequencies.device)

    def attend(self, layer: int, qkv: tuple[torch.Tensor, ...], out: torch.Tensor, scale: float) -> None:
        """See `OwnPass.attend`."""
        q, k, v = qkv
        for sequence, rows in self._pieces:
            sequence.append(layer, k[:, rows], v[:, rows])
            held = _Held(sequence, layer, rows.stop - rows.start)
            out[:, rows] = self.maker.positions.attend(q[:, rows], held, self.maker.rotate, scale=scale)


class _Held:
    """See `compression.positions.reaching.Held`."""

    def __init__(self, sequence: Sequence, layer: int, new_tokens: int) -> None:
        self.tokens = sequence.length + new_tokens
        self._layer = layer
        parts = [(block, tokens) for block, tokens in sequence.parts if isinstance(block, Block)]
        self._parts = [*parts, (sequence.tail, sequence.tail.length + new_tokens)]

    def read(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views where the tokens lie in one block."""
        found, begin = [], 0
        for block, tokens in self._parts:
            first, last = max(start - begin, 0), min(end - begin, tokens)
            if first < last:
                keys, values = block.read(self._layer, last)
                found.append((keys[:, first:], values[:, first:]))
            begin += tokens
        if len(found) == 1:
            return found[0]
        return torch.cat([keys for keys, _ in found], 1), torch.cat([values for _, values in found], 1)
