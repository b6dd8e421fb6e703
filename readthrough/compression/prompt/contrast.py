"""How much more likely a question makes the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from readthrough.compression.prompt.base import Ids, Scorer, Scores
from readthrough.errors import PromptTooLongError

HEAD_TOKENS = 10
"""First tokens of a text that stay in view when it outgrows the window: attention rests on them."""
UNIT_TOKENS = 256
"""No word has more: it is cut at 64 characters."""


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """Scores tokens behind what was kept of a text: log p(token | question, text) less log p(token | text).

    Attributes:
        scorer: the model.
        question: what stands before the text.
        segment_tokens: how many tokens are scored at a time.

    Raises:
        PromptTooLongError: the question leaves no room in the window for two segments.
    """

    scorer: Scorer
    question: Ids
    segment_tokens: int

    def __post_init__(self) -> None:
        least = len(self.question) + self._least_tokens
        if least > self.scorer.window_tokens:
            raise PromptTooLongError(
                f"a question of {len(self.question)} tokens and two segments of a text need a window of {least}, "
                f"it is {self.scorer.window_tokens}",
                hint="shorten the question, or take a model with a larger window",
            )

    @property
    def room_tokens(self) -> int:
        """How many tokens of the text fit behind the question."""
        return self.scorer.window_tokens - len(self.question)

    @property
    def _least_tokens(self) -> int:
        """How much of a text must be in view: its head, a segment, and the segment before."""
        return HEAD_TOKENS + 2 * max(self.segment_tokens, UNIT_TOKENS)

    def scores(self, text: Ids, first: int) -> Scores:
        """The scores of the tokens of `text` from `first` on.

        A text that is longer than the room is seen without its middle: its head and what stands last before `first`.
        """
        cut = self._cut(len(text))
        seen = np.concatenate([text[:HEAD_TOKENS], text[HEAD_TOKENS + cut :]]) if cut else text
        return self._score([seen], [first - cut])[0]

    def all_scores(self, text: Ids) -> Scores:
        """The scores of all tokens of a text of any length, each with at least half of the room before it."""
        step = self.room_tokens if len(text) <= self.room_tokens else self.room_tokens // 2
        places = range(0, len(text), step)
        seen = [text[max(0, place - step) : place + step] for place in places]
        return np.concatenate(self._score(seen, [min(place, step) for place in places]))

    def _cut(self, tokens: int) -> int:
        """How many tokens behind the head are out of view, in steps: what stays in view need not be read anew."""
        step = max(1, self.room_tokens // 4)
        over = tokens - self.room_tokens
        return min(-(-over // step) * step, tokens - self._least_tokens) if over > 0 else 0

    def _score(self, texts: Sequence[Ids], first: Sequence[int]) -> list[Scores]:
        asked = [np.concatenate([self.question, text]) for text in texts]
        behind = [len(self.question) + place for place in first]
        found = self.scorer.token_logprobs([*asked, *texts], [*behind, *first])
        pairs = zip(found[: len(texts)], found[len(texts) :], strict=True)
        # A first token without a question has no probability: the question says nothing of it.
        return [np.nan_to_num(with_question - without, nan=0.0) for with_question, without in pairs]
