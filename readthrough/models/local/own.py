"""Attention that a plan's positions bring with them: what a forward pass asks of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch

from readthrough.models.local.cache import Sequence


class OwnPass(Protocol):
    """The attention of one forward pass.

    Attributes:
        maker: what laid it.
        places: what the model rotates the rows for, `[T]`.
    """

    @property
    def maker(self) -> OwnAttention: ...

    @property
    def places(self) -> torch.Tensor: ...

    def attend(self, layer: int, qkv: tuple[torch.Tensor, ...], out: torch.Tensor, scale: float) -> None:
        """Attention of all rows over what their sequences hold and themselves, after writing themselves there.

        Args:
            layer: the number of the layer.
            qkv: queries `[H, T, D]`, keys and values `[Hkv, T, D]` of the rows, rotated for `places`.
            out: `[H, T, D]`, to be filled.
            scale: what the scores are multiplied with.
        """
        ...


class OwnAttention(Protocol):
    """Attention with positions of its own, on a model."""

    def lay(self, pieces: Iterable[tuple[Sequence | None, slice]]) -> OwnPass:
        """What a pass computes of new tokens of sequences, which are these rows of the packed input.

        A sequence of None is that of tokens whose KV nobody will read again.
        """
        ...
