"""Which units of a stream are kept: segment by segment, behind the question and what was kept so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from readthrough.compression.prompt.base import Kept, Scores
from readthrough.compression.prompt.contrast import Contrast
from readthrough.compression.prompt.units import Integers, Stream


def keep_by_shares(contrast: Contrast, made: Stream, spread: Mapping[int, float], target_tokens: int) -> list[Kept]:
    """Of each segment the units of the highest score, as many tokens as its document's share of the budget allows.

    What a segment leaves of its share goes to the later ones.

    Args:
        contrast: scores tokens.
        made: the tokens of the documents.
        spread: by document, how much more than the mean is kept of it, as a share of its tokens.
        target_tokens: how many tokens are kept in all, separators included.
    """
    separators = made.is_separator
    size = np.where(separators, 0, made.tokens)
    left = max(0.0, float(target_tokens - made.tokens.sum() + size.sum()))
    everything = int(size.sum())
    if everything <= left:
        return made.pieces(np.arange(len(size)), np.zeros(len(size)))
    mean = left / everything
    weight = size * np.array([min(1.0, max(0.0, mean + spread[text])) for text in made.text.tolist()])
    ahead = float(weight.sum())
    ends = np.cumsum(made.tokens)
    kept = np.zeros(0, dtype=np.int64)
    pieces: list[Kept] = []
    for units in _segments(made, contrast.segment_tokens):
        tokens = slice(int(ends[units[0]] - made.tokens[units[0]]), int(ends[units[-1]]))
        if separators[units[0]]:
            kept = np.concatenate([kept, made.ids[tokens]])
            continue
        share = float(weight[units].sum())
        allowed = round(left * share / ahead) if share > 0 else 0
        ahead -= share
        if allowed < 1:
            continue
        _, scores = made.means(made.unit[tokens], contrast.scores(np.concatenate([kept, made.ids[tokens]]), len(kept)))
        chosen = _best(scores, size[units], allowed)
        pieces += made.pieces(units[chosen], scores[chosen])
        kept = np.concatenate([kept, made.ids[tokens][np.isin(made.unit[tokens], units[chosen])]])
        left -= float(size[units[chosen]].sum())
    return pieces


def _segments(made: Stream, size_tokens: int) -> Iterator[Integers]:
    """Neighbouring units of a document, at most so many tokens together; a separator comes alone."""
    units: list[int] = []
    held = 0
    separators = made.is_separator.tolist()
    for unit, tokens in enumerate(made.tokens.tolist()):
        if units and (separators[unit] or held + tokens > size_tokens):
            yield np.array(units)
            units, held = [], 0
        if separators[unit]:
            yield np.array([unit])
        elif tokens:
            units.append(unit)
            held += tokens
    if units:
        yield np.array(units)


def _best(scores: Scores, tokens: Integers, allowed: int) -> Integers:
    """The indices, ascending, of the highest scores that fit into so many tokens."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if tokens[index] <= allowed:
            chosen.append(index)
            allowed -= int(tokens[index])
    return np.array(sorted(chosen), dtype=np.int64)


def keep_by_thresholds(contrast: Contrast, made: Stream, spread: Mapping[int, float], target_tokens: int) -> list[Kept]:
    """The token stage of the authors' code; see `as_released` of `LongLLMLingua`. Arguments as above."""
    size, total = contrast.segment_tokens, len(made.ids)
    score = _next(contrast.all_scores(made.ids))
    separator = made.is_separator[made.unit]
    kept = np.zeros(0, dtype=np.int64)  # places in the stream
    at = before = 0  # where the stream is read to; how many places were kept before the last segment
    for plan in _plans(made, spread, target_tokens, size):
        if total - at < size:
            break
        if at:
            seen = np.concatenate([kept, np.arange(at, at + size)])
            fresh = _next(contrast.scores(made.ids[seen], before))
            score[seen[before:-1]] = fresh[:-1]  # the last one is followed by something else than before
        before = len(kept)
        for tokens, ratio in plan:
            places = np.arange(at, at + tokens)
            pool = np.concatenate([score[kept], score[at:-1]])
            over = _units_over(made, score, places, _threshold(pool, ratio))
            kept = np.concatenate([kept, places[over | separator[places]]])
            at += tokens
    kept = np.concatenate([kept, np.arange(at, total)])
    return made.pieces(*made.means(made.unit[kept], score[kept]))


def _next(scores: Scores) -> Scores:
    """Each token's score is that of the token behind it; the last one is kept in any case."""
    return np.append(scores[1:], np.inf)


def _plans(
    made: Stream, spread: Mapping[int, float], target_tokens: int, size: int
) -> Iterator[list[tuple[int, float]]]:
    """For each segment the tokens that are judged together, with the share of the pool that is to be kept.

    The first segment is one shorter, and two tokens are counted for the separator of each document, the last one's
    too: so do the authors.
    """
    separators = made.is_separator
    numbers = list(dict.fromkeys(made.text.tolist()))
    lengths = [int(made.tokens[(made.text == number) & ~separators].sum()) + 2 for number in numbers]
    mean = target_tokens / (sum(lengths) + 1)
    document = np.repeat(np.arange(len(numbers)), lengths)
    start, end = 0, size - 1
    while start < len(document):
        found, counts = np.unique(document[start:end], return_counts=True)
        yield [(int(n), min(1.0, max(0.0, mean + spread[numbers[d]]))) for d, n in zip(found, counts, strict=True)]
        start, end = end, end + size


def _threshold(pool: Scores, ratio: float) -> float:
    """What a score must exceed to be among that share of the pool."""
    if ratio == 1.0:
        return -np.inf
    place = max(0, min(len(pool) - 1, int(len(pool) * ratio) - 1))
    return float(np.sort(pool)[::-1][place])


def _units_over(made: Stream, score: Scores, places: Integers, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether the unit of each place, as far as it lies among the places, has a mean score over the threshold."""
    units, means = made.means(made.unit[places], score[places])
    found: npt.NDArray[np.bool_] = (means > threshold)[np.searchsorted(units, made.unit[places])]
    return found
