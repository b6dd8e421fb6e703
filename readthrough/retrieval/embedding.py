"""Embedding of any texts, however long: what every caller of an Embedder goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from readthrough.documents.reading import without_surrogates
from readthrough.errors import ConfigError
from readthrough.retrieval.base import AsksOtherwise, Embedder, TokenEmbedder
from readthrough.types import Event

STEP_TEXTS = 128


def embed_texts(
    embedder: Embedder, texts: Sequence[str], on_event: Callable[[Event], None] | None = None
) -> np.ndarray:
    """Unit vectors `[len(texts), dimensions]`, float32.

    A text longer than the embedder reads is embedded in pieces, and its vector is the direction of their sum:
    nothing is cut. `on_event` hears of each step of 128 texts.
    """
    pieces, owners = _pieces(embedder, texts)
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


def embed_queries(embedder: Embedder, queries: Sequence[str]) -> np.ndarray:
    """As `embed_texts`, of queries: behind the prompt that the embedder wants for them."""
    return embed_texts(embedder.queries if isinstance(embedder, AsksOtherwise) else embedder, queries)


def token_embedder(embedder: Embedder) -> TokenEmbedder:
    """`embedder`, if it gives a vector for every token.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(embedder, TokenEmbedder):
        raise ConfigError(
            f"the embedder {embedder.name} gives no vectors of tokens",
            hint="name a ColBERT-style model: --embedder late-interaction:MODEL",
        )
    return embedder


def embed_tokens(embedder: TokenEmbedder, texts: Sequence[str], task: str = "document") -> list[np.ndarray]:
    """The token vectors `[tokens, dimensions]` of each text, float32; of a long one those of its pieces, in order."""
    pieces, owners = _pieces(embedder, texts)
    found: list[list[np.ndarray]] = [[] for _ in texts]
    for owner, vectors in zip(owners, embedder.embed_tokens(pieces, task), strict=True):
        found[owner].append(vectors)
    return [np.concatenate(parts) for parts in found]


def _pieces(embedder: Embedder, texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """The texts in pieces that the embedder reads at once, and which text each is of."""
    pieces: list[str] = []
    owners: list[int] = []
    whole = [without_surrogates(text) for text in texts]  # no tokenizer takes half a character
    for index, (text, tokens) in enumerate(zip(whole, embedder.count_tokens(whole), strict=True)):
        parts = [text] if tokens <= embedder.max_tokens else _split(embedder, text)
        pieces += parts
        owners += [index] * len(parts)
    return pieces, owners


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
