"""Every embedder in the catalogue, unasked: unit vectors that depend on their text alone, nothing cut."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough import catalogue
from readthrough.retrieval.base import Embedder
from readthrough.retrieval.embedding import embed_texts

EMBEDDERS = list(catalogue.PARTS["embedders"])
TEXTS = ["The keeper is named Ann.", "", "x", "A storm came in from the sea. " * 20, "猫である", "\x00 \U0010ffff"]


@pytest.fixture(scope="module", params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    made: Embedder = catalogue.find("embedders", request.param)()
    assert made.name == request.param
    return made


def test_unit_vectors(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_a_vector_depends_on_its_text_alone(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    for row, text in enumerate(TEXTS):
        assert together[row] @ embedder.embed([text])[0] > 0.999


def test_meaning(embedder: Embedder) -> None:
    lamp, light, tax = embedder.embed(
        ["The keeper lit the lamp.", "The lighthouse man turned on the light.", "Taxes rose by two percent last year."]
    )
    assert lamp @ light > lamp @ tax + 0.2


def test_too_long_is_an_error_and_never_cut(embedder: Embedder) -> None:
    fits = "lamp " * embedder.max_tokens
    assert embedder.count_tokens([fits, "lamp", ""]) == [embedder.max_tokens, 1, 0]
    assert embedder.embed([fits]).shape == (1, embedder.dimensions)
    with pytest.raises(ValueError, match=str(embedder.max_tokens)):
        embedder.embed([fits + "lamp"])
    assert embed_texts(embedder, [fits * 3]).shape == (1, embedder.dimensions)
