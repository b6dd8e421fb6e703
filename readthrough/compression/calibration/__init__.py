"""What was measured of models: how often each head copies from a text, as `readthrough.models.local.heads` finds
it. One file a model.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch

from readthrough.compression.selecting import ModelShape

COMMAND = "python -m readthrough.models.local.heads MODEL TEXT FILE"
_FOLDER = Path(__file__).parent


def calibration_of(shape: ModelShape, given: str) -> str:
    """The path, or the name of a file that comes with readthrough, of what was measured of a model.

    Args:
        shape: the model's.
        given: a path; empty for a file of the model's name.

    Raises:
        ValueError: there is none, or it is of another model; the message says how to make one.
    """
    if not given:
        names = [path.stem for path in sorted(_FOLDER.glob("*.json")) if shape.name.startswith(path.stem)]
        if not names:
            raise ValueError(f"has no calibration that comes with readthrough: make one with `{COMMAND}`")
        given = max(names, key=len)
    scores = head_scores(given)
    if scores.shape != (shape.layers, shape.heads):
        raise ValueError(
            f"has {shape.layers} layers of {shape.heads} heads, and the calibration {given} is of {scores.shape[0]} of "
            f"{scores.shape[1]}: make another with `{COMMAND}`"
        )
    return given


@lru_cache(maxsize=8)
def head_scores(given: str) -> torch.Tensor:
    """Scores `[layers, heads]` of query heads, from a file: see `calibration_of`.

    Raises:
        ValueError: it cannot be read, or holds no scores.
    """
    path = _FOLDER / f"{given}.json"
    path = path if path.is_file() else Path(given).expanduser()
    try:
        scores = torch.tensor(json.loads(path.read_text(encoding="utf-8"))["scores"], dtype=torch.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot be calibrated by {path}: {error}; make a file with `{COMMAND}`") from error
    if scores.dim() != 2 or not bool(scores.isfinite().all()):
        raise ValueError(f"cannot be calibrated by {path}: no scores of heads in it; make a file with `{COMMAND}`")
    return scores
