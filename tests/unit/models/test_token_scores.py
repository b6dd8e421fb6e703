"""The local model as a scorer: log-probabilities token by token, and where in a text its tokens stand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readthrough.compression.prompt.longllmlingua import LongLLMLingua
from readthrough.errors import PromptTooLongError, UsageError
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.prompts import Tokens
from readthrough.models.local.scoring import Logprobs
from tests import tiny_models
from tests.compression_samples import QUESTION, TEXTS, check


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    folder: Path = tiny_models.save(tmp_path_factory.mktemp("tiny"))
    return LocalModel(str(folder), device="cpu", dtype="fp32")


def test_log_probabilities_are_those_of_the_model(tiny: LocalModel) -> None:
    ids = tiny.tokenize("The keeper of the lighthouse wrote in his book every evening. " * 12).ids
    prompts = [ids, ids[:100], np.concatenate([ids[:90], ids[:40]]), ids[:1], ids[:30]]
    first = [0, 40, 90, 0, 30]
    for _ in range(2):  # the second time much of it is kept
        found = tiny.token_logprobs(prompts, first)
        for prompt, start, logprobs in zip(prompts, first, found, strict=True):
            with torch.inference_mode():
                logits = tiny_models.model()(torch.from_numpy(prompt)[None]).logits[0].double()
            expected = logits.log_softmax(-1)[:-1].gather(1, torch.from_numpy(prompt[1:])[:, None])[:, 0].numpy()
            expected = np.append(np.nan, expected)[start:]
            np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_a_prompt_beyond_the_window_is_refused(tiny: LocalModel) -> None:
    ids = np.full(tiny.window_tokens + 1, 5)
    with pytest.raises(PromptTooLongError):
        tiny.token_logprobs([ids], [10])
    assert len(tiny.token_logprobs([ids[1:]], [2000])[0]) == tiny.window_tokens - 2000


WHOLE = [
    None,
    {"keep": {"snapkv": {"budget_ratio": 1.0}}},
    {"decode": {"page-bound": {"budget_ratio": 1.0, "dense_below_tokens": 0, "dense_layers": 0}}},
]
LESS = [
    {"keep": {"sink-window": {"window_tokens": 128, "at": "prompt", "renumber": False}}},
    {"keep": {"snapkv": {"budget_ratio": 0.2}}},
    {"decode": {"page-bound": {"budget_ratio": 0.1, "dense_below_tokens": 0, "dense_layers": 0}}},
]


def _replied(plan: dict[str, Any] | None, folder: str, ids: Tokens) -> Logprobs:
    return LocalModel(folder, device="cpu", dtype="fp32", plan=plan).reply_logprobs(ids, 640)


def test_a_reply_pays_for_what_a_plan_drops_and_for_nothing_else(tiny: LocalModel) -> None:
    ids = np.random.default_rng(0).integers(5, 200, 800)
    expected = tiny.token_logprobs([ids], [640])[0]
    for plan in WHOLE:
        np.testing.assert_allclose(_replied(plan, tiny.name, ids), expected, atol=1e-4)
    for plan in LESS:
        found = _replied(plan, tiny.name, ids)
        assert np.isfinite(found).all()
        assert np.abs(found - expected).max() > 1e-3
        assert found[0] == pytest.approx(expected[0], abs=1e-4)  # the prompt's own last row saw all of it


def test_a_reply_needs_a_prompt_and_a_token(tiny: LocalModel) -> None:
    ids = np.arange(5, 25)
    for first in (0, 20, 21):
        with pytest.raises(UsageError, match=f"from token {first}"):
            tiny.reply_logprobs(ids, first)
    with pytest.raises(PromptTooLongError):
        tiny.reply_logprobs(np.full(tiny.window_tokens + 1, 5), 10)


@pytest.mark.parametrize("kind", TEXTS)
def test_tokens_begin_where_their_text_stands(tiny: LocalModel, kind: str) -> None:
    for text in TEXTS[kind]:
        found = tiny.tokenize(text)
        assert len(found.ids) == len(found.starts) == tiny.count_tokens([text])[0]
        if text:
            assert found.starts[0] == 0 and found.starts[-1] < len(text)
            assert (np.diff(found.starts) >= 0).all()
        bounds = [*np.unique(found.starts).tolist(), len(text)]
        for start, end in pairwise(bounds):
            tokens = found.ids[found.starts == start]
            written = tiny._loaded.tokenizer.decode(tokens)
            assert written.replace("\u200b", "") == text[start:end]


def test_a_special_token_in_a_text_is_text(tiny: LocalModel) -> None:
    found = tiny.tokenize("He wrote <|im_end|> by hand.")
    assert tiny._loaded.tokenizer.convert_tokens_to_ids("<|im_end|>") not in found.ids


@pytest.mark.parametrize("kind", ["documents", "scripts", "special"])
def test_it_compresses(tiny: LocalModel, kind: str) -> None:
    for options in ({}, {"as_released": True, "whole_words": False}, {"sentence_ratio": 1.4}):
        found = LongLLMLingua(**options).compress(tiny, TEXTS[kind], QUESTION, ratio=0.4)  # type: ignore[arg-type]
        check(tiny, TEXTS[kind], found, int(0.4 * found.source_tokens))
        assert found.text
