"""The files of readings on disk: what they take, and which of them go. Nothing here needs torch."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ENDING = ".safetensors"
UNFINISHED = ".tmp"
_STALE_SECONDS = 3600.0


class Stored(NamedTuple):
    """A reading: when it was last used (seconds since 1970), the bytes that it takes, its file."""

    used: float
    nbytes: int
    path: Path


def stored(root: Path) -> list[Stored]:
    """Every reading below `root`, whichever model made it, least recently used first."""
    found = []
    for path in root.glob(f"*/*{ENDING}"):
        with suppress(FileNotFoundError):  # another process may delete it meanwhile
            told = path.stat()
            found.append(Stored(told.st_mtime, told.st_size, path))
    return sorted(found)


def stored_bytes(root: Path) -> int:
    """What all readings below `root` take."""
    return sum(each.nbytes for each in stored(root))


def prune(root: Path, limit_bytes: int, spared_seconds: float = 0.0) -> int:
    """Delete what was used longest ago until all take at most `limit_bytes`; what was used lately is spared.

    Returns:
        The bytes that are left.
    """
    found = stored(root)
    held = sum(each.nbytes for each in found)
    spared_from = time.time() - spared_seconds if spared_seconds else math.inf
    for used, nbytes, path in found:
        if held <= limit_bytes or used >= spared_from:
            break
        path.unlink(missing_ok=True)
        held -= nbytes
    return held


def sweep(root: Path) -> None:
    """Delete what processes left that were killed while they wrote."""
    for path in root.glob(f"*/*{UNFINISHED}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
