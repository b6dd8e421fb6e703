"""What kind of question it is, and the simpler questions that it is made of.

The kind is decided by likelihood: which order to write a question raises this one most. A model of half a billion
parameters that is asked for the kind's letter says the same for every question; by likelihood it knows 9 of 14, as one
of one and a half does (docs/log.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from readthrough.agents.base import Question
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.following import telling
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.queries import names_several
from readthrough.agents.reading.summarizing import written_lines
from readthrough.agents.runs.services import Services
from readthrough.models.base import Completion, Request
from readthrough.retrieval.indexes.hybrid import take_turns

MULTIPLE_CHOICE = "multiple-choice"

SUB_QUESTION_TOKENS = 40
"""The most tokens of one."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "fact": "Write a short question about a text that asks for one fact: who, when, where or what.",
        "list": "Write a question about a text that asks how many there are, or for a list of all of them.",
        "comparison": "Write a question about a text that asks how two things differ, or which of them is more.",
        "summary": "Write a question that asks what a whole text is about: its themes, its plot or what was said.",
        "multi-hop": "Write a question about someone or something that is not named, but described by its relation to "
        'something else: "the country where the author of ... was born".',
        "code": "Write a question about the source code of a program: its functions, arguments or files.",
    }
)
"""The kinds by name, each with the order that a question of its kind would be written to."""

WHICH_KIND = """Question: {question}

Here are orders to write a question. Which of them was this question written to?
{kinds}
Answer with the number."""

SUB_QUESTIONS = Prompt(
    """Question: {question}

Write down the simpler questions, at most {most}, that must be answered one after another to answer the question \
above. Each must be understood without the others. Write one question a line, and nothing else."""
)

# Nats a token are small differences between long questions: this makes shares of them that can be told apart.
_SHARPNESS = 4.0
_QUESTION_END = re.compile(r"[?？؟]\s*")
_LEAST_SHARE = 1e-3
_WORDS_SAY_SO = 1.0
_KIND_WEIGHT = 1.5


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a question: its name, how probable it is beside the others, and the share of each.

    The probability orders questions; it was not calibrated.
    """

    name: str
    probability: float
    shares: Mapping[str, float]


def kind_of(services: Services, question: Question) -> Kind:
    """What kind of question it is; one with choices is `multiple-choice`, and no model is asked.

    With logits by likelihood, in one batch of short prompts; without by one choice, the share being that of its votes.
    """
    if question.choices is not None:
        return Kind(MULTIPLE_CHOICE, 1.0, {MULTIPLE_CHOICE: 1.0})
    if "logits" in services.model.capabilities:
        requests = [Request.user(order) for order in KINDS.values()]
        found = [score.mean for score in services.likelihood(requests, [question.text] * len(requests))]
        weights = [math.exp(_SHARPNESS * (mean - max(found))) for mean in found]
        shares = [weight / sum(weights) for weight in weights]
    else:
        kinds = "\n".join(f"{number}. {order}" for number, order in enumerate(KINDS.values(), 1))
        request = Request.user(WHICH_KIND.format(question=question.text, kinds=kinds))
        options = [str(number) for number in range(1, len(KINDS) + 1)]
        shares = list(services.choose([request], [options])[0].probabilities)
    named = dict(zip(KINDS, shares, strict=True))
    services.decide("what kind of question is it?", **named)
    best = max(named, key=named.__getitem__)
    return Kind(best, named[best], named)


def wants_all(services: Services, question: Question) -> float:
    """How probable it is that the answer has to be gathered from a whole text: a list, a count, an order of events.

    By the question's words, and where these say so by its kind; of other questions, and of those with choices, no model
    is asked. The weights are a coarse reading of a hundred questions (docs/log.md).
    """
    if question.choices is not None or not names_several(question.text):
        return 0.0
    shares = {name: max(share, _LEAST_SHARE) for name, share in kind_of(services, question).shares.items()}
    several, one = max(shares["list"], shares["summary"]), max(shares["fact"], shares["multi-hop"])
    return 1 / (1 + math.exp(-(_WORDS_SAY_SO + _KIND_WEIGHT * math.log(several / one))))


def sub_questions(services: Services, question: Question, most: int = 4) -> list[str]:
    """The simpler questions that the model takes a question apart into, at most `most`; the question where none come.

    Raises:
        ValueError: `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    prompt = SUB_QUESTIONS.format(question=question.text, most=most)
    reply = services.complete([Request.user(prompt, max_tokens=most * SUB_QUESTION_TOKENS)])[0]
    return written_lines(reply)[:most] or [question.text]


def new_questions(reply: Completion, before: Sequence[str], most: int) -> list[str]:
    """The first `most` questions of a reply that ask for something else than those before; what is none is left out.

    A small model that is asked for other questions writes the same again in other words, or behind each other.
    """
    asked = {telling(question) for question in before}
    new: list[str] = []
    for line in written_lines(replace(reply, text=_QUESTION_END.sub("?\n", reply.text))):
        if line.endswith("?") and telling(line) not in asked:
            asked.add(telling(line))
            new.append(line)
    return new[:most]


def find_for_parts(services: Services, question: Question, index: str, most: int, parts: int = 4) -> list[int]:
    """The ids of the `most` chunks that fit a question and the simpler ones, at most `parts`, that it is made of.

    They take turns, the question itself first.
    """
    asked = [question.text, *sub_questions(services, question, parts)]
    ranked = [find_chunks(services.shelf, Question(text), index, most) for text in dict.fromkeys(asked)]
    return take_turns(ranked, most)
