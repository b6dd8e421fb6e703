"""A first look at some material: does it state the answer, and where?

Whether the answer is stated is decided from two signs: what the model says when it is asked (yes or no), and how
much the material raises the question, log p(question | material) less log p(question) a token, which small models
know better. The weights are a logistic regression over answerable questions and the same questions with their
supporting passages taken away (docs/log.md has the measurement).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from readthrough.agents.base import Question
from readthrough.agents.finding import raised
from readthrough.agents.services import Services
from readthrough.models.base import Request
from readthrough.models.weights import ALIASES

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
    asked = question.text if question.choices is None else " ".join([question.text, *question.choices])
    requests = [Request.user(IS_STATED.format(material=material, question=asked))]
    options = [["Yes", "No"]]
    if passages:
        requests.append(Request.user(WHICH_PASSAGE.format(material=material, question=asked), prefill="["))
        options.append([f"{number}]" for number in range(1, passages + 1)])
    stated, *where = services.choose(requests, options)
    probabilities = where[0].probabilities if where else ()
    return Look(
        stated=_combine(services, material, question, stated.probabilities[0]),
        where=[probability / max(probabilities) for probability in probabilities],
    )


def _combine(services: Services, material: str, question: Question, yes: float) -> float:
    # Among given choices one is answered whatever is stated: the second sign would be computed for nothing.
    if question.choices is not None or "logits" not in services.model.capabilities:
        return yes
    bounded = min(max(yes, 1e-4), 1 - 1e-4)
    signs = {"yes": math.log(bounded / (1 - bounded)), "raised": raised(services, question.text, [material])[0]}
    services.decide("is the answer stated?", **signs)
    bias = _BIASES.get(ALIASES.get(services.model.name, services.model.name), _BIAS)
    return 1 / (1 + math.exp(-(bias + sum(_WEIGHTS[name] * value for name, value in signs.items()))))
