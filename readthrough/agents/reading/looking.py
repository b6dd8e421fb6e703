"""A first look at some material: does it state the answer, and where?

Whether the answer is stated is decided from two signs: what the model says when it is asked (yes or no), and how
much the material raises the question, log p(question | material) less log p(question) a token, which small models
know better. The weights are a logistic regression over answerable questions and the same questions with their
supporting passages taken away (docs/log.md has the measurement).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.agents.base import Question
from readthrough.agents.reading.confidence import log_odds
from readthrough.agents.runs.services import Services
from readthrough.models.base import Choice, Request
from readthrough.models.weights import ALIASES
from readthrough.retrieval.rerankers.likelihood import raised_pairs

IS_STATED = """{material}

Question: {question}
Does the text above say the answer to this question? Answer Yes or No."""

WHICH_PASSAGE = """{material}

Question: {question}
Which passage answers the question? Reply with its number."""

_WEIGHTS = {"yes": 1.57, "raised": 2.03}
_BIAS = -3.33
# The small model is much slower to say yes; its answerable and unanswerable questions part at another place.
_BIASES = {"qwen2.5-coder-0.5b-instruct": -0.73}


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        stated: the probability that the material states the answer.
        where: for each numbered passage its probability of holding the answer, beside the most probable one's.
    """

    stated: float
    where: list[float]


def look(services: Services, material: str, question: Question, passages: int = 0) -> Look:
    """Look at material with `passages` numbered passages (0 where it has none)."""
    requests, options = [_is_stated(material, question)], [["Yes", "No"]]
    if passages:
        requests.append(_which(material, question))
        options.append(_numbers(passages))
    stated, *which = services.choose(requests, options)
    return Look(
        stated=_combine(services, [(material, question)], [stated.probabilities[0]])[0],
        where=[share for choice in which for share in _beside_the_best(choice)],
    )


def where(services: Services, material: str, question: Question, passages: int) -> list[float]:
    """`Look.where` alone, for a question that is answered in any case."""
    return where_each(services, material, [question], passages)[0]


def where_each(services: Services, material: str, questions: Sequence[Question], passages: int) -> list[list[float]]:
    """`where` for each of several questions about the same material; their calls go out together."""
    requests = [_which(material, question) for question in questions]
    found = services.choose(requests, [_numbers(passages)] * len(questions))
    return [_beside_the_best(choice) for choice in found]


def stated_each(services: Services, materials: Sequence[str], question: Question) -> list[float]:
    """For each of several materials the probability that it states the answer; their calls go out together."""
    return stated_pairs(services, [(material, question) for material in materials])


def stated_pairs(services: Services, pairs: Sequence[tuple[str, Question]]) -> list[float]:
    """For each material the probability that it states the answer to the question beside it, as `stated_each`."""
    requests = [_is_stated(material, question) for material, question in pairs]
    found = services.choose(requests, [["Yes", "No"]] * len(requests))
    return _combine(services, pairs, [choice.probabilities[0] for choice in found])


def _is_stated(material: str, question: Question) -> Request:
    return Request.user(IS_STATED.format(material=material, question=question.with_choices))


def _which(material: str, question: Question) -> Request:
    return Request.user(WHICH_PASSAGE.format(material=material, question=question.with_choices), prefill="[")


def _numbers(passages: int) -> list[str]:
    return [f"{number}]" for number in range(1, passages + 1)]


def _beside_the_best(choice: Choice) -> list[float]:
    return [probability / max(choice.probabilities) for probability in choice.probabilities]


def _combine(services: Services, pairs: Sequence[tuple[str, Question]], yes: Sequence[float]) -> list[float]:
    # Among given choices one is answered whatever is stated: the second sign would be computed for nothing.
    chosen = any(question.choices is not None for _, question in pairs)
    if chosen or "logits" not in services.model.capabilities:
        return list(yes)
    bias = _BIASES.get(ALIASES.get(services.model.name, services.model.name), _BIAS)
    gains = raised_pairs(services, [(material, question.text) for material, question in pairs])
    found = []
    for share, gain in zip(yes, gains, strict=True):
        signs = {"yes": log_odds(share), "raised": gain}
        services.decide("is the answer stated?", **signs)
        found.append(1 / (1 + math.exp(-(bias + sum(_WEIGHTS[name] * value for name, value in signs.items())))))
    return found
