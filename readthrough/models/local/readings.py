"""Readings: the KV of texts that were read, on disk, found again by the tokens that they begin with.

A reading is one safetensors file: the tokens, and the keys and values of every layer, as they were computed. It is
mapped into memory when it is found, so that only what is attended to is read. Files are written beside their place
and moved there whole; what is damaged is found by its checksum, deleted, and read anew from the text.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from readthrough.models.local.cache import ROUND_TOKENS, Block, Sequence
from readthrough.models.local.prompts import Tokens, common_length

TOKENS_MIN = 512
"""Shorter ones are computed about as quickly as they are looked up and checked."""

ENDING = ".safetensors"
_UNFINISHED = ".tmp"
_STALE_SECONDS = 3600.0
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class _File:
    """A reading's file: its path, tokens and checksum."""

    path: Path
    tokens: Tokens
    crc: int


class Readings:
    """The readings in a folder, which holds those of one model alone.

    Several processes may share the folder. The least recently used readings are deleted beyond a number of bytes.

    Args:
        folder: where they are; made where it is not there.
        limit_bytes: the most bytes that all of them may take.
        device: where their KV is used.
    """

    def __init__(self, folder: Path, limit_bytes: int, device: torch.device) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.device = device
        self._files: dict[Path, _File] = {}
        self._by_beginning: dict[bytes, Path] = {}
        self._checked: set[Path] = set()
        self._seen_ns = -1
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"*{_UNFINISHED}"):  # of a process that was killed while it wrote
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    @property
    def nbytes(self) -> int:
        """The bytes that all readings take on disk."""
        return sum(size for _, size, _ in self._stored())

    def match(self, tokens: Tokens, limit: int) -> tuple[Sequence | None, int]:
        """The reading that begins most like `tokens`, and how many of the first `limit` it has.

        A reading that is damaged is deleted and not found.
        """
        self._look()
        wanted = tokens[:limit]
        while (file := self._longest(wanted)) is not None:
            length = common_length(file.tokens, wanted)
            if length < TOKENS_MIN:
                break
            sequence = self._load(file)
            if sequence is not None:
                return sequence, length
        return None, 0

    def add(self, tokens: Tokens, sequence: Sequence) -> bool:
        """Store a sequence; whether it is stored now. What a reading has already is not, nor what is compressed.

        Raises:
            OSError: the folder cannot be written, or the disk is full; nothing is left behind.
        """
        if sequence.compressed is not None:
            return False
        tokens = tokens[: sequence.length]
        self._look()
        held = self._longest(tokens)
        known = 0 if held is None else common_length(held.tokens, tokens)
        if len(tokens) - known < TOKENS_MIN:
            return False
        tensors = _tensors(tokens, sequence)
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.limit_bytes:
            return False
        self._make_room(size)
        path = self.folder / f"{_digests(tokens)[-1].hex()}{ENDING}"
        unfinished = path.with_suffix(f".{os.getpid()}{_UNFINISHED}")
        try:
            save_file(tensors, unfinished, {"version": _VERSION, "crc": str(_crc(tensors))})
            os.replace(unfinished, path)
        except SafetensorError as error:  # what the file system says of a write
            raise OSError(str(error)) from error
        finally:
            unfinished.unlink(missing_ok=True)
        self._checked.add(path)
        if held is not None and known == len(held.tokens):
            self._forget(held.path)  # the new one holds all of it
        return True

    def clear(self) -> None:
        """Delete all."""
        for path, _, _ in list(self._stored()):
            self._forget(path)

    def _stored(self) -> Iterator[tuple[Path, int, float]]:
        """Path, bytes and time of the last use of every reading."""
        for path in self.folder.glob(f"*{ENDING}"):
            with suppress(FileNotFoundError):  # another process may delete it meanwhile
                told = path.stat()
                yield path, told.st_size, told.st_mtime

    def _look(self) -> None:
        """Take notice of what other processes have added or deleted."""
        now = self.folder.stat().st_mtime_ns
        if now == self._seen_ns:
            return
        there = {path for path, _, _ in self._stored()}
        for path in there - self._files.keys():
            file = _opened(path)
            if file is None:
                self._forget(path)
                continue
            self._files[path] = file
        for path in self._files.keys() - there:
            del self._files[path]
        self._by_beginning = {
            digest: path for path, file in sorted(self._files.items()) for digest in _digests(file.tokens)
        }
        self._seen_ns = now

    def _longest(self, tokens: Tokens) -> _File | None:
        """The reading that has most whole pages of the beginning of `tokens`."""
        found = None
        for digest in _digests(tokens):
            path = self._by_beginning.get(digest)
            if path is None:
                break
            found = path
        return None if found is None else self._files[found]

    def _load(self, file: _File) -> Sequence | None:
        """The KV of a reading, None where the file is damaged or gone."""
        try:
            with safe_open(file.path, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
            if file.path not in self._checked and _crc(tensors) != file.crc:
                self._forget(file.path)
                return None
            os.utime(file.path)
        except (OSError, SafetensorError):
            self._forget(file.path)
            return None
        self._checked.add(file.path)
        block = Block()
        for layer in range((len(tensors) - 1) // 2):
            block.keys.append(tensors[f"keys.{layer}"].to(self.device))
            block.values.append(tensors[f"values.{layer}"].to(self.device))
        block.length = block.shared = len(file.tokens)
        block.nbytes = sum(tensor.nbytes for tensor in (*block.keys, *block.values))
        return Sequence([(block, block.length)])

    def _make_room(self, size: int) -> None:
        stored = sorted(self._stored(), key=lambda each: each[2])
        held = sum(each[1] for each in stored)
        for path, taken, _ in stored:
            if held + size <= self.limit_bytes:
                return
            self._forget(path)
            held -= taken

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._checked.discard(path)
        self._files.pop(path, None)
        self._by_beginning = {digest: other for digest, other in self._by_beginning.items() if other != path}


def _opened(path: Path) -> _File | None:
    """What a reading's file says of itself, None where it is damaged or of another version."""
    try:
        with safe_open(path, framework="np") as stored:
            said: dict[str, Any] = stored.metadata() or {}
            if said.get("version") != _VERSION:
                return None
            return _File(path, stored.get_tensor("tokens").astype(np.int64), int(said["crc"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _tensors(tokens: Tokens, sequence: Sequence) -> dict[str, torch.Tensor]:
    """What a file holds. Lengths are rounded up to whole pages, as buffers in memory are."""
    tensors = {"tokens": torch.from_numpy(tokens.astype(np.int32))}
    pages = -(-len(tokens) // ROUND_TOKENS) * ROUND_TOKENS
    for layer in range(sequence.layers):
        for name, tensor in zip(("keys", "values"), sequence.gather(layer), strict=True):
            whole = tensor.new_zeros(tensor.shape[0], pages, tensor.shape[2], device="cpu")
            whole[:, : len(tokens)] = tensor[:, : len(tokens)]
            tensors[f"{name}.{layer}"] = whole
    return tensors


def _crc(tensors: dict[str, torch.Tensor]) -> int:
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, crc)
    return crc


def _digests(tokens: Tokens) -> list[bytes]:
    """A digest of each beginning of `tokens` that is a number of whole pages."""
    found, digest = [], b""
    for start in range(0, len(tokens) - ROUND_TOKENS + 1, ROUND_TOKENS):
        page = tokens[start : start + ROUND_TOKENS].astype(np.int32).tobytes()
        digest = hashlib.blake2b(digest + page, digest_size=16).digest()
        found.append(digest)
    return found
