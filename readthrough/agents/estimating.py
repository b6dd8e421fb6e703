"""What a run will take on this machine: the workflow's count of calls and tokens, at rates measured just now."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from readthrough.agents.prompts import replaced, replacements
from readthrough.models.base import ModelBackend, Request
from readthrough.types import Cost

if TYPE_CHECKING:
    from readthrough.agents.base import Question, Workflow
    from readthrough.agents.services import Services
    from readthrough.memory.runs import RunLog

_PROMPT_WORDS = 400
_WRITTEN_TOKENS = 24
_PAST_RUNS = 20
_WORDS = ("amber", "river", "seven", "window", "copper", "winter", "garden", "letter", "harbour", "silver", "candle")


@dataclass(frozen=True, slots=True)
class Rates:
    """How quick a model is.

    Attributes:
        prefill_tokens_per_second: of prompts.
        decode_tokens_per_second: of a reply, written alone.
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float

    def seconds(self, cost: Cost) -> float:
        """How long `cost` takes."""
        read = cost.prompt_tokens / self.prefill_tokens_per_second
        return read + cost.completion_tokens / self.decode_tokens_per_second


def calibrate(model: ModelBackend) -> Rates:
    """Measure the rates with a prompt of a few hundred words, new each time, and a reply of a few words."""
    words = random.Random(time.time_ns()).choices(_WORDS, k=_PROMPT_WORDS)
    request = Request.user(" ".join(words) + "\n\nWrite a long story with these words.", max_tokens=_WRITTEN_TOKENS)
    # The first call of a process warms the machine up, and is not what the others will be like.
    model.complete([Request.user("Say yes.", max_tokens=2)])
    started = time.perf_counter()
    first = model.complete([replace(request, max_tokens=1)])[0]
    read_seconds = time.perf_counter() - started
    started = time.perf_counter()
    second = model.complete([request])[0]
    seconds = time.perf_counter() - started
    if not second.usage.cached_tokens:
        seconds = max(seconds - read_seconds, seconds / _WRITTEN_TOKENS)
    tokens = max(1, second.usage.completion_tokens - 1)
    return Rates(first.usage.prompt_tokens / max(read_seconds, 1e-6), tokens / max(seconds, 1e-6))


def estimate(workflow: Workflow, question: Question, services: Services, rates: Rates | None = None) -> Cost:
    """The workflow's estimate with the length of replies as past runs had them, in seconds of this machine.

    Raises:
        UsageError: the workflow cannot say.
    """
    with replaced(replacements(workflow)):
        cost = workflow.estimate(question, services)
    written = _written_a_call(services.runs, workflow.name, services.model.name)
    if written is not None:
        cost = replace(cost, completion_tokens=round(written * cost.calls))
    rates = rates or calibrate(services.model)
    return replace(cost, seconds=round(rates.seconds(cost), 1))


def _written_a_call(runs: RunLog, workflow: str, model: str) -> float | None:
    """The tokens a call wrote in past runs of this workflow with this model, None where there are none."""
    past = [run.answer for run in runs.runs() if run.answer and (run.workflow, run.model) == (workflow, model)]
    calls = sum(answer["usage"]["calls"] for answer in past[:_PAST_RUNS])
    return sum(answer["usage"]["completion_tokens"] for answer in past[:_PAST_RUNS]) / calls if calls else None
