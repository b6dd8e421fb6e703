"""The last step of every workflow: from material (passages, a message, notes) to a reply with its probability.

A multiple-choice question is decided by logits over the letters, averaged over rotations of the options, because
small models favour a letter whatever stands behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from readthrough.agents.base import Question
from readthrough.agents.reading.confidence import sure_of_choice, sure_of_writing
from readthrough.agents.reading.passages import numbered, shown
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.queries import wants_explanation
from readthrough.agents.runs.services import Services
from readthrough.models.base import Choice, Request
from readthrough.types import Answer, Chunk, Coverage, Evidence

PASSAGES = Prompt(
    """Read these passages.

{passages}"""
)

MULTIPLE_CHOICE = Prompt(
    """{material}

Question: {question}
{options}
Answer with the letter of the right choice."""
)

SHORT_ANSWER = Prompt(
    """{material}

Question: {question}
Answer the question from the text above, in as few words as possible."""
)

EXPLANATION = Prompt(
    """{material}

Question: {question}
Answer the question from the text above."""
)

NOT_STATED = "The text does not say."
NOT_REACHED = "The budget ended before an answer was found."

ANSWER_TOKENS = 768
"""The most tokens of an answer, where nothing else is said."""

# What was seen of replies (what is held back for one is more, see `runs.budget.held`).
_SHORT_REPLY_TOKENS = 16
_LONG_REPLY_TOKENS = 64

_ROTATIONS = 2
# Measured (docs/log.md): 0 and 1 are both a little worse than what lies between.
_PRIOR_WEIGHT = 0.75
_LEAST = 1e-4
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model made of some material.

    `stopped` is the limit that cut the text, None where it ended by itself.
    """

    text: str
    confidence: float | None = None
    abstained: bool = False
    stopped: str | None = None

    def keep(self, services: Services) -> str:
        """Put the reply into the run log; returns the hash that goes into a graph's state."""
        return services.put_json(asdict(self))

    @classmethod
    def kept(cls, services: Services, digest: str) -> Reply:
        """The reply that `keep` returned `digest` for."""
        return cls(**services.get_json(digest))

    @classmethod
    def refused(cls, stated: float | None = None) -> Reply:
        """That the text does not say; `stated` is how probable it is that it does after all."""
        return cls(NOT_STATED, None if stated is None else round(1 - stated, 4), abstained=True)

    @classmethod
    def unreached(cls) -> Reply:
        """That a budget ended the run before anything could be said."""
        return cls(NOT_REACHED, abstained=True)

    @property
    def reached(self) -> bool:
        """Whether a budget left anything to be said."""
        return self != Reply.unreached()

    def said(self, question: Question) -> str:
        """What the text must hold where the reply is right: the reply, with its question where it is a choice."""
        return self.text if question.choices is None else f"{question.text} {self.text}"

    def to_answer(self, question: Question, evidence: tuple[Evidence, ...], coverage: Coverage) -> Answer:
        """The reply as an Answer, without what `Workflow.run` fills in."""
        return Answer(
            question=question.text,
            choices=question.choices,
            answer=self.text,
            abstained=self.abstained,
            confidence=self.confidence,
            stopped=self.stopped,
            evidence=evidence,
            coverage=coverage,
        )


def passages_material(services: Services, chunks: Sequence[Chunk]) -> str:
    """Passages of the shelf, numbered, as the material of an answer."""
    return PASSAGES.format(passages=numbered(shown(chunks, services.shelf)))


def reply_tokens(question: Question) -> int:
    """How many tokens a reply to the question is likely to have."""
    return _LONG_REPLY_TOKENS if wants_explanation(question.text) else _SHORT_REPLY_TOKENS


def answer_from(
    services: Services,
    material: str,
    question: Question,
    stated: float | None = None,
    max_tokens: int = ANSWER_TOKENS,
    prompt: Prompt | None = None,
) -> Reply:
    """Answer a question from `material` alone; `stated` is how probable it is that the material says it.

    Without `prompt` the question decides whether a short answer or an explanation is asked for.
    """
    if question.choices is not None:
        return choose_option(services, material, question.text, question.choices)
    prompt = prompt or (EXPLANATION if wants_explanation(question.text) else SHORT_ANSWER)
    request = Request.user(prompt.format(material=material, question=question.text), max_tokens=max_tokens)
    completion = services.write(request)
    stopped = f"answer_tokens={max_tokens}" if completion.finish == "length" else None
    bare = Request.user(prompt.format(material="", question=question.text).strip())
    confidence = None if stated is None else sure_of_writing(services, stated, completion, bare)
    return Reply(completion.text.strip(), confidence, stopped=stopped)


def choose_option(services: Services, material: str, question: str, choices: tuple[str, ...]) -> Reply:
    """The option that the material raises most, by logits over the letters, averaged over rotations of the options.

    What the model would choose without the material is taken off, most of it (Holtzman et al., "Surface Form
    Competition", arXiv 2104.08315): small models prefer an option that sounds likely to one that they have read.
    """
    reply = choose_options(services, [(material, Question(question, choices))])[0]
    letter = _LETTERS[choices.index(reply.text)]
    services.note_said(_multiple_choice(material, question, choices), f"{letter}. {reply.text}")
    return replace(reply, confidence=sure_of_choice(services, reply.confidence or 0.0))


def choose_options(services: Services, pairs: Sequence[tuple[str, Question]]) -> list[Reply]:
    """`choose_option` for each question with choices, from the material beside it; their calls go out together."""
    replies = []
    for (_, question), shares in zip(pairs, weigh_options(services, pairs), strict=True):
        best = max(range(len(shares)), key=shares.__getitem__)
        replies.append(Reply((question.choices or ())[best], confidence=round(shares[best], 4)))
    return replies


def weigh_options(services: Services, pairs: Sequence[tuple[str, Question]]) -> list[list[float]]:
    """The probability of each choice of each question, from the material beside it (see `choose_option`)."""
    logits = "logits" in services.model.capabilities
    asked: list[list[list[int]]] = []
    requests, options = list[Request](), list[list[str]]()
    for material, question in pairs:
        choices = question.choices or ()
        orders = [[(place + shift) % len(choices) for place in range(len(choices))] for shift in range(_ROTATIONS)]
        orders = orders if logits else orders[:1]
        letters = list(_LETTERS[: len(choices)])
        for given in [material, ""] if logits else [material]:
            for order in orders:
                requests.append(_multiple_choice(given, question.text, [choices[at] for at in order]))
                options.append(letters)
        asked.append(orders)
    decided = iter(services.choose(requests, options))
    found = []
    for orders in asked:
        scores = log_average([next(decided) for _ in orders], orders)
        if logits:
            before = log_average([next(decided) for _ in orders], orders)
            scores = [score - _PRIOR_WEIGHT * prior for score, prior in zip(scores, before, strict=True)]
        weights = [math.exp(score - max(scores)) for score in scores]
        found.append([weight / sum(weights) for weight in weights])
    return found


def _multiple_choice(material: str, question: str, choices: Sequence[str]) -> Request:
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))
    return Request.user(MULTIPLE_CHOICE.format(material=material, question=question, options=listed).strip())


def log_average(decisions: list[Choice], orders: list[list[int]]) -> list[float]:
    """The mean log-probability of each option, where `orders[i][j]` is what stood at place j of decision i."""
    mean = [0.0] * len(orders[0])
    for decision, order in zip(decisions, orders, strict=True):
        for place, option in enumerate(order):
            mean[option] += math.log(max(decision.probabilities[place], _LEAST)) / len(orders)
    return mean
