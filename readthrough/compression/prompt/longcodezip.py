"""LongCodeZip: functions that make a question likely, then blocks of lines in them by a knapsack.

Source: Shi et al., "LongCodeZip: Compress Long Context for Code Language Models", arXiv 2510.00446, sections 3.2 and
3.3, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from readthrough.compression.prompt.base import SEPARATOR, Kept, PromptCompressor, Scorer, Span
from readthrough.compression.prompt.code_blocks import blocks_of_lines, function_spans, is_marked, knapsack
from readthrough.compression.prompt.ranking import LONG_CHARS, likelihoods, sentence_spans
from readthrough.errors import PromptTooLongError, UsageError


@dataclass(frozen=True)
class LongCodeZip(PromptCompressor):
    """Functions by conditional perplexity, blocks within them by a knapsack (LongCodeZip, arXiv 2510.00446).

    Texts are divided where functions and classes begin. Functions are ranked by how much less perplexing they make the
    question, and taken until their budget is passed. Those of `least_lines` or more then get a share of their tokens,
    the larger the better they rank; they are divided behind lines that are far more perplexing than their neighbours,
    and the blocks kept whose sum of importance is the greatest that fits. Blocks that begin with a definition, a
    comment or a return are kept in any case.

    Differs from the authors' code: spans are verbatim, so that nothing marks what was left out, and blank lines between
    functions are theirs. The budget is one for the result: functions are taken up to it divided by `fine_ratio`, what
    is over falls away by importance, and what the knapsacks leave is filled with the best of the other blocks. The
    perplexity of lines comes from one reading of a function (there one for each line), within the window. A function
    longer than the window counts by its best part. Shares are of tokens (there of lines). Where lines are long, as in
    prose, blocks are sentences.

    Attributes:
        fine_ratio: the share of the chosen functions' tokens that is kept; 1 keeps them whole.
        extra_tokens: so many tokens beyond their budget are filled with functions, the last of which may pass it.
        least_lines: shorter functions are kept whole.
        importance_weight: how much a function's rank moves its share (the paper's beta).
        spike_weight: how many standard deviations above the mean a line's perplexity must be over its neighbour's.
    """

    name = "longcodezip"

    fine_ratio: float = 0.5
    extra_tokens: int = 100
    least_lines: int = 5
    importance_weight: float = 0.5
    spike_weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.fine_ratio <= 1:
            raise ValueError(f"fine_ratio must be above 0 and at most 1, got {self.fine_ratio}")
        if not 0 <= self.importance_weight <= 1:
            raise ValueError(f"importance_weight must be between 0 and 1, got {self.importance_weight}")
        for option in ("extra_tokens", "least_lines", "spike_weight"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, got {getattr(self, option)}")

    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """See `PromptCompressor.select`.

        Raises:
            UsageError: there is no question.
            PromptTooLongError: the question leaves no room in the window.
        """
        if not question.strip():
            raise UsageError(f"{self.name} needs the question that the texts are read for")
        helped = _Helped(scorer, question)
        spans = [Span(number, *span) for number, text in enumerate(texts) for span in function_spans(text)]
        functions = helped.pieces(texts, spans)
        chosen = self._ranked(functions, target_tokens)
        shares = self._shares(texts, chosen)
        kept: list[Kept] = []
        spare: list[Kept] = []
        for function, share in zip(chosen, shares, strict=True):
            taken, left = self._blocks(helped, texts, function, share)
            kept += taken
            spare += left
        free = target_tokens - sum(piece.tokens for piece in kept)
        for piece in sorted(spare, key=lambda piece: -piece.score):
            if piece.tokens <= free:
                kept.append(piece)
                free -= piece.tokens
        return sorted(kept, key=lambda piece: (piece.text, piece.start))

    def _ranked(self, functions: list[Kept], target_tokens: int) -> list[Kept]:
        """The functions that help most, up to and with the one that passes their budget; in their order."""
        budget = target_tokens / self.fine_ratio + self.extra_tokens
        found: list[Kept] = []
        for function in sorted(functions, key=lambda function: -function.score):
            found.append(function)
            budget -= function.tokens
            if budget < 0:
                break
        return sorted(found, key=lambda function: (function.text, function.start))

    def _shares(self, texts: Sequence[str], functions: list[Kept]) -> list[float]:
        """What share of each function's tokens is kept: of all of them together `fine_ratio`, as far as it goes."""
        tokens = np.array([function.tokens for function in functions], dtype=float)
        large = np.array([self._is_large(texts[each.text][each.start : each.end]) for each in functions], dtype=bool)
        shares = np.ones(len(functions))
        if not large.any() or not tokens[large].sum():
            return shares.tolist()
        left = max(0.0, tokens.sum() * self.fine_ratio - tokens[~large].sum())
        mean = min(1.0, left / tokens[large].sum())
        scores = np.nan_to_num(np.array([function.score for function in functions])[large], neginf=0.0)
        width = scores.max() - scores.min()
        place = (scores - scores.min()) / width if width else np.full(len(scores), 0.5)
        wanted = np.clip(mean * (1 + self.importance_weight * (place - 0.5) * 2), 0, 1)
        total = float((wanted * tokens[large]).sum())
        shares[large] = np.clip(wanted * (left / total), 0, 1) if total and mean < 1 else wanted
        return shares.tolist()

    def _is_large(self, text: str) -> bool:
        return text.strip("\n").count("\n") + 1 >= self.least_lines or _has_long_lines(text)

    def _blocks(
        self, helped: _Helped, texts: Sequence[str], function: Kept, share: float
    ) -> tuple[list[Kept], list[Kept]]:
        """The blocks of a function that are kept, and the others that say something."""
        text = texts[function.text][function.start : function.end]
        if share >= 0.999:
            return [function], []
        if _has_long_lines(text):
            bounds = [start for start, _ in sentence_spans(text)]
        else:
            bounds = blocks_of_lines(text, helped.line_perplexities(text), self.spike_weight)
        ends = [function.start + bound for bound in [*bounds, len(text)]]
        spans = [Span(function.text, start, end) for start, end in pairwise(ends)]
        if len(spans) < 2:
            return [function], []
        blocks = helped.pieces(texts, spans)
        said = [texts[block.text][block.start : block.end] for block in blocks]
        marked = {number for number, block in enumerate(said) if is_marked(block)}
        room = int(function.tokens * share) - sum(blocks[number].tokens for number in marked)
        others = [number for number in range(len(blocks)) if number not in marked]
        taken = knapsack([blocks[i].tokens for i in others], [max(blocks[i].score, 0.0) for i in others], room)
        kept = marked | {others[number] for number in taken}
        left = [blocks[number] for number in others if number not in kept and said[number].strip()]
        return [blocks[number] for number in sorted(kept)], left


