"""Reranking by query likelihood: how much a text raises the question.

Source: Sachan et al., "Improving Passage Retrieval with Zero-Shot Question Generation", arXiv 2204.07496.

Differs from the paper: the question's own likelihood is taken off, so that scores of different questions compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.models.base import Request
from readthrough.retrieval.base import Judge
from readthrough.types import Cost

QUESTION_ABOUT = "{text}\n\nWrite a question about this text."
QUESTION_ALONE = "Write a question."

CHAT_TOKENS = 48
"""What a chat template takes around a prompt, leaning upwards."""


@dataclass(frozen=True)
class LikelihoodReranker:
    """By how likely the local model finds the question after each text, less how likely it is anyway.

    The text comes first: where its KV is kept, it costs the question's tokens alone.
    """

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """Nats a token of the query; about 0 where a text says nothing about it.

        Raises:
            ModelError: the model gives no logits.
        """
        return raised(judge, query, texts)

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """Each text with the query once, and the query alone; what is kept of the texts is not known."""
        asked, *read = judge.count_tokens([QUESTION_ABOUT.format(text=query), *texts])
        if not texts:
            return Cost()
        return Cost(len(texts) + 1, sum(read) + (len(texts) + 1) * (asked + CHAT_TOKENS))


def raised(judge: Judge, question: str, texts: Sequence[str]) -> list[float]:
    """How much each text raises the question: mean log p(question | text) less mean log p(question).

    Zero means that the text says nothing about the question. Needs a model with logits. One batch.
    """
    return raised_pairs(judge, [(text, question) for text in texts])


def raised_pairs(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """How much each text raises the question that stands beside it (see `raised`). One batch."""
    if not pairs:
        return []
    alone = list(dict.fromkeys(question for _, question in pairs))
    prompts = [QUESTION_ALONE] * len(alone) + [QUESTION_ABOUT.format(text=text) for text, _ in pairs]
    asked = [*alone, *(question for _, question in pairs)]
    scores = judge.likelihood([Request.user(prompt) for prompt in prompts], asked)
    before = dict(zip(alone, scores, strict=False))
    return [
        score.mean - before[question].mean for score, (_, question) in zip(scores[len(alone) :], pairs, strict=True)
    ]
