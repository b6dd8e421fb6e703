"""Which documents and sentences a question is asked about: those that make the question likely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from readthrough.compression.prompt.base import SEPARATOR, Ids, Scorer, Span

# A longer sentence is divided where its lines end: a table or a list is none.
LONG_CHARS = 400
# A mark with its closing quotes before a space, a CJK mark anywhere, a blank line.
_END = re.compile(r"[.!?\u2026]++[\"'\u201d\u2019)\]]*+(?=\s)|[\u3002\uff01\uff1f]++[\u300d\u300f\u201d\u2019\uff09]*+")
_BLANK_LINE = re.compile(r"(?=\n[ \t]*+\n)")
_LINE = re.compile(r"(?=\n)")


def likelihoods(scorer: Scorer, texts: Sequence[Ids], question: Ids) -> list[float]:
    """Behind each text, the mean log-probability of the question's tokens.

    Of a text that is longer than the window, the part counts that does best.

    Raises:
        PromptTooLongError: the question fills the window.
    """
    room = max(1, scorer.window_tokens - len(question))
    parts = [
        (number, text[start : start + room])
        for number, text in enumerate(texts)
        for start in range(0, max(1, len(text)), room)
    ]
    prompts = [np.concatenate([part, question]) for _, part in parts]
    found = scorer.token_logprobs(prompts, [len(part) for _, part in parts])
    best = [-np.inf] * len(texts)
    for (number, _), logprobs in zip(parts, found, strict=True):
        best[number] = max(best[number], float(np.nanmean(logprobs)))
    return best


def likely_sentences(
    scorer: Scorer, texts: Sequence[str], numbers: Sequence[int], question: Ids, limit_tokens: float
) -> list[Span]:
    """The sentences behind which the question is most likely, as many as fit, in the order of their texts.

    Args:
        scorer: the model.
        texts: all texts.
        numbers: the texts to take sentences from, in the order of the result.
        question: the question's tokens.
        limit_tokens: the most tokens, those between texts included.
    """
    spans = [Span(number, *span) for number in numbers for span in sentence_spans(texts[number])]
    ids = [scorer.tokenize(texts[span.text][span.start : span.end]).ids for span in spans]
    scores = likelihoods(scorer, ids, question)
    separator = len(scorer.tokenize(SEPARATOR).ids)
    chosen: list[int] = []
    used: set[int] = set()
    for place in sorted(range(len(spans)), key=lambda place: -scores[place]):
        tokens = len(ids[place]) + (0 if spans[place].text in used else separator)
        if tokens <= limit_tokens:
            chosen.append(place)
            used.add(spans[place].text)
            limit_tokens -= tokens
    return [spans[place] for place in sorted(chosen)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as (start, end), side by side: the space before a sentence is a part of it.

    Simple on purpose: an abbreviation ends a sentence. Lines end one only where it would be very long.
    """
    ends = {match.end() for pattern in (_END, _BLANK_LINE) for match in pattern.finditer(text)}
    spans: list[tuple[int, int]] = []
    for start, end in _visible(text, 0, len(text), ends):
        if end - start > LONG_CHARS:
            lines = {match.end() for match in _LINE.finditer(text, start, end)}
            spans += _visible(text, start, end, lines)
        else:
            spans.append((start, end))
    return spans


def _visible(text: str, start: int, end: int, bounds: set[int]) -> list[tuple[int, int]]:
    """The range divided at the bounds, as far as there is more than space on both sides."""
    places = [start]
    for bound in sorted(bounds):
        if text[places[-1] : bound].strip() and text[bound:end].strip():
            places.append(bound)
    return list(pairwise([*places, end]))
