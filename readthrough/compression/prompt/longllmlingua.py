"""LongLLMLingua: documents by how well they explain the question, tokens by how much the question explains them.

Source: Jiang et al., "LongLLMLingua", arXiv 2310.06839, equations 2 (documents), 3 (tokens), 5 (dynamic ratios).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from readthrough.compression.prompt.base import SEPARATOR, Kept, PromptCompressor, Scorer, Span
from readthrough.compression.prompt.contrast import Contrast
from readthrough.compression.prompt.keeping import keep_by_shares, keep_by_thresholds
from readthrough.compression.prompt.ranking import likelihoods, likely_sentences
from readthrough.compression.prompt.units import stream
from readthrough.errors import UsageError

RESTRICTION = " We can get the answer to this question in the given documents."
"""What follows the question where documents are ranked, in the authors' words."""


@dataclass(frozen=True)
class LongLLMLingua(PromptCompressor):
    """Question-aware perplexity chooses documents, then words (LongLLMLingua, arXiv 2310.06839).

    Documents are ranked by log p(question | document) and taken until the budget is passed. What is left is read in
    segments behind the question and what was kept so far; each keeps the words that the question makes most likely.

    Differs from the paper: words are kept whole (a number without its digits is another number), the separators of
    documents are always kept, a segment ends with its document and keeps as many tokens as its share of the budget
    allows, and what a segment leaves of its share the later ones get. The recovery of broken words in answers falls
    away: no word is broken.

    Differs from the authors' code, also with `as_released`: characters are never broken, the result is cut to the
    budget, a document longer than the window is ranked by its best part (there it loses the question, and its rank is
    not a number), a question that does not fit the window is an error (there its middle goes, silently), and what
    outgrows the window is read again where it then stands (there old KV stays where it was).

    Attributes:
        extra_tokens: so many tokens beyond the budget are filled with documents, the last of which may pass it.
        order: how the documents then stand: best first (`ranked`), as they were given (`original`), or the best at both
            ends (`two-stage`).
        spread_ratio: how much more than the mean the best document keeps, and the last less, as a share of its tokens;
            documents between them by rank.
        sentence_ratio: sentences are first chosen up to so many times the budget, by how likely they make the question;
            at 1, whole sentences are all that is kept, which costs half and lost fewer answers (docs/log.md). None
            chooses none, as the authors do for questions (the filter of their code has 1.4).
        segment_tokens: how many tokens are judged at a time.
        whole_words: False keeps and drops single tokens, as the paper does.
        as_released: the token stage as the authors' code has it, with its slips: a token is kept by the score of the
            token behind it; thresholds are drawn over everything kept and everything to come; the last tokens, fewer
            than a segment, are kept whole; segments and documents are out of step by a token or two each.
    """

    name = "longllmlingua"

    extra_tokens: int = 100
    order: Literal["ranked", "original", "two-stage"] = "ranked"
    spread_ratio: float = 0.3
    sentence_ratio: float | None = None
    segment_tokens: int = 200
    whole_words: bool = True
    as_released: bool = False

    def __post_init__(self) -> None:
        if self.extra_tokens < 0:
            raise ValueError(f"extra_tokens must be at least 0, got {self.extra_tokens}")
        if not 0 <= self.spread_ratio <= 1:
            raise ValueError(f"spread_ratio must be between 0 and 1, got {self.spread_ratio}")
        if self.sentence_ratio is not None and self.sentence_ratio < 1:
            raise ValueError(f"sentence_ratio must be at least 1, got {self.sentence_ratio}")
        if self.segment_tokens < 2:
            raise ValueError(f"segment_tokens must be at least 2, got {self.segment_tokens}")

    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """Documents, then words in them.

        Raises:
            UsageError: there is no question.
            PromptTooLongError: the question leaves no room in the window.
        """
        if not question.strip():
            raise UsageError("longllmlingua needs the question that the texts are read for")
        contrast = Contrast(scorer, scorer.tokenize(question + SEPARATOR).ids, self.segment_tokens)
        ranked = self._fill(scorer, texts, question, target_tokens + self.extra_tokens)
        numbers = self._arrange(ranked)
        spans = [Span(number, 0, len(texts[number])) for number in numbers]
        if self.sentence_ratio is not None:
            asked = scorer.tokenize(question).ids
            spans = likely_sentences(scorer, texts, numbers, asked, target_tokens * self.sentence_ratio)
        if not spans:
            return []
        made = stream(scorer, texts, spans, self.whole_words)
        steps = np.linspace(self.spread_ratio, -self.spread_ratio, len(ranked)) if len(ranked) > 1 else np.zeros(1)
        spread = dict(zip(ranked, steps.tolist(), strict=True))
        keep = keep_by_thresholds if self.as_released else keep_by_shares
        return keep(contrast, made, spread, target_tokens)

    def _fill(self, scorer: Scorer, texts: Sequence[str], question: str, limit_tokens: int) -> list[int]:
        """The documents that explain the question best, best first, up to and with the one that passes the limit."""
        numbers = [number for number, text in enumerate(texts) if text]
        if len(numbers) == 1:
            return numbers
        ids = [scorer.tokenize(texts[number]).ids for number in numbers]
        scores = likelihoods(scorer, ids, scorer.tokenize(question + RESTRICTION).ids)
        order = sorted(range(len(numbers)), key=lambda place: -scores[place])
        held = np.cumsum([len(ids[place]) for place in order])
        passing = int(np.searchsorted(held, limit_tokens, side="right"))
        return [numbers[place] for place in order[: passing + 1]]

    def _arrange(self, ranked: Sequence[int]) -> list[int]:
        if self.order == "original":
            return sorted(ranked)
        if self.order == "two-stage":
            return [*ranked[::2], *ranked[1::2][::-1]]
        return list(ranked)
