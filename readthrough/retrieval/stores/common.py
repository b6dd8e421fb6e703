"""What the stores on servers share."""

from __future__ import annotations

import numpy as np

from readthrough.errors import ConfigError


def ranges(chunk_ids: np.ndarray) -> np.ndarray:
    """`chunk_ids` (ascending) as runs `[R, 2]`: the first and the last id of each. A document's chunks are one run."""
    if not len(chunk_ids):
        return np.empty((0, 2), dtype=np.int64)
    breaks = np.flatnonzero(np.diff(chunk_ids) != 1)
    first = chunk_ids[np.concatenate(([0], breaks + 1))]
    last = chunk_ids[np.concatenate((breaks, [len(chunk_ids) - 1]))]
    return np.stack((first, last), axis=1)


def refuse_password(url: str, instead: str) -> None:
    """Settings are shown and kept: a password has no place in them.

    Raises:
        ConfigError: the address holds one.
    """
    login, at, _ = url.partition("://")[2].partition("@")
    if at and ":" in login:
        raise ConfigError("the store's address holds a password", hint=f"leave it out and {instead}")
