"""Readings: the KV of texts that were read, on disk, found again by the tokens that they begin with.

A reading is one safetensors file: the keys and values of every layer as they were computed, the tokens, a checksum. It
is mapped into memory when it is found, so that only what is attended to is read. Files are written beside their place
and moved there whole; what is damaged is found by its checksum, deleted, and read anew from the text.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from readthrough.models.local.cache import ROUND_TOKENS, Block, Sequence
from readthrough.models.local.prompts import Tokens, common_length
from readthrough.models.local.stored import ENDING, UNFINISHED, prune, stored_bytes, sweep

TOKENS_MIN = 512
"""Fewer are computed about as quickly as they are looked up and checked."""

DISK_RATIO = 0.1
"""The share of what is free on the disk that readings may take at most."""

SPARED_SECONDS = 3600.0
"""What was used so lately is not deleted for something new: a text that is larger than the quota would push out its
own beginning, be written anew with every question, and never be found."""

VERSION = "1"
"""To be raised when the files, or how the engine computes KV, change."""

_DTYPES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
_ALIGNED_BYTES = 64
_CRC_BYTES = 4


class Readings:
    """The readings of one model, in a folder of their own below `root`.

    Several processes may share `root`. The least recently used readings, of whichever model, are deleted beyond a
    number of bytes.

    Args:
        root: the folder of all readings; made where it is not there.
        made_by: all that KV depends on beside the tokens. What differs in it shares nothing.
        limit_bytes: the most bytes that all readings below `root` may take; fewer where the disk is rather full.
        device: where their KV is used.

    Raises:
        OSError: the folder cannot be made or read.
    """

    def __init__(self, root: Path, made_by: str, limit_bytes: int, device: torch.device) -> None:
        self.root = root
        self.folder = root / hashlib.sha256(f"{VERSION}\n{made_by}".encode()).hexdigest()[:16]
        self.device = device
        self._tokens: dict[Path, Tokens] = {}
        self._by_beginning: dict[bytes, Path] = {}
        self._blocks: WeakValueDictionary[Path, Block] = WeakValueDictionary()
        self._checked: set[Path] = set()
        self._seen_ns = -1
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(root)
        available = shutil.disk_usage(root).free + stored_bytes(root)
        self.limit_bytes = min(limit_bytes, int(DISK_RATIO * available))

    def match(self, tokens: Tokens, limit: int, known: int = 0) -> tuple[Sequence | None, int]:
        """The reading that begins most like `tokens`, and how many of the first `limit` it has.

        None where it has not many more than the `known` tokens that are at hand. What is damaged is deleted.

        Raises:
            OSError: the folder cannot be read or written.
        """
        if limit - known < TOKENS_MIN:
            return None, 0
        self._look()
        wanted = tokens[:limit]
        while (path := self._longest(wanted)) is not None:
            length = common_length(self._tokens[path], wanted)
            if length - known < TOKENS_MIN:
                break
            block = self._load(path)
            if block is not None:
                return Sequence([(block, block.length)]), length
        return None, 0

    def add(self, tokens: Tokens, sequence: Sequence, least_tokens: int = TOKENS_MIN) -> bool:
        """Store the KV of `tokens`, which `sequence` begins with; whether it is stored now.

        It is not where all but `least_tokens` of it are stored already, or where there is no room beside what was used
        lately; what is compressed never is.

        Raises:
            OSError: the folder cannot be written, or the disk is full; nothing is left behind.
        """
        if sequence.compressed is not None:
            return False
        self._look()
        held = self._longest(tokens)
        known = 0 if held is None else common_length(self._tokens[held], tokens)
        if len(tokens) - known < least_tokens:
            return False
        header, nbytes = _header(tokens, sequence)
        room = self.limit_bytes - nbytes
        if room < 0 or prune(self.root, room, SPARED_SECONDS) > room:
            return False
        # Named by all tokens: another process may write a text that parts from this one in its last page.
        name = hashlib.blake2b(tokens.astype(np.int32).tobytes(), digest_size=16).hexdigest()
        path = self.folder / f"{name}{ENDING}"
        unfinished = path.with_suffix(f".{os.getpid()}{UNFINISHED}")
        try:
            _write(unfinished, header, _data(tokens, sequence))
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._checked.add(path)
        if held is not None and known == len(self._tokens[held]):
            self._forget(held)  # the new one holds all of it
        return True

    def _look(self) -> None:
        """Take notice of what other processes have added or deleted."""
        now = self.folder.stat().st_mtime_ns
        if now == self._seen_ns:
            return
        there = set(self.folder.glob(f"*{ENDING}"))
        for path in self._tokens.keys() - there:
            self._forget(path)
        for path in there - self._tokens.keys():
            tokens = _tokens_of(path)
            if tokens is None:
                self._forget(path)
            else:
                self._tokens[path] = tokens
        self._by_beginning = {
            digest: path for path, tokens in sorted(self._tokens.items()) for digest in _digests(tokens)
        }
        self._seen_ns = now

    def _longest(self, tokens: Tokens) -> Path | None:
        """The reading that has most whole pages of the beginning of `tokens`."""
        found = None
        for digest in _digests(tokens):
            path = self._by_beginning.get(digest)
            if path is None:
                break
            found = path
        return found

    def _load(self, path: Path) -> Block | None:
        """The KV of a reading, None where the file is damaged or gone."""
        try:
            os.utime(path)
            if path in self._blocks:
                return self._blocks[path]
            if path not in self._checked and not _is_whole(path):
                self._forget(path)
                return None
            block = _block(path, len(self._tokens[path]), self.device)
        except (FileNotFoundError, SafetensorError):
            self._forget(path)
            return None
        self._checked.add(path)
        self._blocks[path] = block
        return block

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._checked.discard(path)
        self._tokens.pop(path, None)
        self._by_beginning = {digest: other for digest, other in self._by_beginning.items() if other != path}


def _header(tokens: Tokens, sequence: Sequence) -> tuple[bytes, int]:
    """The beginning of a safetensors file, and how many bytes the whole file has.

    Lengths are rounded up to whole pages, as buffers in memory are. The checksum is the last tensor.
    """
    pages = -(-len(tokens) // ROUND_TOKENS) * ROUND_TOKENS
    first = next(block for block in sequence.blocks() if isinstance(block, Block) and block.keys)
    tensors: list[tuple[str, str, list[int], int]] = []
    for layer, pair in enumerate(zip(first.keys, first.values, strict=True)):
        for name, tensor in zip(("keys", "values"), pair, strict=True):
            heads, _, width = tensor.shape
            nbytes = heads * pages * width * tensor.itemsize
            tensors.append((f"{name}.{layer}", _DTYPES[tensor.dtype], [heads, pages, width], nbytes))
    tensors += [("tokens", "I32", [len(tokens)], 4 * len(tokens)), ("crc", "U32", [1], _CRC_BYTES)]
    described: dict[str, Any] = {}
    end = 0
    for name, dtype, shape, nbytes in tensors:
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(described).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNED_BYTES)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end


def _data(tokens: Tokens, sequence: Sequence) -> Iterator[memoryview]:
    """What follows the header, but for the checksum; a layer at a time, so that there is no second copy of it all."""
    count = len(tokens)
    for layer in range(sequence.layers):
        for tensor in sequence.gather(layer):
            whole = tensor.new_zeros(tensor.shape[0], -(-count // ROUND_TOKENS) * ROUND_TOKENS, tensor.shape[2])
            whole[:, :count] = tensor[:, :count]
            yield whole.cpu().view(torch.uint8).numpy().data
    yield tokens.astype(np.int32).data


def _write(path: Path, header: bytes, data: Iterator[memoryview]) -> None:
    crc = zlib.crc32(header)
    with path.open("wb") as file:
        file.write(header)
        for piece in data:
            crc = zlib.crc32(piece, crc)
            file.write(piece)
        file.write(crc.to_bytes(_CRC_BYTES, "little"))


def _is_whole(path: Path) -> bool:
    """Whether a file is as it was written."""
    data = np.memmap(path, mode="r").data
    return zlib.crc32(data[:-_CRC_BYTES]) == int.from_bytes(data[-_CRC_BYTES:], "little")


def _tokens_of(path: Path) -> Tokens | None:
    """The tokens of a reading's file, None where that cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            tokens: Tokens = file.get_tensor("tokens").astype(np.int64)
            return tokens
    except (FileNotFoundError, SafetensorError):
        return None


def _block(path: Path, length: int, device: torch.device) -> Block:
    """The KV in a reading's file, mapped into memory where it is used on the processor."""
    block = Block()
    with safe_open(path, framework="pt") as file:
        for layer in range(len(file.keys()) // 2 - 1):
            block.keys.append(file.get_tensor(f"keys.{layer}").to(device))
            block.values.append(file.get_tensor(f"values.{layer}").to(device))
    block.length = block.shared = length
    block.nbytes = sum(tensor.nbytes for tensor in (*block.keys, *block.values))
    return block


def _digests(tokens: Tokens) -> list[bytes]:
    """A digest of each beginning of `tokens` that is a number of whole pages."""
    found, digest = [], b""
    for start in range(0, len(tokens) - ROUND_TOKENS + 1, ROUND_TOKENS):
        page = tokens[start : start + ROUND_TOKENS].astype(np.int32).tobytes()
        digest = hashlib.blake2b(digest + page, digest_size=16).digest()
        found.append(digest)
    return found
