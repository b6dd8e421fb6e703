"""How much attention a question pays to texts: against transformers' own attention weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from readthrough.errors import ModelError, PromptTooLongError, UsageError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from tests import tiny_models

TEXTS = ["The keeper wrote in his book.", "The wind came from the north.", "On the third day a ship was seen."]
ASKED = "Who wrote in the book?"


def request(texts: list[str], asked: str = ASKED) -> Request:
    return Request.user("Texts:\n" + "\n\n".join(texts) + f"\n\nQuestion: {asked}\nAnswer.")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel(str(tiny_models.save(tmp_path_factory.mktemp("tiny"))), device="cpu", forward_tokens=64)


@pytest.mark.parametrize("asked", [ASKED, "W", ASKED * 12])
def test_shares_are_those_of_the_attention_weights(model: LocalModel, asked: str) -> None:
    found = model.attention_mass(request(TEXTS, asked), TEXTS, asked)
    plain = tiny_models.model()
    plain.set_attn_implementation("eager")
    tokens, _, spans = model._prompts.pieced(Request(request(TEXTS, asked).messages, reused=(*TEXTS, asked)), [])
    with torch.inference_mode():
        output = plain(torch.from_numpy(tokens)[None], output_attentions=True)
    weights = torch.stack(output.attentions)[:, 0].double()  # layers, heads, queries, keys
    start, end = spans[-1]
    expected = weights[:, :, start:end].mean((0, 1, 2)).numpy()
    assert found.shares == pytest.approx([float(expected[a:b].sum()) for a, b in spans[:-1]], abs=1e-5)
    assert found.tokens == tuple(model.count_tokens(TEXTS))
    for each, (a, b) in zip(found.by_token, spans, strict=False):
        assert each == pytest.approx(expected[a:b].tolist(), abs=1e-5)
    assert 0 < sum(found.shares) < 1


def test_the_texts_are_read_once_for_every_question(model: LocalModel) -> None:
    texts = [text * 3 for text in TEXTS]
    first = model.attention_mass(request(texts), texts, ASKED)
    again = model.attention_mass(request(texts, "When?"), texts, "When?")
    assert again.usage.cached_tokens >= sum(again.tokens)
    assert again.usage.prompt_tokens - again.usage.cached_tokens < 40
    assert model.attention_mass(request(texts), texts, ASKED).shares == pytest.approx(first.shares, abs=1e-5)


def test_what_cannot_be_watched_says_so(model: LocalModel, tmp_path: Path) -> None:
    assert "attention" in model.capabilities
    assert model.attention_mass(request([]), [], ASKED).shares == ()
    with pytest.raises(UsageError, match="not in the messages"):
        model.attention_mass(request(TEXTS), [*TEXTS, "Something else."], ASKED)
    with pytest.raises(PromptTooLongError):
        model.attention_mass(request([TEXTS[0] * 900]), [TEXTS[0] * 900], ASKED)
    folder = str(tiny_models.save(tmp_path / "tiny"))
    planned = LocalModel(folder, device="cpu", plan={"select": {"sink-window": {"window_tokens": 64}}})
    assert "attention" not in planned.capabilities
    with pytest.raises(ModelError, match="plan"):
        planned.attention_mass(request(TEXTS), TEXTS, ASKED)


def test_a_model_that_attends_within_a_window_says_so(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "windowed", "Mistral", sliding_window=16)
    with pytest.raises(ModelError, match="not shown"):
        LocalModel(str(folder), device="cpu").attention_mass(request(TEXTS), TEXTS, ASKED)


def test_what_is_attended_to_is_found(model: LocalModel) -> None:
    """A text of the asked tokens themselves, moved about: the shares go with the texts, not with their places alone."""
    shares = [np.array(model.attention_mass(request(order), order, ASKED).shares) for order in (TEXTS, TEXTS[::-1])]
    assert not np.allclose(shares[0], shares[1])
