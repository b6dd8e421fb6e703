"""Rows of the packed input of a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

Rows = slice | torch.Tensor


def joined(spans: Sequence[slice]) -> Rows:
    """Several spans of rows as one index: a slice, for views, where each begins where the one before ends."""
    if all(before.stop == after.start for before, after in pairwise(spans)):
        return slice(spans[0].start, spans[-1].stop)
    return torch.cat([torch.arange(span.start, span.stop) for span in spans])


def on_device(rows: Rows, device: torch.device) -> Rows:
    """The same rows, to index tensors of a device."""
    return rows if isinstance(rows, slice) else rows.to(device)
