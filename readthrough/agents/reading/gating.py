"""The skip-gate: does a passage matter for the question, or may it be passed over unread?

A passage matters by how much it raises the question (`readthrough.agents.reading.finding.raised`). Passages are
weighed one by one, not a section of many at once: that parts what is needed from what is not much better, and what
the model has computed of a passage serves every question (docs/log.md has the measurement). Models without logits
are asked yes or no, about a whole section. `calibrate` finds a threshold by questions that the model writes itself;
these are easier than what people ask, so the thresholds that are set here come from asked questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.agents.reading.finding import QUESTION_ABOUT, QUESTION_ALONE, raised
from readthrough.agents.reading.passages import as_data, section_text, unwrap
from readthrough.agents.runs.services import Services
from readthrough.errors import UsageError
from readthrough.models.base import Request
from readthrough.models.weights import ALIASES
from readthrough.types import Chunk, Cost

MATTERS = """{text}

Question: {question}
Does the text above say anything that helps to answer this question? Answer Yes or No."""

WRITE_QUESTION = """{text}

Write one short question that can be answered from this text alone. Write the question only."""

PASS_RATIO = 0.4
"""What share of a text passed the gate in the measurements, in tokens: for estimates."""

# Keeps 0.91 of the supporting passages of multi-hop questions and skips 0.62 of the others (docs/log.md); models that
# were not measured get the same.
_THRESHOLDS = {"qwen2.5-coder-0.5b-instruct": -0.2}
_OTHER_THRESHOLD = -0.2
_QUESTION_TOKENS = 48
_FRAME_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found.

    Attributes:
        below: the threshold under which passages are skipped.
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


def threshold(model: str) -> float:
    """The threshold of a model, by its name or alias."""
    return _THRESHOLDS.get(ALIASES.get(model, model), _OTHER_THRESHOLD)


def passing(services: Services, question: str, chunks: Sequence[Chunk], below: float) -> list[Chunk]:
    """The chunks of a section that matter for the question, in one batch. The signs are noted in the run log."""
    if "logits" not in services.model.capabilities:
        request = Request.user(MATTERS.format(text=section_text(chunks), question=question))
        return list(chunks) if services.choose([request], [["Yes", "No"]])[0].best == 0 else []
    scores = raised(services, question, [_shown(chunk) for chunk in chunks])
    for chunk, score in zip(chunks, scores, strict=True):
        services.decide("does the passage matter?", chunk=chunk.id, raised=score, below=below)
    return [chunk for chunk, score in zip(chunks, scores, strict=True) if score >= below]


def gate_cost(services: Services, question: str, sections: Sequence[Sequence[int]]) -> Cost:
    """What `passing` takes over all sections of the shelf's texts."""
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
    for number, weights in zip(asked, _weigh_all(services, texts, list(asked.values())), strict=True):
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
