"""Texts in units that are kept or dropped whole, and the tokens of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from readthrough.compression.prompt.base import SEPARATOR, Ids, Kept, Scorer, Scores, Span

Integers = npt.NDArray[np.int64]

# Scripts that write no spaces between words: each of their characters stands for itself.
_IDEOGRAPHS = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A word with the space before it, so that neighbours never grow together; what has no end is cut somewhere.
_WORD = re.compile(rf"\s*+(?:[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]{{1,64}}|\Z)")


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The tokens of several texts, one behind the other, with a separator between two.

    Attributes:
        ids: `[n]`.
        unit: `[n]`, the number of the unit that a token belongs to, ascending; a separator is a unit as well.
        text: `[u]`, the text that a unit belongs to, as an index into the texts that were given.
        start: `[u]`, where in its text a unit begins.
        end: `[u]`, where it ends; a separator is empty.
        tokens: `[u]`, how many tokens a unit has.
    """

    ids: Ids
    unit: Integers
    text: Integers
    start: Integers
    end: Integers
    tokens: Integers

    @property
    def is_separator(self) -> npt.NDArray[np.bool_]:
        """`[u]`: whether a unit stands between two texts."""
        found: npt.NDArray[np.bool_] = self.start == self.end
        return found

    def means(self, unit: Integers, values: Scores) -> tuple[Integers, Scores]:
        """The units among `unit`, which is ascending, and the mean of the values that belong to each."""
        units, first, count = np.unique(unit, return_index=True, return_counts=True)
        return units, np.add.reduceat(values, first) / count

    def pieces(self, units: Integers, scores: Scores) -> list[Kept]:
        """Units as pieces of their texts, without the separators."""
        return [
            Kept(int(self.text[unit]), int(self.start[unit]), int(self.end[unit]), float(score), int(self.tokens[unit]))
            for unit, score in zip(units, scores, strict=True)
            if self.start[unit] < self.end[unit]
        ]


def stream(scorer: Scorer, texts: Sequence[str], spans: Sequence[Span], whole_words: bool) -> Stream:
    """Parts of texts as one stream of tokens.

    Args:
        scorer: knows the tokens.
        texts: all texts.
        spans: what to take, in that order and none of it empty; the spans of a text stand side by side.
        whole_words: units are words, else tokens, or several where these share a character.
    """
    ids: list[Ids] = [np.zeros(0, dtype=np.int64)]
    units: list[Integers] = [np.zeros(0, dtype=np.int64)]
    table: list[tuple[int, int, int]] = []
    for span, following in zip(spans, [*spans[1:], None], strict=True):
        text = texts[span.text][span.start : span.end]
        apart = following is not None and following.text != span.text
        found = scorer.tokenize(text + SEPARATOR if apart else text)
        bounds, unit = _divide(text, found.starts, whole_words)
        ids.append(found.ids)
        units.append(unit + len(table))
        edges = [span.start + bound for bound in [*bounds, len(text)]]
        table += [(span.text, start, end) for start, end in pairwise(edges)]
        if apart:
            table.append((span.text, span.end, span.end))
    unit = np.concatenate(units)
    text_of, start, end = np.array(table, dtype=np.int64).reshape(-1, 3).T
    return Stream(np.concatenate(ids), unit, text_of, start, end, np.bincount(unit, minlength=len(table)))


def _divide(text: str, starts: Integers, whole_words: bool) -> tuple[list[int], Integers]:
    """Where the units of a text begin, and the unit of each token; tokens behind the text get the next number."""
    inside = starts[starts < len(text)]
    bounds = np.array([match.start() for match in _WORD.finditer(text)]) if whole_words else np.unique(inside)
    # A token belongs to the unit where it begins; a unit where none begins is a part of the one before.
    used, unit = np.unique(np.searchsorted(bounds, inside, side="right") - 1, return_inverse=True)
    chosen = [0, *bounds[used[1:]].tolist()]
    behind = np.full(len(starts) - len(inside), len(chosen), dtype=np.int64)
    return chosen, np.concatenate([unit, behind])
