"""Keeping what the tokens of a question attend to: what compressors by attention share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from readthrough.compression.prompt.base import SEPARATOR, Ids, Kept, Scorer, Scores, Span
from readthrough.compression.prompt.units import Stream, stream
from readthrough.errors import PromptTooLongError, UsageError

TEXT_TOKENS_MIN = 256
"""So many tokens of a text must fit into the window before the question."""

Judge = Callable[[Ids, int], Scores]
"""Scores the tokens of a prompt, whose first ones, so many, are text and the others the question."""


def keep_noticed(
    scorer: Scorer, texts: Sequence[str], question: str, limits: tuple[int, bool], judge: Judge
) -> list[Kept]:
    """The units of the highest scores.

    A text that is longer than the window is read in equal parts, each before the question.

    Args:
        scorer: the model.
        texts: the texts.
        question: what they are read for.
        limits: how many tokens are kept, and whether units are whole words.
        judge: scores tokens; of a unit the highest score counts.

    Raises:
        UsageError: there is no question.
        PromptTooLongError: the question leaves no room in the window.
    """
    if not question.strip():
        raise UsageError("this compressor needs the question that the texts are read for")
    target_tokens, whole_words = limits
    spans = [Span(number, 0, len(text)) for number, text in enumerate(texts) if text]
    if not spans:
        return []
    made = stream(scorer, texts, spans, whole_words)
    scores = _judged(scorer, made.ids, scorer.tokenize(SEPARATOR + question).ids, judge)
    return best_units(made, scores, target_tokens)


def _judged(scorer: Scorer, ids: Ids, question: Ids, judge: Judge) -> Scores:
    room = scorer.window_tokens - len(question)
    if room < min(TEXT_TOKENS_MIN, len(ids)):
        raise PromptTooLongError(
            f"a question of {len(question)} tokens leaves no room for a text in a window of {scorer.window_tokens}",
            hint="shorten the question, or take a model with a larger window",
        )
    found = []
    for part in np.array_split(ids, -(-len(ids) // room)):
        found.append(judge(np.concatenate([part, question]), len(part))[: len(part)])
    return np.concatenate(found)


def best_units(made: Stream, scores: Scores, target_tokens: int) -> list[Kept]:
    """The units of the highest score that fit, in their order; separators of texts are not counted among them."""
    units, first = np.unique(made.unit, return_index=True)
    of_unit = np.maximum.reduceat(scores, first)
    chosen, left = [], target_tokens
    for place in np.argsort(-of_unit, kind="stable").tolist():
        unit = units[place]
        if left <= 0:
            break
        if not made.is_separator[unit] and made.tokens[unit] <= left:
            chosen.append(place)
            left -= int(made.tokens[unit])
    order = np.array(sorted(chosen), dtype=np.int64)
    return made.pieces(units[order], of_unit[order])


def pooled(values: Scores, width: int, largest: bool = False) -> Scores:
    """The means (zeros beyond the ends), or the largest, of `width` values around each of the last axis.

    An even width reaches one further back than forward.
    """
    before = width // 2
    ends = [(0, 0)] * (values.ndim - 1) + [(before, width - 1 - before)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, ends), width, axis=-1)
    found: Scores = windows.max(-1) if largest else windows.mean(-1)
    return found