def _has_long_lines(text: str) -> bool:
    return any(len(line) > LONG_CHARS for line in text.split("\n"))


class _Helped:
    """How much pieces of texts help with a question: its perplexity by itself less that behind a piece."""

    def __init__(self, scorer: Scorer, question: str) -> None:
        self._scorer = scorer
        self._question = scorer.tokenize(question).ids
        if len(self._question) >= scorer.window_tokens:
            raise PromptTooLongError(
                f"a question of {len(self._question)} tokens fills the window of {scorer.window_tokens}",
                hint="shorten the question, or take a model with a larger window",
            )
        alone = scorer.token_logprobs([self._question], [0])[0]
        self._alone = float(np.exp(-np.nanmean(alone))) if len(alone) > 1 else 0.0

    def pieces(self, texts: Sequence[str], spans: Sequence[Span]) -> list[Kept]:
        """The spans, with their tokens and how much they help; blank ones not at all."""
        said = [texts[span.text][span.start : span.end] for span in spans]
        ids = [self._scorer.tokenize(text).ids for text in said]
        before = [self._scorer.tokenize(text + SEPARATOR).ids for text in said]
        behind = np.exp(-np.array(likelihoods(self._scorer, before, self._question)))
        scores = np.where([bool(text.strip()) for text in said], self._alone - behind, -np.inf)
        return [
            Kept(span.text, span.start, span.end, float(score), len(tokens))
            for span, score, tokens in zip(spans, scores, ids, strict=True)
        ]

    def line_perplexities(self, text: str) -> list[float]:
        """Of each line, log2 of its perplexity behind the lines before it; 0 for one without tokens."""
        found, window = self._scorer.tokenize(text), self._scorer.window_tokens
        parts = [found.ids[start : start + window] for start in range(0, len(found.ids), window)]
        logprobs = np.concatenate(self._scorer.token_logprobs(parts, [0] * len(parts)))
        starts = np.array([0, *(place + 1 for place, letter in enumerate(text) if letter == "\n")])
        line = np.searchsorted(starts, found.starts, side="right") - 1
        known = ~np.isnan(logprobs)
        sums = np.bincount(line[known], -logprobs[known], len(starts))
        counts = np.bincount(line[known], minlength=len(starts))
        return [float(value) for value in sums / np.maximum(counts, 1) / np.log(2)]
