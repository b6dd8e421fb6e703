"""LongLLMLingua: which documents, sentences and words stay, in which order, and in a window that is too small."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from readthrough.compression.prompt.base import Compressed
from readthrough.compression.prompt.contrast import HEAD_TOKENS, UNIT_TOKENS, Contrast
from readthrough.compression.prompt.longllmlingua import LongLLMLingua
from readthrough.compression.prompt.ranking import likelihoods, sentence_spans
from readthrough.errors import PromptTooLongError, UnknownNameError, UsageError
from readthrough.spec import OptionError, build
from tests.compression_samples import DAYS, NEEDLE, QUESTION, TEXTS, WordScorer, check

WHOLE = " ".join(DAYS)


def order(found: Compressed) -> list[int]:
    return list(dict.fromkeys(span.text for span in found.spans))


def test_the_document_that_explains_the_question_comes_first() -> None:
    texts = [*TEXTS["documents"], " ".join(DAYS[30:]) + " A lighthouse stood near."]
    found = LongLLMLingua(extra_tokens=5000).compress(WordScorer(), texts, QUESTION, ratio=0.7)
    assert order(found)[:2] == [1, 3]
    as_given = LongLLMLingua(extra_tokens=5000, order="original").compress(WordScorer(), texts, QUESTION, ratio=0.7)
    assert order(as_given) == [0, 1, 2, 3]
    ends = LongLLMLingua(extra_tokens=5000, order="two-stage").compress(WordScorer(), texts, QUESTION, ratio=0.7)
    ranked = order(found)
    assert order(ends) == [ranked[0], ranked[2], ranked[3], ranked[1]]


def test_documents_beyond_the_budget_are_left_out() -> None:
    found = LongLLMLingua(extra_tokens=0).compress(WordScorer(), TEXTS["documents"], QUESTION, target_tokens=100)
    assert order(found) == [1]


def test_the_best_document_keeps_the_larger_share() -> None:
    texts = [" ".join(DAYS[:9]), f"{NEEDLE} " + " ".join(DAYS[9:18])]

    def kept_ratio(spread_ratio: float) -> float:
        found = LongLLMLingua(spread_ratio=spread_ratio, extra_tokens=5000).compress(
            WordScorer(), texts, QUESTION, ratio=0.5
        )
        return sum(span.end - span.start for span in found.spans if span.text == 1) / len(texts[1])

    assert abs(kept_ratio(0.0) - 0.5) < 0.06
    assert abs(kept_ratio(0.3) - 0.8) < 0.08


def test_words_that_the_question_names_stay_and_others_go() -> None:
    found = LongLLMLingua().compress(WordScorer(), TEXTS["one"], QUESTION, ratio=0.25)
    assert "lighthouse of Anholt" in found.text
    assert found.text.count("herring") < 12


@pytest.mark.parametrize("as_released", [False, True])
def test_no_word_is_broken(as_released: bool) -> None:
    text = " ".join([*DAYS[:8], "Two lighthousekeepers of Anholtisland slept.", *DAYS[8:16]])
    words, tokens = (
        LongLLMLingua(as_released=as_released, whole_words=whole_words).compress(
            WordScorer(), [text], QUESTION, ratio=0.3
        )
        for whole_words in (True, False)
    )
    assert set(words.text.split()) <= set(text.split())
    assert not set(tokens.text.split()) <= set(text.split())


def test_whole_sentences() -> None:
    found = LongLLMLingua(sentence_ratio=1.0).compress(WordScorer(), TEXTS["documents"], QUESTION, ratio=0.3)
    sentences = {text[start:end] for text in TEXTS["documents"] for start, end in sentence_spans(text)}
    pieces = [TEXTS["documents"][span.text][span.start : span.end] for span in found.spans]
    assert all(piece[start:end] in sentences for piece in pieces for start, end in sentence_spans(piece))
    assert NEEDLE in found.text
    assert found.tokens > 0.2 * found.source_tokens


@pytest.mark.parametrize(
    "options", [{"sentence_ratio": 1.4}, {"sentence_ratio": 1.0, "as_released": True}, {"as_released": True}], ids=str
)
@pytest.mark.parametrize("kind", TEXTS)
def test_the_other_forms_keep_the_contract(kind: str, options: dict[str, object]) -> None:
    for target in (3, 40, 150):
        for whole_words in (True, False):
            made = build("prompt-compressors", "longllmlingua", {**options, "whole_words": whole_words})
            scorer = WordScorer()
            check(
                scorer,
                TEXTS[kind],
                made.compress(scorer, TEXTS[kind], QUESTION, target_tokens=target),
                target,
            )


@pytest.mark.parametrize("as_released", [False, True])
def test_a_text_that_outgrows_the_window(as_released: bool) -> None:
    """The scorer refuses prompts beyond its window; the needle behind it is found all the same."""
    text = f"{WHOLE} {NEEDLE} {WHOLE}"
    scorer = WordScorer(window_tokens=700)
    found = LongLLMLingua(as_released=as_released).compress(scorer, [text], QUESTION, ratio=0.6)
    check(scorer, [text], found, int(0.6 * found.source_tokens))
    assert found.tokens > 700
    assert "lighthouse of Anholt" in found.text
    ranked = LongLLMLingua(as_released=as_released).compress(scorer, [WHOLE, text], QUESTION, target_tokens=300)
    assert order(ranked) == [1]


def test_a_long_text_is_scored_with_what_stands_before_it() -> None:
    scorer = WordScorer(window_tokens=700)
    question, ids = scorer.tokenize(QUESTION).ids, scorer.tokenize(f"{WHOLE} {WHOLE}").ids
    parts = Contrast(scorer, question, 50)
    half = parts.room_tokens // 2
    assert len(ids) > 3 * parts.room_tokens
    at_once = Contrast(WordScorer(), question, 50).all_scores(ids)
    in_parts = parts.all_scores(ids)
    assert in_parts.shape == at_once.shape == ids.shape
    np.testing.assert_allclose(in_parts[: 2 * half], at_once[: 2 * half])
    np.testing.assert_allclose(in_parts[2 * half : 3 * half], parts.scores(ids[half : 3 * half], half))
    # Behind the end of the window the head and what stands last is seen.
    seen = np.concatenate([ids[:HEAD_TOKENS], ids[HEAD_TOKENS + parts._cut(len(ids)) :]])
    assert parts.room_tokens // 2 < len(seen) <= parts.room_tokens
    np.testing.assert_allclose(parts.scores(ids, len(ids) - 50), parts.scores(seen, len(seen) - 50))


def test_a_text_longer_than_the_window_is_ranked_by_its_best_part() -> None:
    scorer = WordScorer(window_tokens=300)
    question = scorer.tokenize(QUESTION).ids
    filler, needle = scorer.tokenize(WHOLE).ids, scorer.tokenize(NEEDLE).ids
    plain, hidden, alone = likelihoods(scorer, [filler, np.concatenate([filler, needle, filler]), needle], question)
    assert plain < hidden < alone


def test_a_question_without_room_is_an_error() -> None:
    question = "Who " * 400
    window = 2 * UNIT_TOKENS + HEAD_TOKENS + 300
    for texts in (TEXTS["one"], TEXTS["documents"]):
        with pytest.raises(PromptTooLongError, match="window"):
            LongLLMLingua().compress(WordScorer(window), texts, question, ratio=0.5)


@pytest.mark.parametrize("question", ["", " \n"])
def test_it_needs_a_question(question: str) -> None:
    with pytest.raises(UsageError, match="question"):
        LongLLMLingua().compress(WordScorer(), TEXTS["one"], question, ratio=0.5)


def test_wrong_options() -> None:
    wrong = ({"spread_ratio": 2}, {"segment_tokens": 0}, {"extra_tokens": -1}, {"sentence_ratio": 0.5}, {"order": "x"})
    for options in wrong:
        with pytest.raises(OptionError):
            build("prompt-compressors", {"longllmlingua": options})
    with pytest.raises(UnknownNameError, match="longllmlingua"):
        build("prompt-compressors", "longlingua")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Three?", ["One.", " Two!", "  Three?"]),
        ("He said \u201cno.\u201d Then 3.14 came", ["He said \u201cno.\u201d", " Then 3.14 came"]),
        ("Title\n\n\nText\nof two lines.\n", ["Title", "\n\n\nText\nof two lines.\n"]),
        ("灯台です。島です！", ["灯台です。", "島です！"]),
        ("  \n\n ", ["  \n\n "]),
        ("a row\n" * 100, ["a row", *["\na row"] * 98, "\na row\n"]),
    ],
)
def test_sentences_stand_side_by_side(text: str, sentences: list[str]) -> None:
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans] == sentences
    assert all(before[1] == after[0] for before, after in pairwise(spans))
