"""Questions in a conversation: what one is about, and how it is put so that it can be understood alone.

Whether a question follows on from what was said is decided from two signs: words that point back, and how much more
likely the question is as a follow-up than as a question that stands alone, by log-likelihood a token; the same for
questions about the conversation. The weights are logistic regressions over made-up questions with the small model,
which says the same of all when it is asked (docs/log.md). Only English words that point back are known; in other
languages the second sign decides alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.pointers import words
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Message, Request

TEXT, FOLLOW_UP, CONVERSATION = "text", "follow-up", "conversation"

ORDERS = (
    "Write a question about a book that anybody can understand.",
    "Write a short follow-up question that refers to the answer before it with a word such as he, she, it, they or "
    "that.",
    "Write a question about this conversation: what was asked or answered earlier.",
)
"""The orders that a question about the text, a follow-up, and one about the conversation would be written to."""

WHICH_KIND = """A reader asks questions about a text, one after another. This is the next one: {question}

1. It can be understood by itself.
2. It can only be understood with the questions and answers before it.
3. It asks what was said or asked before in this conversation.
Which is true? Answer with the number."""

STAND_ALONE = (
    "Write the follow-up question so that it can be understood alone: with names in place of words such as he, it or "
    "that. Write only the question."
)

_EXAMPLES = (
    (
        "Who built the stone bridge at Conway?",
        "Thomas Telford.",
        "And when did he die?",
        "When did Thomas Telford die?",
    ),
    ("What does the court do on Mondays?", "It hears appeals.", "Why?", "Why does the court hear appeals on Mondays?"),
    ("Who is the oldest sister?", "Mary.", "What is her husband's name?", "What is the name of Mary's husband?"),
    ("How much is the rent?", "900 pounds a month.", "What about the deposit?", "How much is the deposit?"),
)

QUESTION_TOKENS = 96
"""The most tokens of a question that is put anew."""

_BACK = re.compile(
    r"\b(?:he|him|his|she|hers?|it|its|they|them|theirs?|this|that|these|those|then|else|one|others?"
    r"|(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )there)\b",
    re.IGNORECASE,
)
_GOING_ON = re.compile(r"^\W*(?:and|or|but|so|what about|how about)\b", re.IGNORECASE)
_NAME = re.compile(r"\s[A-Z]|_")
_SHORT_WORDS = 3
_CERTAIN = 2
# What was said, not what is to be said: `can you tell me who ...` asks about the text.
_SAID = re.compile(
    r"\b(?:did|have|had) (?:you|we|I)\b.*\b(?:say|said|tell|told|ask(?:ed)?|answer(?:ed)?|mention(?:ed)?|discuss(?:ed)?"
    r"|talk(?:ed)?)\b|\b(?:you|we|I) (?:\w+ )?(?:said|told|asked|answered|mentioned|discussed|talked)\b"
    r"|\b(?:your|my|our)\b.*\b(?:answers?|questions?)\b|\brepeat\b|\b(?:this|our) conversation\b",
    re.IGNORECASE,
)
_FOLLOWS = MappingProxyType({"words": 3.97, "likelihood": 2.5, "bias": -4.54})
_ASKS_BACK = MappingProxyType({"words": 4.95, "likelihood": 1.19, "bias": -2.74})
# Words that a question put anew may lose or gain without another meaning.
_FUNCTION_WORDS = (
    "a an the and or but so of in on at to by for from with as about into is are was were be been do does did has have "
    "had will would can could should may might must who whom whose what which when where why how not no s he him his "
    "she her hers it its they them their this that these those there then else one other name many much"
)
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_STEM = 3
_SHOWN_CHARS = 300
_BRACKET = " (asked after: "
_BRACKETED = 3


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question of the conversation as it was typed and as it was answered, and the answer."""

    asked: str
    question: str
    answer: str

    @property
    def in_brackets(self) -> bool:
        """Whether the question was answered with what was said before in brackets behind it."""
        return self.question.startswith(self.asked + _BRACKET)

    @property
    def shown(self) -> tuple[str, str]:
        """Question and answer as prompts show them: on one line each, of a long answer its first sentences."""
        spans = [span for span in sentence_spans(self.answer) if span[1] <= _SHOWN_CHARS]
        end = spans[-1][1] if spans else _SHOWN_CHARS
        question = self.asked if self.in_brackets else self.question
        return _line(question), _line(self.answer[:end])


