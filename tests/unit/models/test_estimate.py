"""Estimated token counts against a real tokenizer's habits, and the bound that no tokenizer goes below."""

from __future__ import annotations

import pytest

from readthrough.models.base import Message, Request
from readthrough.models.estimate import estimate_prompt_tokens, estimate_tokens, fewest_prompt_tokens

# Counted with the tokenizer of Qwen2.5, 50 times each text.
KNOWN = [
    ("The keeper of the lighthouse counted the ships that went by at night. ", 751),
    ("def add(a: int, b: int) -> int:\n    return a + b\n\n", 950),
    ("这是一个中文句子，用来测试。", 350),
    ("これは日本語の文章です。テスト。", 450),
    ("Это русский текст для проверки оценки. ", 602),
    ("3.14159 2653 58979 ", 950),
]


@pytest.mark.parametrize(("text", "tokens"), KNOWN)
def test_it_errs_upwards_and_not_far(text: str, tokens: int) -> None:
    assert tokens <= estimate_tokens(text * 50) <= 3 * tokens


@pytest.mark.parametrize("text", ["", " ", "a", "\ud800", "🙂", "\n\n\n", "é" * 1000])
def test_odd_texts(text: str) -> None:
    assert estimate_tokens(text) <= max(1, 2 * len(text))
    assert bool(estimate_tokens(text.strip())) == bool(text.strip())


@pytest.mark.parametrize(("text", "tokens"), KNOWN)
def test_the_lower_bound_is_one(text: str, tokens: int) -> None:
    request = Request((Message("user", text * 50),))
    assert fewest_prompt_tokens(request) <= tokens < estimate_prompt_tokens(request)
