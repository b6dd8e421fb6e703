"""The last step of every workflow: from material (passages, a message, notes) to a reply with its probability.

A multiple-choice question is decided by logits over the letters, averaged over rotations of the options, because
small models favour a letter whatever stands behind it. A free answer is written, then weighed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from readthrough.agents.base import Question, Services
from readthrough.agents.finding import QUESTION_ABOUT, QUESTION_ALONE
from readthrough.models.base import Choice, Request
from readthrough.types import Event

MULTIPLE_CHOICE = """{material}

Question: {question}
{options}
Answer with the letter of the right choice."""

SHORT_ANSWER = """{material}

Question: {question}
Answer the question from the text above, in as few words as possible."""

IS_STATED = """{material}

Question: {question}
Does the text above say the answer to this question? Answer Yes or No."""

NOT_STATED = "The text does not say."

_ROTATIONS = 2
_STATED_WEIGHTS = {"yes": 1.5, "raised": 1.9}
_STATED_BIAS = -2.75
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model made of some material. `choice` is the index of the chosen option, where there are options."""

    text: str
    confidence: float | None = None
    abstained: bool = False
    choice: int | None = None

    def to_state(self) -> dict[str, Any]:
        """The reply as plain values for a graph's state."""
        return asdict(self)


def stated(services: Services, material: str, question: Question) -> float:
    """The probability that `material` states the answer to the question.

    Two signs are put together: what the model says when asked (yes or no), and how much the material raises the
    question, log p(question | material) less log p(question) a token, which small models know better. Without
    logits the first alone decides.
    """
    asked = question.text if question.choices is None else " ".join([question.text, *question.choices])
    request = Request.user(IS_STATED.format(material=material, question=asked))
    yes = services.choose([request], [["Yes", "No"]])[0].probabilities[0]
    if "logits" not in services.model.capabilities:
        return yes
    about = [Request.user(QUESTION_ABOUT.format(text=material)), Request.user(QUESTION_ALONE)]
    given, alone = services.likelihood(about, [question.text] * 2)
    signs = {"yes": _log_odds(yes), "raised": given.mean - alone.mean}
    services.emit(Event("decide", 1, 1, note=" ".join(f"{name}={value:.3f}" for name, value in signs.items())))
    return 1 / (1 + math.exp(-(_STATED_BIAS + sum(_STATED_WEIGHTS[name] * value for name, value in signs.items()))))


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(bounded / (1 - bounded))


def answer_from(
    services: Services, material: str, question: Question, stated: float | None = None, max_tokens: int = 256
) -> Reply:
    """Answer a question from `material` alone; `stated` is how probable it is that the material says it."""
    if question.choices is not None:
        return choose_option(services, material, question.text, question.choices)
    prompt = SHORT_ANSWER.format(material=material, question=question.text)
    completion = services.write(Request.user(prompt, max_tokens=max_tokens))
    return Reply(completion.text.strip(), confidence=stated)


def choose_option(services: Services, material: str, question: str, choices: tuple[str, ...]) -> Reply:
    """The option with the highest probability, averaged over rotations of the options' order."""
    rotations = range(_ROTATIONS if "logits" in services.model.capabilities else 1)
    orders = [[(position + shift) % len(choices) for position in range(len(choices))] for shift in rotations]
    letters = list(_LETTERS[: len(choices)])
    requests = [
        Request.user(
            MULTIPLE_CHOICE.format(
                material=material,
                question=question,
                options="\n".join(f"{letter}. {choices[at]}" for letter, at in zip(letters, order, strict=True)),
            )
        )
        for order in orders
    ]
    probabilities = average(services.choose(requests, [letters] * len(requests)), orders)
    best = max(range(len(choices)), key=probabilities.__getitem__)
    return Reply(choices[best], confidence=round(probabilities[best], 4), choice=best)


def average(decisions: list[Choice], orders: list[list[int]]) -> list[float]:
    """The mean probability of each option, where `orders[i][j]` is the option that stood at place j of decision i."""
    mean = [0.0] * len(orders[0])
    for decision, order in zip(decisions, orders, strict=True):
        for place, option in enumerate(order):
            mean[option] += decision.probabilities[place] / len(orders)
    return mean
