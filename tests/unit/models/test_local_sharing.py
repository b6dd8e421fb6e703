"""What many calls begin with is computed once, in whatever order they come and however little room there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from readthrough.models.base import Completion, Likelihood, Request
from readthrough.models.local.backend import LocalModel
from tests import tiny_models

TEXTS = [f"Day {number}. {tiny_models.TEXT}" for number in range(3)]
QUESTIONS = ("Who was it?", "What came from the north?", "How many ships were seen on the third day?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"))


def local(folder: Path, **options: Any) -> LocalModel:
    return LocalModel(str(folder), device="cpu", dtype="fp32", readings_bytes=0, **options)


def by_question(max_tokens: int = 4) -> list[Request]:
    """Every question about every text, one question after the other."""
    return [
        Request.user(f"{text}\n\nQuestion: {question}", max_tokens=max_tokens)
        for question in QUESTIONS
        for text in TEXTS
    ]


def computed(results: Sequence[Completion | Likelihood]) -> int:
    return sum(result.usage.prompt_tokens - result.usage.cached_tokens for result in results)


def least(model: LocalModel, requests: Sequence[Request]) -> int:
    """The tokens of prompts with what each text begins with counted once."""
    whole = sum(reply.usage.prompt_tokens for reply in model.complete(requests))
    texts = [model.count_tokens([request.messages[0].content.partition("\n\nQ")[0]])[0] for request in requests]
    return whole - sum(texts) + sum(texts[: len(TEXTS)])


def test_replies_over_one_text_are_written_together(folder: Path) -> None:
    requests = by_question()
    expected = [reply.text for reply in local(folder).complete(requests)]
    few = local(folder, kept_bytes=0, running_replies=len(QUESTIONS), draft_tokens=0)
    replies = few.complete(requests)
    assert [reply.text for reply in replies] == expected
    assert computed(replies) <= least(local(folder), requests)


def test_what_replies_share_takes_room_once(folder: Path) -> None:
    model = local(folder, kept_bytes=0)
    requests = by_question()[:: len(TEXTS)]  # one text
    longest = max(reply.usage.prompt_tokens for reply in model.complete(requests))
    room = (longest + 120) * model._engine.token_bytes  # for one prompt and the ends of the others
    tight = local(folder, kept_bytes=0, running_bytes=room)
    alone = sum(computed(local(folder, kept_bytes=0).complete([request])) for request in requests)
    assert computed(tight.complete(requests)) < alone / 2


def test_scores_are_computed_text_by_text_and_leave_the_texts(folder: Path) -> None:
    requests = [Request.user(f"{text}\n\nWrite a question about this text.") for _ in QUESTIONS for text in TEXTS]
    asked = [question for question in QUESTIONS for _ in TEXTS]
    model = local(folder)
    roomy = model.likelihood(requests, asked)
    assert len(model._engine.kept) == len(TEXTS)  # of the questions nothing is kept
    again = model.likelihood(requests[: len(TEXTS)], ["Why?"] * len(TEXTS))
    assert computed(again) <= 8 * len(TEXTS)
    prompt = max(score.usage.prompt_tokens for score in roomy)
    tight = local(folder, kept_bytes=0, running_bytes=(prompt + 60) * model._engine.token_bytes)
    scores = tight.likelihood(requests, asked)
    assert [score.logprob for score in scores] == pytest.approx([score.logprob for score in roomy], abs=1e-4)
    assert computed(scores) == computed(roomy)
