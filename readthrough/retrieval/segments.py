"""Vector files: one FAISS index a file, named by the SHA-256 of its bytes.

FAISS loads a damaged file without complaint, so a file is hashed before FAISS sees it. A file is never changed:
vectors are added by writing another one. Large files are mapped into memory, small ones are read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.errors import needed

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".faiss"
MAPPED_BYTES = 32 * 1024**2
"""From this size on a file is mapped, so that several processes share it and what is not searched takes no memory."""


class DamagedSegmentError(Exception):
    """A vector file that is missing or whose bytes are not those that were written. Repaired by its owner."""


class Segment:
    """An opened flat file. Safe to share by threads."""

    def __init__(self, index: Any) -> None:
        import numpy as np

        self._index = index
        own = ids_of(index)
        self._order = np.argsort(own, kind="stable")
        self._ids = own[self._order]

    def rows(self, chunk_ids: np.ndarray) -> np.ndarray:
        """The vectors `[N, D]` of `chunk_ids` `[N]`, all of which it holds."""
        places = self._order[self._ids.searchsorted(chunk_ids)]
        vectors: np.ndarray = self._index.index.reconstruct_batch(places)
        return vectors

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids`, all of which it holds, nearest to a unit `vector` `[D]`, best first."""
        faiss = load_faiss()
        some = None
        if len(chunk_ids) < len(self._ids):
            some = faiss.SearchParameters(sel=faiss.IDSelectorBatch(chunk_ids))
        scores, hits = self._index.search(vector[None], min(k, len(chunk_ids)), params=some)
        return list(zip(hits[0].tolist(), scores[0].tolist(), strict=True))


def write_segment(folder: Path, chunk_ids: np.ndarray, vectors: np.ndarray) -> str:
    """Write `vectors` `[N, D]` of `chunk_ids` `[N]` so that the file is whole or absent; returns its name.

    Raises:
        OSError: it cannot be written; nothing is left behind.
        MissingExtraError: faiss is not installed.
    """
    faiss = load_faiss()
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, chunk_ids)
    return write_index(folder, index)


def write_index(folder: Path, index: Any) -> str:
    """Write a FAISS index so that its file is whole or absent; returns its name.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    data = memoryview(load_faiss().serialize_index(index))
    name = hashlib.sha256(data).hexdigest()
    temporary = folder / f"{name}.{os.getpid()}.part"
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / (name + SUFFIX))
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(folder)
    return name


def read_segment(folder: Path, name: str, inverted_lists: bool = False) -> Any:
    """The FAISS index in the file `name`; FAISS maps one with `inverted_lists` in another way.

    Raises:
        DamagedSegmentError: the file is missing, or is not what was written.
        MissingExtraError: faiss is not installed.
    """
    faiss = load_faiss()
    import numpy as np

    path = folder / (name + SUFFIX)
    try:
        if path.stat().st_size >= MAPPED_BYTES:
            return _map(path, name, inverted_lists)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedSegmentError(f"{path} is missing") from error
    if hashlib.sha256(data).hexdigest() != name:
        raise DamagedSegmentError(f"{path} is damaged")
    return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))


def _map(path: Path, name: str, inverted_lists: bool) -> Any:
    faiss = load_faiss()
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != name:
            raise DamagedSegmentError(f"{path} is damaged")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP if inverted_lists else faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:  # it was removed in between
        raise DamagedSegmentError(f"{path} cannot be mapped: {error}") from error


def ids_of(index: Any) -> np.ndarray:
    """The chunk ids `[N]` of a FAISS index, int64, in the order of its vectors."""
    ids: np.ndarray = load_faiss().vector_to_array(index.id_map)
    return ids


def stamp(folder: Path, name: str) -> tuple[int, int, int] | None:
    """What changes when a file does (inode, size, time of change), or None where it is missing."""
    try:
        status = (folder / (name + SUFFIX)).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_faiss() -> Any:
    """The module faiss.

    Raises:
        MissingExtraError: it is not installed.
    """
    with needed("faiss", "'readthrough[cpu]' (with an NVIDIA GPU: 'readthrough[gpu]')"):
        import faiss
    return faiss
