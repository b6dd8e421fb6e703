"""Log-probabilities of what is given: of continuations (`choose`, `likelihood`), token by token, and as a reply."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from readthrough.models.local.attention import Batch
from readthrough.models.local.cache import Sequence
from readthrough.models.local.engine import Engine
from readthrough.models.local.jobs import Job
from readthrough.models.local.memory import is_out_of_memory, out_of_memory
from readthrough.models.local.prompts import Spans, Tokens, common_length

T = TypeVar("T")
Logprobs = npt.NDArray[np.float64]

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
            job = Job(tokens, len(question.prompt) - 1, _Adder(question, same), question.spans)
            job.lasting_tokens = len(question.prompt)  # the same text is given again, the continuation is not
            jobs.append((job, question))
    jobs.sort(key=lambda each: each[0].tokens.tobytes())  # what begins alike is computed together
    for group in _groups(jobs, kv_bytes // engine.token_bytes):
        engine.run([job for job, _ in group])
        for job, question in group:
            question.prompt_tokens += len(job.tokens)
            question.cached_tokens += job.cached_tokens
            job.sequence = Sequence()  # what is worth keeping, the engine has kept


def score_tokens(engine: Engine, prompts: Seq[Tokens], first: Seq[int], kv_bytes: int) -> list[Logprobs]:
    """Of each prompt, the log-probabilities of its tokens from `first` on; nan for one that has nothing before it."""
    found = [np.full(max(0, len(prompt) - start), np.nan) for prompt, start in zip(prompts, first, strict=True)]
    jobs: list[tuple[Job, None]] = []
    for prompt, start, logprobs in zip(prompts, first, found, strict=True):
        scored = max(start, 1)
        if scored < len(prompt):
            take = _Writer(prompt[scored:], logprobs[scored - start :])
            jobs.append((Job(prompt[:-1], scored - 1, take), None))
    for group in _groups(jobs, kv_bytes // engine.token_bytes):
        engine.run([job for job, _ in group])
        for job, _ in group:
            job.sequence = Sequence()
    return found


def score_reply(engine: Engine, prompt: Tokens, first: int) -> Logprobs:
    """The log-probabilities of the tokens from `first` on, as if they were a reply to those before.

    So they see what the plan keeps of the prompt, and attend to what it selects for replies: a token at a time where
    it selects.
    """
    logprobs = np.full(len(prompt) - first, np.nan)
    take = _Writer(prompt[first:], logprobs)
    job = Job(prompt[:first], first - 1, take, replies=True)
    engine.run([job])
    engine.compress_prompt(job)
    many = ROWS_AT_ONCE if engine.plan.decode is None else 1
    try:
        for at in range(first, len(prompt) - 1, many):
            piece = prompt[at : min(at + many, len(prompt) - 1)]
            batch = Batch.pack([(job.sequence, len(piece))], selector=engine.plan.decode, own=engine.own)
            take(at + 1 - first, engine.forward(batch, [piece], np.arange(len(piece)), decoding=True))
            job.sequence.commit(len(piece))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(f"a reply to {first} tokens") from error
    finally:
        job.sequence = Sequence()
    return logprobs


def _groups(jobs: Seq[tuple[Job, T]], limit_tokens: int) -> Iterator[list[tuple[Job, T]]]:
    """The jobs in order, as many at a time as stay below the limit; what one shares with its neighbour is free."""
    group: list[tuple[Job, T]] = []
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


class _Writer:
    """Writes the log-probabilities of given tokens down as their logits come in."""

    def __init__(self, tokens: Tokens, logprobs: Logprobs) -> None:
        self.tokens = tokens
        self.logprobs = logprobs

    def __call__(self, offset: int, logits: torch.Tensor) -> None:
        for first, wide in _widened(offset, logits):
            end = first + len(wide)
            targets = torch.from_numpy(self.tokens[first:end]).to(wide.device)
            found = wide.gather(1, targets[:, None])[:, 0] - wide.logsumexp(-1)
            self.logprobs[first:end] = found.cpu().double().numpy()


def _widened(offset: int, logits: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The rows in fp32, some at a time, each with the offset of its first."""
    for start in range(0, len(logits), ROWS_AT_ONCE):
        yield offset + start, logits[start : start + ROWS_AT_ONCE].float()


class _Adder:
    """Adds the log-probabilities of some continuations of a question as their logits come in."""

    def __init__(self, question: Question, indices: Seq[int]) -> None:
        self.question = question
        self.indices = indices

    def __call__(self, offset: int, logits: torch.Tensor) -> None:
        for first, wide in _widened(offset, logits):
            norms = wide.logsumexp(-1)
            for index in self.indices:
                targets = torch.from_numpy(self.question.continuations[index][first : first + len(wide)])
                targets = targets.to(wide.device)
                found = wide[: len(targets)].gather(1, targets[:, None])[:, 0]
                self.question.logprobs[index] += float((found - norms[: len(targets)]).double().sum())
