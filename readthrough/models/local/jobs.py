"""What the engine is given to compute."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
import torch

from readthrough.compression.base import KVPolicy
from readthrough.compression.selecting import Prompt, TokenSelector
from readthrough.kernels.scores import attention_sums
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
        attended: the attention that tokens got in each layer, `[Hkv, n]`, of those that are not compressed, where the
            plan's policy accumulates it.
        fresh_queries, fresh_attended: what the pass that is under way shows of both.
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
    attended: dict[int, torch.Tensor] = field(default_factory=dict)
    fresh_queries: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)
    fresh_attended: dict[int, torch.Tensor] = field(default_factory=dict)
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

    def go_on(self, other: Job) -> None:
        """Begin with all that another job has computed, and what was seen of it."""
        self.sequence = other.sequence.fork(reserve_tokens=len(self.tokens) - other.sequence.length)
        self.sequence.memory = dict(other.sequence.memory)
        self.attended = dict(other.attended)

    def watch(self, layer: int, queries: torch.Tensor, count: int) -> None:
        """Keep the queries `[H, n, D]` of the latest `count` tokens of a layer, once the pass is committed."""
        self.fresh_queries[layer] = count, queries[:, -count:].clone()

    def attend(self, layer: int, queries: torch.Tensor, lse: torch.Tensor, scale: float) -> None:
        """Add up what queries `[H, n, D]`, the newest, pay to tokens, once the pass is committed.

        Their own keys have been appended to the sequence. Their log-sum-exps `[H, n]` are of all that they see.
        """
        keys, _ = self.sequence.gather(layer, queries.shape[1])
        self.fresh_attended[layer] = attention_sums(queries, keys, lse, scale=scale)

    def commit(self, tokens: int) -> None:
        """Take in the first `tokens` that a pass computed, and what it showed: a pass that fails leaves no trace."""
        self.sequence.commit(tokens)
        for layer, (count, queries) in self.fresh_queries.items():
            before = self.queries.get(layer)
            self.queries[layer] = queries if before is None else torch.cat([before, queries], 1)[:, -count:]
        for layer, sums in self.fresh_attended.items():
            if (before := self.attended.get(layer)) is not None:
                sums[:, : before.shape[1]] += before
            self.attended[layer] = sums
        self.fresh_queries.clear()
        self.fresh_attended.clear()


def query_watch(jobs: Seq[Job], batch: Batch, policy: KVPolicy, scale: float) -> Watch:
    """Keeps of every job what a policy wants to know of its queries."""

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        for job, segment in zip(jobs, batch.segments, strict=True):
            if policy.query_tokens:
                job.watch(layer, q[:, segment.rows], policy.query_tokens)
            if policy.accumulates:
                job.attend(layer, q[:, segment.rows], lse[:, segment.rows], scale)

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
