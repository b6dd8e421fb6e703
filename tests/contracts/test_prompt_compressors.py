"""What every prompt compressor promises: within the budget, made of pieces of the texts, everything where it fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough import catalogue
from readthrough.compression.prompt.base import PromptCompressor
from readthrough.errors import ConfigError
from readthrough.spec import build
from tests.compression_samples import QUESTION, TEXTS, WordScorer, check

NAMES = catalogue.names("prompt-compressors")


def compressor(name: str) -> PromptCompressor:
    found: PromptCompressor = build("prompt-compressors", name)
    return found


@pytest.mark.parametrize("window_tokens", [1024, 4096])
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_within_the_budget_and_made_of_the_texts(name: str, kind: str, window_tokens: int) -> None:
    texts, scorer = TEXTS[kind], WordScorer(window_tokens)
    source = compressor(name).compress(scorer, texts, QUESTION, ratio=1.0).source_tokens
    for ratio in (0.9, 0.5, 0.25):
        check(
            scorer, texts, compressor(name).compress(scorer, texts, QUESTION, ratio=ratio), max(1, int(ratio * source))
        )
    for target in (1, 2, 7, 20):
        found = compressor(name).compress(scorer, texts, QUESTION, target_tokens=target)
        check(scorer, texts, found, target)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_fits_comes_back_as_it_is(name: str, kind: str) -> None:
    texts, scorer = TEXTS[kind], WordScorer()
    whole = compressor(name).compress(scorer, texts, QUESTION, ratio=1.0)
    assert whole.text == "\n\n".join(text for text in texts if text)
    assert [(span.start, texts[span.text][span.start : span.end]) for span in whole.spans] == [
        (0, text) for text in texts if text
    ]
    assert whole.dropped_tokens == 0
    assert compressor(name).compress(scorer, texts, QUESTION, target_tokens=whole.tokens) == whole
    assert scorer.read_tokens == 0, "nothing needs to be read for that"


@pytest.mark.parametrize("name", NAMES)
def test_half_of_a_text_is_used_for_half_of_its_tokens(name: str) -> None:
    for kind in ("documents", "one"):
        found = compressor(name).compress(WordScorer(), TEXTS[kind], QUESTION, ratio=0.5)
        assert found.tokens > 0.4 * found.source_tokens


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_of_nothing(name: str) -> None:
    for texts in ([], [""], ["", ""]):
        found = compressor(name).compress(WordScorer(), texts, QUESTION, target_tokens=5)
        assert (found.text, found.spans, found.tokens, found.source_tokens) == ("", (), 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_again(name: str) -> None:
    first, second = (compressor(name).compress(WordScorer(), TEXTS["documents"], QUESTION, ratio=0.3) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_is_none_is_refused(name: str) -> None:
    wrong: list[dict[str, float]] = [{}, {"target_tokens": 5, "ratio": 0.5}, {"target_tokens": 0}, {"ratio": 0.0}]
    for budget in [*wrong, {"ratio": 1.5}, {"ratio": -1.0}, {"ratio": 0.0001}]:
        with pytest.raises(ConfigError, match=r"target_tokens|ratio"):
            compressor(name).compress(WordScorer(), TEXTS["one"], QUESTION, **budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(st.text(max_size=60), max_size=4), target=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_any_text(name: str, texts: list[str], target: int) -> None:
    scorer = WordScorer()
    check(scorer, texts, compressor(name).compress(scorer, texts, QUESTION, target_tokens=target), target)
