"""Positions of texts that are longer than the encoder was trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from readthrough.retrieval.embedders.bert import BertEncoder
from readthrough.retrieval.embedders.minilm import TRAINED_TOKENS, MiniLMEmbedder
from readthrough.retrieval.embedders.positions import SCHEMES
from tests.library_samples import story

LONG = list(SCHEMES)
SHORT_TEXTS = ["The keeper is named Ann.", "", story(1, 1), story(2, 3)]


@pytest.mark.parametrize("name", LONG)
def test_a_text_within_the_trained_length_keeps_its_positions(name: str) -> None:
    for tokens in (1, 7, 8):
        assert SCHEMES[name](tokens, 8, 64).tolist() == list(range(tokens))


def test_positions_of_long_texts() -> None:
    assert SCHEMES["grouped"](9, 4, 64).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert SCHEMES["recurrent"](9, 4, 64).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert SCHEMES["interpolated"](9, 4, 16).tolist() == [number / 4 for number in range(9)]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("tokens", [5, 63, 64])
def test_no_position_reaches_the_trained_length(name: str, tokens: int) -> None:
    found = SCHEMES[name](tokens, 4, 64)
    assert len(found) == tokens
    assert found.min() == 0
    assert found.max() < 4


def test_a_position_between_two_is_their_mixture() -> None:
    """Against a larger table made by linear interpolation, as the authors' models have it."""
    torch.manual_seed(0)
    names = ("embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight")
    weights = {name: torch.randn(9, 8) for name in names}
    table = torch.randn(4, 8)
    for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        weights[f"encoder.layer.0.{part}.weight"] = torch.randn(8, 8)
        weights[f"encoder.layer.0.{part}.bias"] = torch.randn(8)
    weights["encoder.layer.0.intermediate.dense.weight"] = torch.randn(16, 8)
    weights["encoder.layer.0.intermediate.dense.bias"] = torch.randn(16)
    weights["encoder.layer.0.output.dense.weight"] = torch.randn(8, 16)
    weights["encoder.layer.0.output.dense.bias"] = torch.randn(8)
    for norm in (
        "embeddings.LayerNorm",
        "encoder.layer.0.attention.output.LayerNorm",
        "encoder.layer.0.output.LayerNorm",
    ):
        weights |= {f"{norm}.weight": torch.ones(8), f"{norm}.bias": torch.zeros(8)}
    larger = torch.stack([torch.lerp(table[at // 2], table[min(at // 2 + 1, 3)], at % 2 / 2) for at in range(8)])

    def encoder(positions: torch.Tensor) -> BertEncoder:
        made = {**weights, "embeddings.position_embeddings.weight": positions}
        return BertEncoder(made, heads=2, epsilon=1e-12, dtype=torch.float32)

    ids, mask = torch.tensor([[1, 2, 3, 4, 5, 6, 7]]), torch.ones(1, 7, dtype=torch.bool)
    expected = encoder(larger).encode(ids, mask)
    found = encoder(table).encode(ids, mask, SCHEMES["interpolated"](7, 4, 8)[None])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", LONG)
def test_minilm_reads_longer_texts_and_short_ones_as_before(name: str) -> None:
    plain = MiniLMEmbedder("float32", "cpu")
    longer = MiniLMEmbedder("float32", "cpu", window_tokens=600, positions=name)  # type: ignore[arg-type]
    assert longer.name == f"{plain.name}:{name}-600"
    text = story(3, 9)
    (tokens,) = longer.count_tokens([text])
    assert TRAINED_TOKENS < tokens <= longer.max_tokens
    vectors = longer.embed([*SHORT_TEXTS, text])
    assert np.abs(vectors[:-1] - plain.embed(SHORT_TEXTS)).max() < 1e-5
    assert vectors[-1] @ longer.embed([text])[0] > 0.9999, "its own length counts, not that of a batch"
    with pytest.raises(ValueError, match="256|254"):
        plain.embed([text])


def test_a_window_needs_positions() -> None:
    with pytest.raises(ValueError, match="positions"):
        MiniLMEmbedder(window_tokens=512)
    with pytest.raises(ValueError, match="window_tokens"):
        MiniLMEmbedder(window_tokens=2)
