"""Positions for texts that are longer than an encoder was trained with, without training.

Source: Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024,
https://arxiv.org/abs/2404.12096, for encoders that learned a vector a position. A text within the trained length keeps
its positions, and with them its vector.

Differs from the authors' code (`src/encoder_model.py`): a text's own length counts and not that of the longest in its
batch, so that a vector depends on its text alone; and positions between two trained ones are computed where they are
needed, in place of a larger table. Their parallel windows are what `retrieval.embedding` does with any text that is too
long: pieces by themselves, and the direction of their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def grouped(tokens: int, trained: int, most: int) -> torch.Tensor:
    """As many neighbours share a position as are needed: 0, 0, 1, 1, ..."""
    return torch.arange(tokens) // math.ceil(tokens / trained)


def recurrent(tokens: int, trained: int, most: int) -> torch.Tensor:
    """The trained positions again and again: ..., 254, 255, 0, 1, ..."""
    return torch.arange(tokens) % trained


def interpolated(tokens: int, trained: int, most: int) -> torch.Tensor:
    """Positions between the trained ones, as close as the longest text needs them: 0, 0.5, 1, ..."""
    return torch.arange(tokens) / (1 if tokens <= trained else most / trained)


SCHEMES: dict[str, Callable[[int, int, int], torch.Tensor]] = {
    "grouped": grouped,
    "recurrent": recurrent,
    "interpolated": interpolated,
}
"""The schemes by name. Each is called with the tokens of a text, those of training and those of the longest text, and
returns the position `[tokens]` of each, below the trained ones."""
