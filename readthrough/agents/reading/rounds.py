"""Reasoning in bounded rounds: a segment of reasoning, then a summary of the progress that takes its place.

Source: Yan et al., "InftyThink: Breaking the Length Limits of Long-Context Reasoning in Large Language Models",
arXiv 2503.06692 (ZJU-REAL/InftyThink): reason up to a limit, summarise, go on from the summary; 50 rounds at most.

Differs from the paper: its models are trained to write `<summary>` themselves and to stop by leaving it out; others
are not, so the summary is asked for after each segment, and a scored choice (does it state the answer?) decides
whether the rounds are over. They are also over when a summary is the same as the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

from readthrough.agents.base import Question
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.types import Cost

MOST_ROUNDS = 50

THINK = Prompt("""{material}

Question: {question}

Reasoning so far: {progress}

Go on from there, step by step, to the answer of the question. Use only what the text above says:""")

PROGRESS = Prompt("""Question: {question}

Reasoning so far: {progress}

Next steps of the reasoning:
{segment}

Write down in a few sentences what is known now about the answer to the question, and what is still open:""")

FROM_PROGRESS = Prompt("""{material}

Reasoning so far: {progress}""")

NOTHING_YET = "(nothing yet)"

_LOOK_CALLS = 3
_FRAME_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Rounds:
    """How to reason.

    Attributes:
        segment_tokens: the most tokens of a segment of reasoning.
        progress_tokens: the most tokens of the summary that takes its place.
        finished_above: the probability that the summary states the answer, at which the rounds are over.
    """

    segment_tokens: int = 512
    progress_tokens: int = 256
    finished_above: float = 0.5

    def think(self, services: Services, material: str, question: Question, progress: str) -> tuple[str, bool]:
        """One round: the new progress, and whether the rounds are over. `progress` is empty before the first."""
        asked = question.text if question.choices is None else " / ".join([question.text, *question.choices])
        before = as_data(progress) or NOTHING_YET
        prompt = THINK.format(material=material, question=asked, progress=before)
        segment, _ = written(services.complete([Request.user(prompt, max_tokens=self.segment_tokens)])[0])
        services.put(segment)
        prompt = PROGRESS.format(question=asked, progress=before, segment=as_data(segment))
        now, _ = written(services.complete([Request.user(prompt, max_tokens=self.progress_tokens)])[0])
        if not now or now == progress:
            return progress, True
        return now, look(services, as_data(now), question).stated >= self.finished_above

    def cost(self, rounds: int, material_tokens: int) -> Cost:
        """What so many rounds over material of `material_tokens` take at most."""
        prompt = material_tokens + self.segment_tokens + (4 + _LOOK_CALLS) * (self.progress_tokens + _FRAME_TOKENS)
        return Cost(
            calls=rounds * (2 + _LOOK_CALLS),
            prompt_tokens=rounds * prompt,
            completion_tokens=rounds * (self.segment_tokens + self.progress_tokens),
        )
