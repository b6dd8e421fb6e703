"""The local model shows what a prompt's last tokens attend to, and reads no layer beyond."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from readthrough.compression.prompt.base import Shares
from readthrough.compression.prompt.gemfilter import GemFilter
from readthrough.errors import ModelError, PromptTooLongError, UsageError
from readthrough.models.local.backend import LocalModel
from tests import tiny_models
from tests.compression_samples import QUESTION, TEXTS, check


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"))


def test_attention_is_that_of_the_model(folder: Path) -> None:
    tiny = LocalModel(str(folder), device="cpu", dtype="fp32", forward_tokens=32)
    ids = tiny.tokenize("The keeper of the lighthouse wrote in his book every evening. " * 4).ids
    model = tiny_models.model(attn_implementation="eager")
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids)[None], output_attentions=True).attentions
    read: list[int] = []
    for number, layer in enumerate(tiny._loaded.model.model.layers):
        layer.register_forward_hook(lambda *_, number=number: read.append(number))
    found: dict[int, Shares] = {}
    tiny.read_attention(ids, 20, [0, 1], found.__setitem__)
    assert list(found) == [0, 1] and set(read) == {0}, "the second layer ends with its attention"
    for layer, shares in found.items():
        np.testing.assert_allclose(shares, expected[layer][0, :, -20:].numpy(), atol=1e-5)
    raw: dict[int, Shares] = {}
    tiny.read_attention(ids, 20, [1], raw.__setitem__, products=True)
    again = torch.from_numpy(raw[1]).softmax(-1).numpy()
    np.testing.assert_allclose(again, found[1], atol=1e-5)
    few: dict[int, Shares] = {}
    tiny.read_attention(ids[:5], 20, [2], few.__setitem__)
    assert few[2].shape == (4, 5, 5)


def test_it_serves_a_compressor(folder: Path) -> None:
    tiny = LocalModel(str(folder), device="cpu", dtype="fp32")
    found = GemFilter().compress(tiny, TEXTS["one"], QUESTION, ratio=0.4)
    check(tiny, TEXTS["one"], found, int(0.4 * found.source_tokens))
    assert found.tokens > 0.3 * found.source_tokens


def test_what_cannot_be_shown_is_refused(folder: Path, tmp_path: Path) -> None:
    tiny = LocalModel(str(folder), device="cpu")
    ids = np.full(3000, 5)
    for layers in ([], [3], [-1]):
        with pytest.raises(UsageError, match="no attention"):
            tiny.read_attention(ids[:9], 1, layers, lambda layer, shares: None)
    with pytest.raises(PromptTooLongError):
        tiny.read_attention(ids, 1, [0], lambda layer, shares: None)
    planned = LocalModel(str(folder), device="cpu", plan={"positions": "linear"})
    with pytest.raises(ModelError, match="attention is not shown"):
        planned.read_attention(ids[:9], 1, [0], lambda layer, shares: None)
    sliding = LocalModel(str(tiny_models.save(tmp_path, "Mistral", sliding_window=16)), device="cpu")
    with pytest.raises(ModelError, match="not shown in the layers"):
        sliding.read_attention(ids[:64], 1, [0, 1, 2], lambda layer, shares: None)
