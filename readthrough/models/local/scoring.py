"""Log-probabilities of given continuations: what `choose` and `likelihood` are made of."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
import torch

from readthrough.models.local.cache import Sequence
from readthrough.models.local.engine import Engine, Job
from readthrough.models.local.prompts import Spans, Tokens, common_length

ROWS_AT_ONCE = 64
"""Rows of logits that are widened to fp32 at a time."""


@dataclass(slots=True)
class Question:
    """A prompt and the continuations to score after it, as `Prompts.continued` or `Prompts.pieced` gives them.

    After scoring, `logprobs` has the sum over each continuation's tokens, `prompt_tokens` what was read and
    `cached_tokens` what of it did not have to be computed.
    """

    prompt: Tokens
    continuations: Seq[Tokens]
    spans: Spans = ()
    logprobs: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0


def score(engine: Engine, questions: Seq[Question], kv_bytes: int) -> None:
    """Fill in the log-probabilities of every question's continuations, with at most `kv_bytes` of KV at a time.

    A continuation's last token is never an input, so continuations that differ in it alone are one input:
    options of one token cost one pass.
    """
    jobs: list[tuple[Job, Question]] = []
    for question in questions:
        question.logprobs = [0.0] * len(question.continuations)
        inputs: dict[bytes, list[int]] = {}
        for index, continuation in enumerate(question.continuations):
            if len(continuation):  # nothing to say is certain
                inputs.setdefault(continuation[:-1].tobytes(), []).append(index)
        for same in inputs.values():
            tokens = np.concatenate([question.prompt, question.continuations[same[0]][:-1]])
            jobs.append((Job(tokens, len(question.prompt) - 1, _Adder(question, same), question.spans), question))
    for group in _groups(jobs, kv_bytes // engine.token_bytes):
        engine.run([job for job, _ in group])
        for job, question in group:
            question.prompt_tokens += len(job.tokens)
            question.cached_tokens += job.cached_tokens
            job.sequence = Sequence()  # what is worth keeping, the engine has kept


def _groups(jobs: Seq[tuple[Job, Question]], limit_tokens: int) -> Iterator[list[tuple[Job, Question]]]:
    """The jobs in order, as many at a time as stay below the limit; what one shares with its neighbour is free."""
    group: list[tuple[Job, Question]] = []
    held = 0
    for job, question in jobs:
        added = len(job.tokens) - (common_length(group[-1][0].tokens, job.tokens) if group else 0)
        if group and held + added > limit_tokens:
            yield group
            group, held, added = [], 0, len(job.tokens)
        group.append((job, question))
        held += added
    if group:
        yield group


class _Adder:
    """Adds the log-probabilities of some continuations of a question as their logits come in."""

    def __init__(self, question: Question, indices: Seq[int]) -> None:
        self.question = question
        self.indices = indices

    def __call__(self, offset: int, logits: torch.Tensor) -> None:
        for start in range(0, len(logits), ROWS_AT_ONCE):
            wide = logits[start : start + ROWS_AT_ONCE].float()
            norms = wide.logsumexp(-1)
            first = offset + start
            for index in self.indices:
                targets = torch.from_numpy(self.question.continuations[index][first : first + len(wide)])
                targets = targets.to(wide.device)
                found = wide[: len(targets)].gather(1, targets[:, None])[:, 0]
                self.question.logprobs[index] += float((found - norms[: len(targets)]).double().sum())
