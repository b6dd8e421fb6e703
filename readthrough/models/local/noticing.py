"""How much attention a question pays to texts that stand before it in a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from readthrough.errors import ModelError
from readthrough.kernels.scores import window_mass
from readthrough.models.local.behind import read_behind
from readthrough.models.local.cache import Sequence
from readthrough.models.local.engine import Engine
from readthrough.models.local.jobs import Job, ignore_logits
from readthrough.models.local.prompts import Spans, Tokens


@dataclass(frozen=True, slots=True)
class Noticed:
    """The shares of each text's tokens, and what of the prompt did not have to be computed."""

    by_token: tuple[tuple[float, ...], ...]
    cached_tokens: int


def notice(engine: Engine, tokens: Tokens, spans: Spans) -> Noticed:
    """The mean attention of the tokens in the last of `spans` to each token in the others.

    Means are over the asking tokens, query heads and layers. What stands before the question is kept for later calls.

    Raises:
        ModelError: the model's attention is not shown in any layer.
    """
    start, end = spans[-1]
    job = Job(tokens[:start], start, ignore_logits)
    engine.run([job])
    reader = job.sequence.fork(reserve_tokens=end - start)
    watched = _Watched(engine, reader, start)
    read_behind(reader, tokens[start:end], engine.forward, engine.forward_tokens, watched.watch)
    if not watched.rows:
        raise ModelError(
            "the attention of this model is not shown: it attends within a window, or by chunks",
            hint="rerank by likelihood instead",
        )
    mean = watched.total / watched.rows
    return Noticed(tuple(tuple(mean[since:to].tolist()) for since, to in spans[:-1]), job.cached_tokens)


class _Watched:
    """Sums what the new tokens of a sequence pay to its first `seen` ones, over layers and heads."""

    def __init__(self, engine: Engine, reader: Sequence, seen: int) -> None:
        self._scale = engine.loaded.attention_scale
        self._reader = reader
        self._seen = seen
        self.total = np.zeros(seen)
        self.rows = 0

    def watch(self, layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        """See `readthrough.models.local.attention.Watch`."""
        keys, _ = self._reader.gather(layer, q.shape[1])
        mass = window_mass(q, keys, scale=self._scale, pool_tokens=1, reduction="sum")
        self.total += mass.sum(0)[: self._seen].double().cpu().numpy()
        self.rows += q.shape[0] * q.shape[1]
