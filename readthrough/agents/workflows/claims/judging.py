"""Verdicts on claims by scored choices: is it told at all, and if so, does a text support it or contradict it?

A small model that may choose between true, false and "the text does not say" knows none of them apart (9 of 24 claims
right); two signs it does know: how much a text raises the claim, log p(claim | text) less log p(claim) a token, which
says whether the text is about it, and whether it would rather say that the text supports or contradicts it. The
weights come from 24 claims over three made texts (docs/log.md): they order claims better than they are calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.agents.reading.confidence import log_odds
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.models.weights import ALIASES
from readthrough.retrieval.rerankers.likelihood import raised_pairs

SUPPORTS = Prompt(
    """Text: {text}

Claim: {claim}

Does the text support the claim or contradict it? Answer Support or Contradict."""
)

WHICH_OF_THREE = Prompt(
    """Text: {text}

Claim: {claim}

Does the text support the claim, does it contradict the claim, or does it do neither? Answer Support, Contradict or \
Neither."""
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a model's signs part claims, and how sharply.

    Attributes:
        even: the log-odds of Support at which a claim is as probably true as false.
        sharpness: of the log-odds around it.
        told: how much a text raises a claim that it is as probably silent about as not, in nats a token.
    """

    even: float = 0.45
    sharpness: float = 1.0
    told: float = 2.0


_SCALES = {"qwen2.5-coder-0.5b-instruct": Scale(sharpness=3.0)}
_TOLD_SHARPNESS = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How probable it is that a claim is true, that it is false, and that the text does not tell."""

    true: float
    false: float
    untold: float


@dataclass(frozen=True, slots=True)
class Sign:
    """What a text says of a claim: log-odds of its truth, and the probability that it tells."""

    true: float
    told: float


def signs(services: Services, claim: str, texts: Sequence[str]) -> list[Sign]:
    """What each of some texts says of a claim. Two batches; one choice a text for a model without logits."""
    if "logits" not in services.model.capabilities:
        asked = [Request.user(WHICH_OF_THREE.format(text=text, claim=claim)) for text in texts]
        decided = services.choose(asked, [["Support", "Contradict", "Neither"]] * len(texts))
        shares = [choice.probabilities for choice in decided]
        return [Sign(log_odds(yes + neither / 2), 1 - neither) for yes, _, neither in shares]
    scale = _SCALES.get(ALIASES.get(services.model.name, services.model.name), Scale())
    asked = [Request.user(SUPPORTS.format(text=text, claim=claim)) for text in texts]
    decided = services.choose(asked, [["Support", "Contradict"]] * len(texts))
    gains = raised_pairs(services, [(text, claim) for text in texts])
    return [
        Sign(
            true=scale.sharpness * (log_odds(choice.probabilities[0]) - scale.even),
            told=_logistic(_TOLD_SHARPNESS * (gain - scale.told)),
        )
        for choice, gain in zip(decided, gains, strict=True)
    ]


def verdict(services: Services, found: Sequence[Sign]) -> Verdict:
    """What several texts say of a claim together: the mean of how true it is, told where one of them tells."""
    true = _logistic(sum(sign.true for sign in found) / len(found))
    told = max(sign.told for sign in found)
    services.decide("is the claim true?", true=true, told=told)
    return Verdict(told * true, told * (1 - true), 1 - told)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
