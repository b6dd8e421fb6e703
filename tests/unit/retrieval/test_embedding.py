"""Texts of any length become one unit vector each."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough.retrieval.embedding import embed_texts
from readthrough.types import Event
from tests.library_samples import HashingEmbedder, story


def test_a_long_text_is_embedded_whole() -> None:
    embedder = HashingEmbedder()
    words = [f"word{number}" for number in range(1000)]
    with pytest.raises(ValueError, match="too long"):
        embedder.embed([" ".join(words)])
    vectors = embed_texts(embedder, [" ".join(words), "lamp"])
    assert vectors.shape == (2, embedder.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    last_words = embed_texts(embedder, [" ".join(words[-100:])])[0]
    without_them = embed_texts(embedder, [" ".join(words[:-100])])[0]
    assert vectors[0] @ last_words > without_them @ last_words, "the end of a long text counts"


def test_a_long_text_without_spaces() -> None:
    class Characters(HashingEmbedder):
        def count_tokens(self, texts):  # type: ignore[no-untyped-def]
            return [len(text) for text in texts]

    vectors = embed_texts(Characters(), ["x" * 1000])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_order_is_kept_and_progress_is_told() -> None:
    embedder = HashingEmbedder()
    texts = [story(seed, paragraphs=1 + seed % 3) for seed in range(300)]
    events: list[Event] = []
    vectors = embed_texts(embedder, texts, events.append)
    assert np.allclose(vectors[7], embed_texts(embedder, [texts[7]])[0], atol=1e-6)
    assert [event.stage for event in events] == ["embed"] * len(events)
    assert events[-1].done == events[-1].total
    assert len(events) > 2


def test_nothing() -> None:
    assert embed_texts(HashingEmbedder(), []).shape == (0, 64)
