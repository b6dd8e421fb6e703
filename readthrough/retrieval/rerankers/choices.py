"""Reranking by scored choices: one text at a time, or many in one context.

Sources: Sun et al., "Is ChatGPT Good at Search?" (RankGPT), arXiv 2304.09542: sliding windows from the last candidates
to the first; Reddy et al., "FIRST", arXiv 2406.15657: a whole ranking from the logits of one token.

Differs from the papers: no model is trained for it; each window is read in two orders, since small models favour a
place whatever stands there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.models.base import Request
from readthrough.retrieval.base import Judge
from readthrough.retrieval.rerankers.likelihood import CHAT_TOKENS
from readthrough.types import Cost

HELPS = """{text}

Question: {question}
Does the text above help to answer this question? Answer Yes or No."""

WHICH = """{texts}

Question: {question}
Which of the texts above helps most to answer this question? Reply with its letter."""

MARK_TOKENS = 6
"""What the mark of a text takes, and the blank line before it."""

_LEAST = 1e-6
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class PointwiseReranker:
    """By the model's yes or no to each text: the log-odds that it helps; the share of votes without logits."""

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """The log-odds of yes."""
        if not texts:
            return []
        requests = [Request.user(HELPS.format(text=text, question=query)) for text in texts]
        choices = judge.choose(requests, [["Yes", "No"]] * len(requests))
        return [_log(choice.probabilities[0]) - _log(choice.probabilities[1]) for choice in choices]

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """Each text with the query once."""
        asked, *read = judge.count_tokens([HELPS.format(text="", question=query), *texts])
        return Cost(len(texts), sum(read) + len(texts) * (asked + CHAT_TOKENS))


@dataclass(frozen=True)
class ListwiseReranker:
    """By which of several texts in one context the model chooses, in windows from the last to the first.

    Attributes:
        window: how many texts stand in one context.
        step: how many of them the next window leaves behind.
    """

    window: int = 10
    step: int = 5

    def __post_init__(self) -> None:
        if not 2 <= self.window <= 20:
            raise ValueError(f"window must be 2 to 20, got {self.window}")
        if not 1 <= self.step < self.window:
            raise ValueError(f"step must be 1 to window - 1 = {self.window - 1}, got {self.step}")

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """Minus each text's place; the order given decides between texts that are chosen alike."""
        order = list(range(len(texts)))
        for start in self._starts(len(texts)):
            inside = order[start : start + self.window]
            [scores] = chosen(judge, query, [[texts[text] for text in inside]])
            ranked = sorted(range(len(inside)), key=lambda place: -scores[place])
            order[start : start + self.window] = [inside[place] for place in ranked]
        places = {text: place for place, text in enumerate(order)}
        return [-float(places[text]) for text in range(len(texts))]

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """Every window twice. The longest texts may pass through several windows: they count as if they did."""
        starts = self._starts(len(texts))
        if not starts:
            return Cost()
        asked, *read = judge.count_tokens([WHICH.format(texts="", question=query), *texts])
        frames = len(starts) * (asked + CHAT_TOKENS)
        places = sum(min(self.window, len(texts) - start) for start in starts)
        again = sum(sorted(read)[len(texts) - (places - len(texts)) :]) if places > len(texts) else 0
        return Cost(2 * len(starts), 2 * (sum(read) + again + places * MARK_TOKENS + frames))

    def _starts(self, count: int) -> list[int]:
        """Where each window begins, the last texts first. One text is in order by itself."""
        if count < 2:
            return []
        last = max(0, count - self.window)
        return [*range(last, 0, -self.step), 0]


def lettered(texts: Sequence[str]) -> str:
    """At most 26 texts, each behind its letter, a blank line between two."""
    return "\n\n".join(f"[{letter}] {text}" for letter, text in zip(_LETTERS, texts, strict=False))


def chosen(judge: Judge, query: str, slates: Sequence[Sequence[str]]) -> list[list[float]]:
    """How much each text of each slate (26 at most) is chosen: the mean log-probability of its letter, in the order
    given and in reverse. One batch.

    Letters and not numbers: each is one token, so all of them are scored in one pass.
    """
    orders = [order for texts in slates for order in (texts, texts[::-1])]
    prompts = [WHICH.format(texts=lettered(order), question=query) for order in orders]
    requests = [Request.user(prompt, prefill="[") for prompt in prompts]
    choices = judge.choose(requests, [list(_LETTERS[: len(order)]) for order in orders])
    return [
        [
            (_log(one) + _log(other)) / 2
            for one, other in zip(forward.probabilities, backward.probabilities[::-1], strict=True)
        ]
        for forward, backward in zip(choices[::2], choices[1::2], strict=True)
    ]


def _log(probability: float) -> float:
    return math.log(max(probability, _LEAST))
