"""Keys or values of one layer as they are stored: plain, on the host, on disk, or packed in 8, 4 or 2 bits."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

import torch

from readthrough.errors import ModelError
from readthrough.kernels.quantize import Packed, Scheme, pack, unpack

ROUND_TOKENS = 64
"""Buffers hold whole pages of so many tokens."""

GROWTH_RATIO = 1.25

SLACK_RATIO = 1.0625
"""So much larger buffers of compressed tokens get when they are full: they are there to take little memory, and take a
whole piece of a prompt at a time."""


class Numbers(ABC):
    """Numbers `[h, n, D]` that are only ever added to, so that many may read a beginning of them."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """What their memory takes, whether filled or not."""

    @abstractmethod
    def append(self, x: torch.Tensor) -> None:
        """Add `[h, n, D]` behind the others."""

    @abstractmethod
    def read(self, count: int) -> Iterator[torch.Tensor]:
        """The first `count` tokens, in runs `[h, n, D]`, for reading only."""

    @abstractmethod
    def beginning(self, count: int) -> Numbers:
        """The first `count` tokens, to which others can be added."""

    @abstractmethod
    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """Take in what `other`, which begins alike, has up to `count` tokens, in the memory of `device`."""


class Plain(Numbers):
    """Numbers as they were computed, in a growing buffer."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None
        self._count = 0

    @property
    def nbytes(self) -> int:
        """The buffer's bytes."""
        return 0 if self._buffer is None else self._buffer.nbytes

    def append(self, x: torch.Tensor) -> None:
        """See `Numbers.append`."""
        end = self._count + x.shape[1]
        if self._buffer is None or end > self._buffer.shape[1]:
            capacity = -(-max(end, int(self._count * SLACK_RATIO)) // ROUND_TOKENS) * ROUND_TOKENS
            grown = x.new_zeros(x.shape[0], capacity, x.shape[2])
            if self._buffer is not None:
                grown[:, : self._count] = self._buffer[:, : self._count]
            self._buffer = grown
        self._buffer[:, self._count : end] = x
        self._count = end

    def read(self, count: int) -> Iterator[torch.Tensor]:
        """A view of the buffer."""
        if self._buffer is not None and count:
            yield self._buffer[:, :count]

    def beginning(self, count: int) -> Plain:
        """A copy."""
        found = type(self)()
        for x in self.read(count):
            found.append(x)
        return found

    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """See `Numbers.follow`."""
        if other._buffer is not None and self._count < count:
            self.append(other._buffer[:, self._count : count].to(device))


class Hosted(Plain):
    """Numbers as they were computed, in the processor's memory; they are copied to where they are read."""

    def __init__(self) -> None:
        super().__init__()
        self._device = torch.device("cpu")

    def append(self, x: torch.Tensor) -> None:
        """See `Numbers.append`."""
        self._device = x.device
        super().append(x.cpu())

    def read(self, count: int) -> Iterator[torch.Tensor]:
        """A copy; a view of the buffer where the processor computes."""
        for x in super().read(count):
            yield x.to(self._device)

    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """The same buffer, which is on the host in any case; one of the two alone may be added to."""
        self._buffer, self._count, self._device = other._buffer, count, other._device


class Consecutive(Numbers):
    """The positions `[h, n, 1]` of tokens of which none is missing: they are not stored."""

    def __init__(self) -> None:
        self._like = torch.empty(1, 0, 1, dtype=torch.int32)

    @property
    def nbytes(self) -> int:
        """None."""
        return 0

    def append(self, x: torch.Tensor) -> None:
        """See `Numbers.append`."""
        self._like = x[:, :0]

    def read(self, count: int) -> Iterator[torch.Tensor]:
        """Made anew."""
        if count:
            yield torch.arange(count, dtype=torch.int32, device=self._like.device)[None, :, None].expand(
                len(self._like), -1, -1
            )

    def beginning(self, count: int) -> Consecutive:
        """The same."""
        found = Consecutive()
        found.append(self._like)
        return found

    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """They are made there."""
        self._like = other._like.to(device)


class Mapped(Numbers):
    """Numbers as they were computed, in temporary files that are mapped into memory: the system reads what is used."""

    def __init__(self) -> None:
        self._runs: list[torch.Tensor] = []
        self._device = torch.device("cpu")

    @property
    def nbytes(self) -> int:
        """None that could not be taken away at any moment."""
        return 0

    def append(self, x: torch.Tensor) -> None:
        """See `Numbers.append`."""
        if x.shape[1]:
            self._device = x.device
            self._runs.append(_mapped(x.contiguous().cpu()))

    def read(self, count: int) -> Iterator[torch.Tensor]:
        """Views of the files; on another device copies."""
        for run in self.beginning(count)._runs:
            yield run.to(self._device)

    def beginning(self, count: int) -> Mapped:
        """The same runs, but for a last one that is cut."""
        found = Mapped()
        found._device = self._device
        for run in self._runs:
            taken = min(count, run.shape[1])
            if taken:
                found._runs.append(run[:, :taken])
            count -= taken
        return found

    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """The same runs."""
        self._runs, self._device = other.beginning(count)._runs, other._device


def _mapped(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in a file without a name, which goes when they are let go."""
    handle, path = tempfile.mkstemp(prefix="readthrough-", suffix=".kv")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(x.view(torch.uint8).numpy().data)
        return torch.from_file(path, shared=False, size=x.numel(), dtype=x.dtype).view(x.shape)
    except OSError as error:
        raise ModelError(
            f"cannot store KV on disk: {error}", path=tempfile.gettempdir(), hint="TMPDIR names another folder"
        ) from error
    finally:
        os.unlink(path)


class Quantised(Numbers):
    """Packed numbers, in growing buffers; what is added must be whole groups of tokens."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._codes, self._far, self._near = Plain(), Plain(), Plain()

    @property
    def nbytes(self) -> int:
        """The bytes of the buffers of codes and bounds."""
        return self._codes.nbytes + self._far.nbytes + self._near.nbytes

    def append(self, x: torch.Tensor) -> None:
        """See `Numbers.append`."""
        if x.shape[1]:
            packed = pack(x.contiguous(), self._scheme)
            self._codes.append(packed.codes)
            self._far.append(packed.far)
            if packed.near is not None:
                self._near.append(packed.near)

    def packed(self, count: int) -> Packed:
        """The first `count` tokens, at least one, as they are stored: views of the buffers."""
        groups = count // self._scheme.group_tokens
        (codes,), (far,) = self._codes.read(count), self._far.read(groups)
        return Packed(self._scheme, codes, far, next(self._near.read(groups), None))

    def read(self, count: int) -> Iterator[torch.Tensor]:
        """Unpacked."""
        if count:
            yield unpack(self.packed(count))

    def beginning(self, count: int) -> Quantised:
        """A copy."""
        found, groups = Quantised(self._scheme), count // self._scheme.group_tokens
        found._codes, found._far = self._codes.beginning(count), self._far.beginning(groups)
        found._near = self._near.beginning(groups)
        return found

    def follow(self, other: Self, count: int, device: torch.device) -> None:
        """As they are packed."""
        groups = count // self._scheme.group_tokens
        self._codes.follow(other._codes, count, device)
        self._far.follow(other._far, groups, device)
        self._near.follow(other._near, groups, device)
