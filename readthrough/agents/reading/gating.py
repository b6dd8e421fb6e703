"""The skip-gate: does a passage matter for the question, or may it be passed over unread?

A passage matters by how much it raises the question (`readthrough.agents.reading.finding.raised`). How much passages
raise it at all differs by question and by the style of a text much more than by what matters, so the threshold is in
standard deviations above the mean of some passages drawn from all over the text. Passages are weighed one by one, not
a section of many at once: that parts what is needed from what is not much better, and what the model has computed of
a passage serves every question (docs/log.md has the measurements). Models without logits are asked yes or no, about a
whole section. `calibrate` finds a threshold by questions that the model writes itself; these are easier than what
people ask, so `GATE_BELOW` comes from asked questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from readthrough.agents.reading.finding import weigh
from readthrough.agents.reading.passages import as_data, section_text, unwrap
from readthrough.agents.runs.services import Services
from readthrough.errors import UsageError
from readthrough.memory.runs import text_hash
from readthrough.models.base import Request
from readthrough.retrieval.rerankers.likelihood import QUESTION_ABOUT, QUESTION_ALONE, raised
from readthrough.types import Chunk, Cost

MATTERS = """{text}

Question: {question}
Does the text above say anything that helps to answer this question? Answer Yes or No."""

WRITE_QUESTION = """{text}

Write one short question that can be answered from this text alone. Write the question only."""

GATE_BELOW = 0.25
"""Keeps 0.90 of the supporting passages of asked questions, and skips 0.63 of the others (docs/log.md)."""

PASS_RATIO = 0.4
"""What share of a text passes the gate then, in tokens: for estimates."""

# So many passages say how much a text raises a question; of a text with fewer nothing is skipped.
_DRAWN = 48
_FEWEST = 12
_QUESTION_TOKENS = 48
_FRAME_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found.

    Attributes:
        below: the threshold under which passages are skipped, in standard deviations above the mean.
        auroc: the probability that a question's own passage is raised more than another (0.5: the gate is blind).
        kept_ratio: the share of the questions' own passages that the threshold keeps.
        skipped_ratio: the share of the other passages that it skips.
        questions: how many questions were written.
    """

    below: float
    auroc: float
    kept_ratio: float
    skipped_ratio: float
    questions: int


@dataclass(frozen=True, slots=True)
class Scale:
    """How much the passages of a text raise a question: mean and standard deviation, and the weights known already.

    `deviation` is 0 where the text has too few passages to say, and for a model without logits.
    """

    mean: float = 0.0
    deviation: float = 0.0
    weights: Mapping[int, float] = field(default_factory=dict)

    def standard(self, raised: float) -> float:
        """A weight in standard deviations above the mean; infinite where the scale knows none."""
        return (raised - self.mean) / self.deviation if self.deviation else math.inf

    def keep(self, services: Services) -> str:
        """The hash of the scale, as it travels in a graph's state."""
        return services.put_json([self.mean, self.deviation, list(self.weights.items())])

    @classmethod
    def kept(cls, services: Services, digest: str) -> Scale:
        """The scale whose `keep` gave `digest`."""
        mean, deviation, weights = services.get_json(digest)
        return cls(mean, deviation, dict(weights))


def scale(services: Services, question: str) -> Scale:
    """Weigh passages from all over the shelf's texts, so that a gate knows what is much and what is little."""
    ids = services.shelf.chunk_ids()
    if len(ids) < _FEWEST or "logits" not in services.model.capabilities:
        return Scale()
    weights = weigh(services, question, _drawn(services.shelf.get(ids)))
    mean, deviation = fmean(weights.values()), pstdev(weights.values())
    services.decide("how much do passages raise the question?", mean=mean, deviation=deviation)
    return Scale(mean, deviation, weights)


def _drawn(chunks: Sequence[Chunk]) -> list[int]:
    """Some passages from all over the texts, drawn by their content: an edit elsewhere leaves them as they are."""
    by_content = sorted(chunks, key=lambda chunk: (text_hash(chunk.text), chunk.id))
    return sorted(chunk.id for chunk in by_content[:_DRAWN])


