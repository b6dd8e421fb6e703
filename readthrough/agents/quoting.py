"""Quoting: the sentences of some passages that raise a question most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from readthrough.agents.finding import QUESTION_ABOUT
from readthrough.agents.passages import unwrap
from readthrough.agents.pointers import Sentence, sentences
from readthrough.agents.services import Services
from readthrough.models.base import Request
from readthrough.types import Chunk


def best_sentences(
    services: Services, question: str, passages: Sequence[Chunk], most: int
) -> tuple[list[Sentence], float]:
    """The `most` sentences with the highest query likelihood in reading order, and the best one's probability.

    The probability is Bayes' rule over these sentences, each as likely as the others before the question is known.
    Needs a model with logits.
    """
    among = sentences(passages)
    texts = {chunk.document: services.shelf.document(chunk.document).text for chunk in passages}
    requests = [
        Request.user(QUESTION_ABOUT.format(text=unwrap(texts[sentence.document][sentence.start : sentence.end])))
        for sentence in among
    ]
    scores = services.likelihood(requests, [question] * len(requests))
    if not scores:
        return [], 0.0
    ranked = sorted(range(len(among)), key=lambda at: -scores[at].logprob)
    highest = scores[ranked[0]].logprob
    probability = 1 / sum(math.exp(score.logprob - highest) for score in scores)
    return [among[at] for at in sorted(ranked[:most])], round(probability, 4)
