"""Writing replies: many at once, each joining when there is room and leaving when it is finished."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from readthrough.errors import ModelError
from readthrough.models.base import Request
from readthrough.models.local.attention import Batch
from readthrough.models.local.drafts import Lookup
from readthrough.models.local.engine import Engine
from readthrough.models.local.grammar import SchemaGrammar
from readthrough.models.local.jobs import Job
from readthrough.models.local.joining import keyed
from readthrough.models.local.memory import is_out_of_memory, out_of_memory
from readthrough.models.local.prompts import Spans, Tokens, common_length
from readthrough.models.local.text import ReplyText
from readthrough.types import Event


@dataclass(slots=True)
class Reply:
    """One reply being written."""

    request: Request
    prompt: Tokens
    text: ReplyText
    grammar: SchemaGrammar | None
    seen: Lookup
    on_text: Callable[[str], None] | None = None
    spans: Spans = ()
    job: Job = field(init=False)
    tokens: int = 0
    logprob: float = 0.0
    finish: Literal["stop", "length"] | None = None

    def __post_init__(self) -> None:
        self.job = Job(self.prompt, len(self.prompt) - 1, lambda offset, logits: None, self.spans, replies=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at once.

    running: the most replies; kv_bytes: the most KV their prompts and replies may need together (one always
    runs); rows: the most tokens a step when drafts are tried; draft_tokens: the most drafted for a reply.
    """

    running: int
    kv_bytes: int
    rows: int
    draft_tokens: int


class Writer:
    """Writes replies on an engine."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits

    def write(self, replies: Seq[Reply]) -> None:
        """Write every reply to its end."""
        waiting = deque(sorted(replies, key=lambda reply: reply.prompt.tobytes()))  # what begins alike goes together
        running: list[Reply] = []
        done = 0
        while waiting or running:
            joining = self._admit(waiting, running)
            if joining:
                self._begin(joining)
                running += joining
            else:
                self._step(running)
            for reply in running:
                if reply.finish:
                    done += 1
                    reply.job.sequence.memory = {}
                    if self.engine.keeps_replies:
                        self.engine.kept.add(keyed(reply.seen.tokens, reply.spans), reply.job.sequence)
                    self.engine.on_event(Event("decode", done, len(replies), "replies"))
            running = [reply for reply in running if not reply.finish]

    def _needs_bytes(self, replies: Seq[Reply]) -> int:
        """The KV of replies at their longest; what one shares with its neighbour is there once."""
        shared = sum(common_length(before.prompt, reply.prompt) for before, reply in pairwise(replies))
        return (sum(len(each.prompt) + each.request.max_tokens for each in replies) - shared) * self.engine.token_bytes

    def _admit(self, waiting: deque[Reply], running: Seq[Reply]) -> list[Reply]:
        joining: list[Reply] = []
        while waiting and len(running) + len(joining) < self.limits.running:
            together = [*running, *joining, waiting[0]]
            if len(together) > 1 and self._needs_bytes(together) > self.limits.kv_bytes:
                break
            joining.append(waiting.popleft())
        return joining

    def _begin(self, joining: Seq[Reply]) -> None:
        first: dict[int, torch.Tensor] = {}
        for index, reply in enumerate(joining):
            reply.job.take = _keeper(first, index)
        self.engine.run([reply.job for reply in joining])
        for index, reply in enumerate(joining):
            self.engine.compress_prompt(reply.job)
            self._accept(reply, first[index], [])

    def _step(self, running: Seq[Reply]) -> None:
        """One step of every reply; in two halves where memory does not suffice."""
        try:
            self._step_at_once(running)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.engine.kept.make_room():
                self._step(running)
            elif len(running) > 1:
                self._step(running[: len(running) // 2])
                self._step(running[len(running) // 2 :])
            else:
                raise out_of_memory(f"a reply to {len(running[0].prompt)} tokens") from error

    def _step_at_once(self, running: Seq[Reply]) -> None:
        drafts = [self._draft(reply, len(running)) for reply in running]
        pieces = [np.append(reply.seen.tokens[-1:], draft) for reply, draft in zip(running, drafts, strict=True)]
        laid = ((reply.job.sequence, len(piece)) for reply, piece in zip(running, pieces, strict=True))
        batch = Batch.pack(laid, selector=self.engine.plan.decode, own=self.engine.own)
        logits = self.engine.forward(batch, pieces, np.arange(batch.segments[-1].end), decoding=True)
        for reply, draft, segment in zip(running, drafts, batch.segments, strict=True):
            used = self._accept(reply, logits[segment.rows], draft.tolist())
            reply.job.sequence.commit(used)

    def _draft(self, reply: Reply, running: int) -> Tokens:
        room = min(self.limits.draft_tokens, self.limits.rows // running - 1)
        room = min(room, reply.request.max_tokens - reply.tokens - 1)
        if room <= 0:
            return reply.seen.tokens[:0]
        forced = reply.grammar.forced() if reply.grammar else []
        return np.array(forced[:room], dtype=np.int64) if forced else reply.seen.draft(room)

    def _accept(self, reply: Reply, logits: torch.Tensor, draft: Seq[int]) -> int:
        """Take tokens from logits `[1 + len(draft), V]` as long as the draft foresaw them.

        Every token is picked from the model's own distribution, so a draft changes nothing but the speed.

        Returns:
            How many of the rows counted.
        """
        wide = logits.float()
        # In fp64, as one row alone is summed by several threads and each of several rows by one.
        norms = wide.double().logsumexp(-1).float()
        greedy = None if reply.request.temperature or reply.grammar else wide.argmax(-1).tolist()
        for row in range(len(draft) + 1):
            token = greedy[row] if greedy else self._pick(reply, wide[row])
            self._push(reply, token, float(wide[row, token] - norms[row]))
            if reply.finish or row == len(draft) or draft[row] != token:
                break
        return row + 1

    def _pick(self, reply: Reply, logits: torch.Tensor) -> int:
        if reply.grammar:
            allowed = reply.grammar.allowed(len(logits), logits.device)
            logits = logits.masked_fill(~allowed, -torch.inf)
        if not reply.request.temperature:
            return int(logits.argmax())
        return int(torch.multinomial((logits / reply.request.temperature).softmax(-1), 1))

    def _push(self, reply: Reply, token: int, logprob: float) -> None:
        if not math.isfinite(logprob):
            raise ModelError("the model computed no number for its next token", hint="try dtype fp32")
        reply.tokens += 1
        reply.logprob += logprob
        reply.seen.push(token)
        if reply.grammar:
            reply.grammar.push(token)
        if token in self.engine.loaded.eos_ids:
            reply.finish = "stop"
        else:
            reply.text.push(token)
            if reply.text.stopped or (reply.grammar and reply.grammar.done):
                reply.finish = "stop"
            elif reply.tokens >= reply.request.max_tokens:
                reply.finish = "length"
        if reply.finish:
            reply.text.finish()
        if reply.on_text and (piece := reply.text.ready(finished=reply.finish is not None)):
            reply.on_text(piece)


def _keeper(found: dict[int, torch.Tensor], index: int) -> Callable[[int, torch.Tensor], None]:
    def keep(offset: int, logits: torch.Tensor) -> None:
        found[index] = logits.clone()

    return keep
