"""What a run will take on this machine: the workflow's count of calls and tokens, set right by past runs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from readthrough.agents.reading.prompts import replaced, replacements
from readthrough.models.base import ModelBackend, Request
from readthrough.types import Cost

if TYPE_CHECKING:
    from readthrough.agents.base import Question, Workflow
    from readthrough.agents.runs.services import Services
    from readthrough.memory.runs import RunLog

_PROMPT_WORDS = 400
_WRITTEN_TOKENS = 24
# So many runs say better than a calibration how long the next takes.
_ENOUGH_RUNS = 3
_PAST_RUNS = 40
# `retrieve` expects 3 tokens a call where a short answer is asked for, 13 for an explanation, 50 and more for a plot.
_ALIKE_RATIO = 2.0
_LOOKED_AT = 500
_TAKEN = ("calls", "prompt_tokens", "completion_tokens", "seconds", "cached_tokens")
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
        read = cost.read_tokens / self.prefill_tokens_per_second
        return read + cost.written_tokens / self.decode_tokens_per_second


# Only ratios are taken of what these say.
_NOMINAL = Rates(prefill_tokens_per_second=1000.0, decode_tokens_per_second=30.0)


def calibrate(model: ModelBackend) -> Rates:
    """Measure the rates with a prompt of a few hundred words, new each time, and a reply to a short one.

    The reply is about other words than the long prompt's: one that repeats its prompt has drafts to try at every
    token, and is not what most replies are like.
    """
    words = random.Random(time.time_ns()).choices(_WORDS, k=_PROMPT_WORDS)
    # The first call of a process warms the machine up, and is not what the others will be like.
    model.complete([Request.user("Say yes.", max_tokens=2)])
    started = time.perf_counter()
    long = model.complete([Request.user(" ".join(words), max_tokens=1)])[0]
    read_seconds = max(time.perf_counter() - started, 1e-6)
    read_rate = long.usage.prompt_tokens / read_seconds
    ask = f"Write a long story about a {words[0]} {words[1]} in {time.time_ns() % 9000 + 1000}."
    started = time.perf_counter()
    reply = model.complete([Request.user(ask, max_tokens=_WRITTEN_TOKENS)])[0]
    seconds = time.perf_counter() - started
    written_seconds = max(seconds - reply.usage.prompt_tokens / read_rate, seconds / 2, 1e-6)
    return Rates(read_rate, max(1, reply.usage.completion_tokens) / written_seconds)


def expected(workflow: Workflow, question: Question, services: Services) -> Cost:
    """The workflow's own count of calls and tokens; its seconds are those of a nominal machine.

    Raises:
        UsageError: the workflow cannot say.
    """
    with replaced(replacements(workflow)):
        cost = workflow.estimate(question, services)
    return replace(cost, seconds=_NOMINAL.seconds(cost))


def estimate(workflow: Workflow, question: Question, services: Services, rates: Rates | None = None) -> Cost:
    """The workflow's count, and its seconds on this machine; both set right by past runs.

    The count is as many times larger as past runs of the workflow, of which calls of the same kind were expected (a
    plot takes other steps than a name), took more than that: from `_ENOUGH_RUNS` runs on in full, so are the seconds
    then; the fewer, the less is made of them, and the seconds are those of the count at the rates of all past runs with
    the model, or, where these are few, at measured ones. Without such a run the model is taken to be as brief as it was
    in the others.

    Raises:
        UsageError: the workflow cannot say.
    """
    cost = expected(workflow, question, services)
    past = _past(services.runs, services.model.name)
    own = [(then, took) for name, then, took in past if name == workflow.name and _alike(then, cost)]
    if rates is None and len(own) >= _ENOUGH_RUNS:
        return services.priced(_set_right(cost, own))
    right = _set_right(cost, [] if rates else own, trust=len(own) / (len(own) + 1))
    if not own and rates is None:
        right = _as_brief(right, [(then, took) for _, then, took in past])
    rates = rates or observed([took for _, _, took in past]) or calibrate(services.model)
    return services.priced(replace(right, seconds=round(rates.seconds(right), 1)))


def observed(took: Sequence[Cost]) -> Rates | None:
    """The rates at which past runs come nearest to the seconds that they took; None where they cannot say.

    Runs count alike, whether short or long: relative errors are made small.
    """
    known = [each for each in took if each.seconds > 0]
    if len(known) < _ENOUGH_RUNS:
        return None
    shares = np.array([[each.read_tokens, each.written_tokens] for each in known]) / [[each.seconds] for each in known]
    per_token, _, rank, _ = np.linalg.lstsq(shares, np.ones(len(known)), rcond=None)
    if rank < 2 or per_token.min() <= 0:
        return None
    prefill, decode = (1 / per_token).tolist()
    return Rates(prefill, decode)


def _alike(one: Cost, other: Cost) -> bool:
    """Whether two costs are of one kind, however long the texts: their calls read and write about as much."""
    costs = (one, other)
    read = [each.prompt_tokens / max(1, each.calls) for each in costs]
    written = [each.completion_tokens / max(1, each.calls) for each in costs]
    return all(max(pair) <= _ALIKE_RATIO * max(1.0, min(pair)) for pair in (read, written))


def _set_right(cost: Cost, past: Sequence[tuple[Cost, Cost]], trust: float = 1.0) -> Cost:
    """`cost` as many times larger in each part as past runs were than expected, in the middle of what was seen.

    `trust` from 0 to 1 says how much is made of it.
    """

    def ratio(part: Callable[[Cost], float]) -> float:
        seen = [part(took) / part(then) for then, took in past if part(then) > 0 and part(took) > 0]
        return float(median(seen) ** trust) if seen else 1.0

    calls, prompts = ratio(lambda each: each.calls), ratio(lambda each: each.prompt_tokens)
    written, seconds = ratio(lambda each: each.completion_tokens), ratio(lambda each: each.seconds)
    return Cost(
        round(cost.calls * calls),
        round(cost.prompt_tokens * prompts),
        round(cost.completion_tokens * written),
        round(cost.seconds * seconds, 1),
        round(cost.cached_tokens * prompts),
        round(cost.beside_tokens * written),
    )


def _as_brief(cost: Cost, past: Sequence[tuple[Cost, Cost]]) -> Cost:
    """`cost` with as much written as past runs of any workflow wrote of what was expected; the fewer, the less so."""
    set_right = _set_right(cost, past, trust=len(past) / (len(past) + 1))
    return replace(cost, completion_tokens=set_right.completion_tokens, beside_tokens=set_right.beside_tokens)


def _past(runs: RunLog, model: str) -> list[tuple[str, Cost, Cost]]:
    """The workflow, what was expected, and what it took, of the latest whole runs with this model."""
    found = []
    for run in runs.runs(_LOOKED_AT):
        said = run.recipe.get("expected")
        if run.answer and said and run.state == "done" and run.model == model:
            took = {name: run.answer["usage"].get(name, 0) for name in _TAKEN}
            found.append((run.workflow, Cost(**said), Cost(**took)))
    return found[:_PAST_RUNS]
