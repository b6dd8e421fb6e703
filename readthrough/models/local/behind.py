"""Reading tokens behind a sequence, for what a pass shows of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from readthrough.models.local.attention import Batch, Watch
from readthrough.models.local.cache import Sequence
from readthrough.models.local.prompts import Tokens

Forward = Callable[[Batch, list[Tokens], np.ndarray], object]
"""Computes a batch, given the tokens of its segments and the rows whose logits are wanted."""

NO_ROWS = np.zeros(0, dtype=np.int64)


class Enough(Exception):
    """Ends a pass at the last layer that is needed of it."""


def read_behind(sequence: Sequence, tokens: Tokens, forward: Forward, pass_tokens: int, watch: Watch) -> None:
    """Append tokens to a sequence, at most `pass_tokens` in a pass; `watch` is told of each pass."""
    for first in range(0, len(tokens), pass_tokens):
        piece = tokens[first : first + pass_tokens]
        batch = Batch.pack([(sequence, len(piece))])
        batch.watch = watch
        forward(batch, [piece], NO_ROWS)
        sequence.commit(len(piece))
