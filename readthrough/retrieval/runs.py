"""Sets of chunk ids as runs: the chunks of a document stand in one."""

from __future__ import annotations

import numpy as np


def ranges(chunk_ids: np.ndarray) -> np.ndarray:
    """`chunk_ids` (ascending) as runs `[R, 2]`: the first and the last id of each."""
    if not len(chunk_ids):
        return np.empty((0, 2), dtype=np.int64)
    breaks = np.flatnonzero(np.diff(chunk_ids) != 1)
    first = chunk_ids[np.concatenate(([0], breaks + 1))]
    last = chunk_ids[np.concatenate((breaks, [len(chunk_ids) - 1]))]
    return np.stack((first, last), axis=1)