def about(services: Services, question: str) -> Mapping[str, float]:
    """How probable it is that a question is about the text, a follow-up to what was said, or about the conversation.

    With logits by likelihood, in one batch of short prompts, and by the words in it; without by one choice.
    """
    if "logits" not in services.model.capabilities:
        request = Request.user(WHICH_KIND.format(question=question))
        shares = services.choose([request], [["1", "2", "3"]])[0].probabilities
        return dict(zip((TEXT, FOLLOW_UP, CONVERSATION), shares, strict=True))
    requests = [Request.user(order) for order in ORDERS]
    alone, following, back = (found.mean for found in services.likelihood(requests, [question] * len(requests)))
    asks_back = _share(_ASKS_BACK, bool(_SAID.search(question)), back - max(alone, following))
    signs = _points_back(question)
    follows = _share(_FOLLOWS, signs, following - alone if signs < _CERTAIN else 0.0)
    shares_of = {
        TEXT: (1 - asks_back) * (1 - follows),
        FOLLOW_UP: (1 - asks_back) * follows,
        CONVERSATION: asks_back,
    }
    services.decide("what is the question about?", **shares_of)
    return {name: round(share, 4) for name, share in shares_of.items()}


def is_follow_up(shares: Mapping[str, float]) -> bool:
    """Whether a question is most probably a follow-up; `shares` may be empty."""
    return _likeliest(shares) == FOLLOW_UP


def is_about_conversation(shares: Mapping[str, float]) -> bool:
    """Whether a question is most probably about the conversation; `shares` may be empty."""
    return _likeliest(shares) == CONVERSATION


def stand_alone(services: Services, question: str, before: Sequence[Exchange]) -> str:
    """A follow-up question so that it can be understood without what was said `before`, the last exchange at the end.

    The model writes it. What it wrote is taken where it holds all that the question asks for, and adds nothing but
    words of the conversation; else the question is handed on with the last exchanges in brackets, back to one that
    stands alone: what it refers to is then in it in any case.
    """
    shown = [exchange.shown for exchange in before]
    messages = [turn for example in _EXAMPLES for turn in _example(*example)]
    messages.append(Message("user", _follow_up(shown, question)))
    messages[0] = Message("user", f"{STAND_ALONE}\n\n{messages[0].content}")
    reply = services.complete([Request(tuple(messages), max_tokens=QUESTION_TOKENS, stop=("\n",))])[0]
    written = reply.text.strip()
    if reply.finish == "stop" and is_same(question, written, shown):
        return written
    first = max((place for place, each in enumerate(before) if not each.in_brackets), default=0)
    said = " ".join(part for exchange in shown[max(first, len(shown) - _BRACKETED) :] for part in exchange if part)
    return f"{question}{_BRACKET}{said})"


def is_same(question: str, written: str, before: Sequence[tuple[str, str]]) -> bool:
    """Whether `written` can be the question put so that it stands alone: nothing lost, something of the conversation
    gained, nothing made up, and no word left that points back."""
    asked, found = telling(question), telling(written)
    known = {word[:_STEM] for word in asked.union(*(telling(" ".join(exchange)) for exchange in before))}
    added = found - asked
    made_up = any(word[:_STEM] not in known for word in added)  # `hide` is known where `hid` was said
    points_back = bool(_BACK.search(written) or _GOING_ON.search(written))
    return asked <= found and bool(added) and not made_up and not points_back


def _likeliest(shares: Mapping[str, float]) -> str:
    return max(shares, key=shares.__getitem__, default=TEXT)


def telling(text: str) -> frozenset[str]:
    """The words of a text that say what it is about."""
    return frozenset(words(text)) - _FUNCTION


def _points_back(question: str) -> int:
    """How many signs of a follow-up its words have: one of function words alone, `And when?`, has two."""
    short = len(question.split()) <= _SHORT_WORDS and not _NAME.search(question)
    back = short or bool(_BACK.search(question) or _GOING_ON.search(question))
    return back + (back and not telling(question))


def _share(weights: Mapping[str, float], by_words: int, by_likelihood: float) -> float:
    odds = weights["bias"] + weights["words"] * by_words + weights["likelihood"] * by_likelihood
    return 1 / (1 + math.exp(-odds))


def _example(question: str, answer: str, following: str, written: str) -> tuple[Message, Message]:
    return Message("user", _follow_up([(question, answer)], following)), Message("assistant", written)


def _line(text: str) -> str:
    return as_data(" ".join(text.split()))


def _follow_up(before: Sequence[tuple[str, str]], question: str) -> str:
    said = "\n".join(f"Question: {asked}\nAnswer: {answer}" for asked, answer in before)
    return f"{said}\nFollow-up question: {question}"
