"""Every reranker in the catalogue, unasked: a finite score a text, whatever the texts, and no more than it said."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from readthrough import catalogue
from readthrough.errors import ModelError
from readthrough.models.base import ModelBackend, Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.base import Reranker
from readthrough.retrieval.rerankers.attention import AttentionReranker
from readthrough.retrieval.reranking import Budget, rerank
from readthrough.spec import build
from readthrough.types import Usage
from tests import tiny_models

NAMES = catalogue.names("rerankers")
QUESTION = "Who hid the brass key of the lighthouse?"
TEXTS = [
    "The sea was grey and the wind came from the north.",
    "Ann Weller hid the brass key of the lighthouse below the stair.",
    "A ship was seen on the third day.",
    "The keeper wrote in his book every evening.",
]
HOSTILE = ["", " ", "[2] Question: Who?", "<|im_end|>", "北京", "a\x00b", "word " * 300]


def overlap(request: Request, options: Sequence[str]) -> list[float]:
    """A judge who goes by the words that a text shares with the question."""
    content = request.messages[-1].content
    head, _, rest = content.rpartition("Question:")
    asked = set(re.findall(r"\w+", rest.split("\n")[0].lower()))
    texts = re.split(r"\[[A-Z]\] ", head)[1:] if options[0] == "A" else [head]
    shares = [len(asked & set(re.findall(r"\w+", text.lower()))) / max(1, len(asked)) for text in texts]
    if options[0] == "Yes":
        return [shares[0], 1 - shares[0]]
    weights = [math.exp(5 * share) for share in (*shares, *[0.0] * (len(options) - len(shares)))][: len(options)]
    return [weight / sum(weights) for weight in weights]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random cross-encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(vocab_size=400, max_position_embeddings=96, num_labels=1, pad_token_id=0, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = tiny_models.tokenizer()
    tokenizer.model_max_length = 96
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel(str(tiny_models.save(tmp_path_factory.mktemp("tiny"))), device="cpu", forward_tokens=256)


@pytest.fixture(params=NAMES)
def reranker(request: pytest.FixtureRequest, encoder: str) -> Reranker:
    options: dict[str, Any] = {"name": encoder} if request.param == "cross-encoder" else {}
    made = build("rerankers", {request.param: options})
    assert isinstance(made, Reranker)
    return made


class Counting:
    """A judge that adds up what is asked of it."""

    def __init__(self, model: ModelBackend) -> None:
        self._model = model
        self.spent = Usage()

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._model, name)
        if name == "count_tokens":
            return asked

        def call(*arguments: Any) -> Any:
            results = asked(*arguments)
            for result in results if isinstance(results, list) else [results]:
                self.spent += result.usage
            return results

        return call


def test_a_finite_score_a_text_the_same_again_and_alone_in_its_batch(reranker: Reranker, local: LocalModel) -> None:
    for texts in (TEXTS, TEXTS[:1], HOSTILE, [TEXTS[0]] * 3, []):
        scores = reranker.score(local, QUESTION, texts)
        assert len(scores) == len(texts)
        assert all(math.isfinite(score) for score in scores)
        assert reranker.score(local, QUESTION, texts) == pytest.approx(scores, abs=1e-4)


def test_it_asks_no_more_than_it_said(reranker: Reranker, local: LocalModel) -> None:
    many = [f"{text} Page {number}." for number in range(7) for text in TEXTS]
    # a tokenizer of 400 tokens has several for `Yes`, and a pass for each
    model: ModelBackend = local if isinstance(reranker, AttentionReranker) else ScriptedModel()
    for texts in (many, TEXTS, TEXTS[:1], []):
        judge = Counting(model)
        reranker.score(judge, QUESTION, texts)
        said = reranker.cost(model, QUESTION, texts)
        assert judge.spent.calls <= said.calls
        assert judge.spent.prompt_tokens <= said.prompt_tokens
        assert said.prompt_tokens <= 2 * judge.spent.prompt_tokens + 60 * said.calls


@pytest.mark.parametrize("name", ["likelihood", "pointwise", "listwise"])
def test_the_text_that_answers_is_first_wherever_it_stood(name: str) -> None:
    judge = ScriptedModel(choices=overlap)
    for shift in range(4):
        texts = [f"{text} {number}" for number in range(6) for text in (TEXTS[0], TEXTS[2], TEXTS[3])]
        texts.insert(shift * 5, TEXTS[1])
        assert rerank(build("rerankers", name), judge, QUESTION, texts)[0] == shift * 5


@pytest.mark.parametrize("name", ["likelihood", "attention"])
def test_what_needs_more_than_votes_says_so(name: str) -> None:
    class Endpoint(ScriptedModel):
        def likelihood(self, requests: Any, continuations: Any) -> Any:
            return ModelBackend.likelihood(self, requests, continuations)

    with pytest.raises(ModelError, match="gives no logits|does not show its attention"):
        build("rerankers", name).score(Endpoint(), QUESTION, TEXTS)


@pytest.mark.parametrize("name", ["pointwise", "listwise"])
def test_votes_are_enough_for_choices(name: str) -> None:
    def vote(request: Request, options: Sequence[str]) -> str:
        shares = overlap(request, options)
        return options[max(range(len(options)), key=shares.__getitem__)]

    assert rerank(build("rerankers", name), ScriptedModel(choices=vote), QUESTION, TEXTS) == [1, 0, 2, 3]


def test_budget() -> None:
    class ByLength:
        def score(self, judge: Any, query: str, texts: Sequence[str]) -> list[float]:
            return [float(len(text)) for text in texts]

        def cost(self, judge: Any, query: str, texts: Sequence[str]) -> Any:
            return build("rerankers", "likelihood").cost(judge, query, texts)

    judge, texts = ScriptedModel(), ["a", "a a", "a a a", "a a a a", "a a a a a"]
    assert rerank(ByLength(), judge, "", texts) == [4, 3, 2, 1, 0]
    assert rerank(ByLength(), judge, "", texts, Budget(candidates=2)) == [1, 0, 2, 3, 4]
    two = int(ByLength().cost(judge, "", texts[:2]).prompt_tokens)
    assert rerank(ByLength(), judge, "", texts, Budget(tokens=two)) == [1, 0, 2, 3, 4]
    assert rerank(ByLength(), judge, "", texts, Budget(tokens=two - 1)) == [0, 1, 2, 3, 4]
    assert rerank(ByLength(), judge, "", texts, Budget(tokens=1)) == [0, 1, 2, 3, 4]
    for wrong in ({"candidates": 0}, {"tokens": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Budget(**wrong)


def test_options_are_checked(tmp_path: Path) -> None:
    from readthrough.errors import ConfigError

    for spec in ({"listwise": {"window": 1}}, {"listwise": {"step": 10}}, {"attention": {"window_tokens": 0}}):
        with pytest.raises(ConfigError, match="must be"):
            build("rerankers", spec)
    for spec in ("cross-encoder", {"cross-encoder": {"name": " "}}):
        with pytest.raises(ConfigError, match="name"):
            build("rerankers", spec)
    missing = build("rerankers", {"cross-encoder": {"name": str(tmp_path / "nothing")}})
    with pytest.raises(ModelError, match="cannot be loaded"):
        missing.score(ScriptedModel(), QUESTION, TEXTS)
