"""Embedding of any texts, however long: what every caller of an Embedder goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from readthrough.retrieval.base import Embedder
from readthrough.types import Event

STEP_TEXTS = 128


def embed_texts(
    embedder: Embedder, texts: Sequence[str], on_event: Callable[[Event], None] | None = None
) -> np.ndarray:
    """Unit vectors `[len(texts), dimensions]`, float32.

    A text longer than the embedder reads is embedded in pieces, and its vector is the direction of their sum:
    nothing is cut. `on_event` hears of each step of 128 texts.
    """
    pieces: list[str] = []
    owners: list[int] = []
    for index, (text, tokens) in enumerate(zip(texts, embedder.count_tokens(texts), strict=True)):
        parts = [text] if tokens <= embedder.max_tokens else _split(embedder, text)
        pieces += parts
        owners += [index] * len(parts)
    vectors = np.zeros((len(texts), embedder.dimensions), dtype=np.float32)
    by_length = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))  # steps of like length: no padding
    for start in range(0, len(by_length), STEP_TEXTS):
        step = by_length[start : start + STEP_TEXTS]
        np.add.at(vectors, [owners[index] for index in step], embedder.embed([pieces[index] for index in step]))
        if on_event:
            on_event(Event("embed", min(start + STEP_TEXTS, len(pieces)), len(pieces), "chunks"))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def _split(embedder: Embedder, text: str) -> list[str]:
    """Halve `text` at a space near its middle until every piece fits."""
    middle = len(text) // 2
    cut = text.rfind(" ", middle // 2, middle) + 1 or max(middle, 1)
    halves = [text[:cut], text[cut:]]
    fits = [tokens <= embedder.max_tokens for tokens in embedder.count_tokens(halves)]
    pieces: list[str] = []
    for half, fit in zip(halves, fits, strict=True):
        pieces += [half] if fit else _split(embedder, half)
    return pieces
