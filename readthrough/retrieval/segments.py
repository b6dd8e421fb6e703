"""Vector files: one FAISS index a file, named by the SHA-256 of its bytes.

FAISS loads a damaged file without complaint, so a file is hashed before FAISS sees it. A file is never changed:
vectors are added by writing another one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".faiss"


class DamagedSegmentError(Exception):
    """A vector file that is missing or whose bytes are not those that were written. Repaired by its owner."""


def write_segment(folder: Path, chunk_ids: np.ndarray, vectors: np.ndarray) -> str:
    """Write `vectors` `[N, D]` of `chunk_ids` `[N]` so that the file is whole or absent; returns its name.

    Raises:
        OSError: it cannot be written; nothing is left behind.
        MissingExtraError: faiss is not installed.
    """
    faiss = _faiss()
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, chunk_ids)
    data = faiss.serialize_index(index).tobytes()
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


def read_segment(folder: Path, name: str) -> Any:
    """The FAISS index in the file `name`.

    Raises:
        DamagedSegmentError: the file is missing, or is not what was written.
        MissingExtraError: faiss is not installed.
    """
    faiss = _faiss()
    import numpy as np

    path = folder / (name + SUFFIX)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedSegmentError(f"{path} is missing") from error
    if hashlib.sha256(data).hexdigest() != name:
        raise DamagedSegmentError(f"{path} is damaged")
    return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))


def ids_of(index: Any) -> np.ndarray:
    """The chunk ids `[N]` of a FAISS index, int64, in the order of its vectors."""
    ids: np.ndarray = _faiss().vector_to_array(index.id_map)
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


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError(
            "faiss is not installed", hint="pip install 'readthrough[cpu]' (with an NVIDIA GPU: 'readthrough[gpu]')"
        ) from error
    return faiss