def scale_cost(services: Services, question: str) -> Cost:
    """What `scale` takes."""
    tokens = services.shelf.count_tokens(services.model)
    if len(tokens) < _FEWEST or "logits" not in services.model.capabilities:
        return Cost()
    count = min(_DRAWN, len(tokens))
    asked = services.model.count_tokens([question])[0] + _FRAME_TOKENS
    return Cost(count + 1, count * sum(tokens.values()) // len(tokens) + (count + 1) * asked)


def passing(services: Services, question: str, chunks: Sequence[Chunk], by: Scale, below: float) -> list[Chunk]:
    """The chunks of a section that matter for the question, in one batch. The signs are noted in the run log."""
    if "logits" not in services.model.capabilities:
        request = Request.user(MATTERS.format(text=section_text(chunks), question=question))
        return list(chunks) if services.choose([request], [["Yes", "No"]])[0].best == 0 else []
    if not by.deviation:
        return list(chunks)
    new = [chunk for chunk in chunks if chunk.id not in by.weights]
    scores = raised(services, question, [_shown(chunk) for chunk in new]) if new else []
    weights = {**by.weights, **dict(zip((chunk.id for chunk in new), scores, strict=True))}
    signs = {chunk.id: by.standard(weights[chunk.id]) for chunk in chunks}
    for chunk in chunks:
        noted = {"raised": weights[chunk.id], "deviations": signs[chunk.id], "below": below}
        services.decide("does the passage matter?", chunk=chunk.id, **noted)
    return [chunk for chunk in chunks if signs[chunk.id] >= below]


def gate_cost(services: Services, question: str, sections: Sequence[Sequence[int]]) -> Cost:
    """What `scale`, and `passing` over all sections of the shelf's texts, take."""
    asked = services.model.count_tokens([question])[0] + _FRAME_TOKENS
    passages = sum(map(len, sections)) if "logits" in services.model.capabilities else 0
    calls = len(sections) + passages
    return Cost(calls, sum(services.shelf.count_tokens(services.model).values()) + calls * asked)


def calibrate(services: Services, questions: int = 32, keep_ratio: float = 0.95, seed: int = 0) -> Calibration:
    """The threshold that keeps `keep_ratio` of the passages which questions were written about. Needs logits.

    The model writes a question about each of some passages drawn from the shelf's texts, and each question is
    weighed against all of them. What people ask raises its passages less: take the result for an upper bound.

    Raises:
        UsageError: there are fewer than two passages, or the model writes no questions.
    """
    ids = services.shelf.chunk_ids()
    passages = services.chunks(random.Random(seed).sample(ids, min(questions, len(ids))))
    texts = [_shown(passage) for passage in passages]
    requests = [Request.user(WRITE_QUESTION.format(text=text), max_tokens=_QUESTION_TOKENS) for text in texts]
    written = [reply.text.strip() for reply in services.complete(requests)]
    asked = {number: question for number, question in enumerate(written) if question}
    if len(texts) < 2 or not asked:
        raise UsageError("no gate can be calibrated on this text", hint="give a longer one, or set gate_below")
    own, others = [], []
    for number, column in zip(asked, _weigh_all(services, texts, list(asked.values())), strict=True):
        by = Scale(fmean(column), pstdev(column) or 1.0)
        weights = [by.standard(weight) for weight in column]
        own.append(weights[number])
        others += [weight for at, weight in enumerate(weights) if at != number]
    at_least = sorted(own)[len(own) - math.ceil(round(keep_ratio * len(own), 6))]
    below = math.floor(at_least * 1000) / 1000
    return Calibration(
        below=below,
        auroc=round(auroc(own, others), 3),
        kept_ratio=round(sum(weight >= below for weight in own) / len(own), 3),
        skipped_ratio=round(sum(weight < below for weight in others) / len(others), 3),
        questions=len(own),
    )


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that one of `positive` is larger than one of `negative`, ties counting half."""
    larger = sum((high > low) + (high == low) / 2 for high in positive for low in negative)
    return larger / (len(positive) * len(negative))


def _weigh_all(services: Services, texts: Sequence[str], questions: Sequence[str]) -> list[list[float]]:
    """How much each text raises each question, `[question][text]`; text by text, so that each is computed once."""
    alone = services.likelihood([Request.user(QUESTION_ALONE)] * len(questions), questions)
    rows = []
    for text in texts:
        given = services.likelihood([Request.user(QUESTION_ABOUT.format(text=text))] * len(questions), questions)
        rows.append([score.mean - base.mean for score, base in zip(given, alone, strict=True)])
    return [list(column) for column in zip(*rows, strict=True)]


def _shown(chunk: Chunk) -> str:
    return as_data(unwrap(chunk.text))
