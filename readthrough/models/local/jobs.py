"""What the engine is given to compute."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
import torch

from readthrough.compression.selecting import Prompt, TokenSelector
from readthrough.models.local.attention import Batch, Watch
from readthrough.models.local.cache import Sequence
from readthrough.models.local.joining import keyed
from readthrough.models.local.prompts import Spans, Tokens

Take = Callable[[int, torch.Tensor], None]


@dataclass(slots=True)
class Job:
    """Tokens to compute, and what to do with the logits.

    Attributes:
        tokens: all tokens from position 0.
        first_row: the first token whose logits are wanted; from there on all are.
        take: called with the offset from `first_row` and logits `[n, V]`, in order, as they are made.
        sequence: after the run, the KV of all tokens.
        spans: the texts that were read apart, where there are any; the prompt begins with what is joined of them.
        replies: a reply is written to it.
        recurs: the tokens are a text that is known to be read again.
        lasting_tokens: of how many of its first tokens the KV is worth keeping; None for all.
        charged_tokens: tokens of shared prefixes that were computed on this job's account.
        cached_tokens: after the run, how many tokens did not have to be computed for this job.
        snapshots: the numbers of the entries that are kept of it where it was compressed.
        queries: of the latest tokens in each layer, `[H, n, D]`, where the plan's policy asks for them.
    """

    tokens: Tokens
    first_row: int
    take: Take
    spans: Spans = ()
    replies: bool = False
    recurs: bool = False
    lasting_tokens: int | None = None
    sequence: Sequence = field(default_factory=Sequence)
    charged_tokens: int = 0
    cached_tokens: int = 0
    queries: dict[int, torch.Tensor] = field(default_factory=dict)
    snapshots: list[int] = field(default_factory=list)

    @property
    def key(self) -> Tokens:
        """By what its KV is told from that of other jobs."""
        return keyed(self.tokens, self.spans)

    @property
    def lasting(self) -> tuple[Tokens, Sequence]:
        """What is kept of it for later calls: tokens by which it is found, and their KV."""
        if self.lasting_tokens is None or self.lasting_tokens < self.sequence.floor:
            return self.key, self.sequence
        return self.key[: self.lasting_tokens], self.sequence.fork(self.lasting_tokens)

    @property
    def joined_tokens(self) -> int:
        """How many of its first tokens are joined."""
        return self.spans[-1][1] if self.spans else 0

    def watch(self, layer: int, queries: torch.Tensor, count: int) -> None:
        """Keep the queries `[H, n, D]` of the latest `count` tokens of a layer."""
        before = self.queries.get(layer)
        latest = queries if before is None else torch.cat([before, queries[:, -count:]], 1)
        self.queries[layer] = latest[:, -count:].clone()


def query_watch(jobs: Seq[Job], batch: Batch, count: int) -> Watch:
    """Keeps the latest queries of every job."""

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        for job, segment in zip(jobs, batch.segments, strict=True):
            job.watch(layer, q[:, segment.rows], count)

    return watch


def ignore_logits(offset: int, logits: torch.Tensor) -> None:
    """For tokens whose logits nobody wants."""


def prompt_watch(jobs: Seq[Job], batch: Batch, selector: TokenSelector, scale: float) -> Watch:
    """Shows a selector the prompts that replies are written to."""

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        for job, segment in zip(jobs, batch.segments, strict=True):
            if job.replies:
                sequence, rows = job.sequence, segment.rows
                keys, _ = sequence.gather(layer, segment.end - segment.start)
                shown = Prompt(q[:, rows], lse[:, rows], keys, scale)
                sequence.memories[layer] = [selector.read_prompt(shown, sequence.memory.get(layer))]

    return watch


def both(first: Watch | None, second: Watch) -> Watch:
    """Tells two who watch."""
    if first is None:
        return second

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        first(layer, q, lse)
        second(layer, q, lse)

    return watch


def charged(job: Job, texts: Seq[Job], places: np.ndarray) -> int:
    """How many of a job's joined tokens were computed for it: anew, or since their text was not known.

    From then on the texts are known.
    """
    prefix = job.spans[0][0]
    computed = np.zeros(job.joined_tokens, dtype=bool)
    computed[places] = True
    for (start, end), text in zip(job.spans, texts, strict=True):
        known, text.cached_tokens = text.cached_tokens, len(text.tokens)
        computed[known:prefix] = True
        computed[start + max(0, known - prefix) : end] = True
    return int(computed.sum())
