"""What a prompt's last tokens attend to in some layers, read no further than the last of these."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from readthrough.compression.prompt.base import Shares
from readthrough.errors import ModelError, UsageError
from readthrough.models.local.attention import Batch
from readthrough.models.local.behind import Enough, read_behind
from readthrough.models.local.cache import Sequence
from readthrough.models.local.engine import Engine
from readthrough.models.local.prompts import Tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """How many last tokens are asked about, in which layers, and whether for products or their softmax."""

    last_tokens: int
    layers: tuple[int, ...]
    products: bool


def look(engine: Engine, tokens: Tokens, asked: Asked, see: Callable[[int, Shares], None]) -> None:
    """See `readthrough.compression.prompt.base.AttentiveScorer.read_attention`.

    Raises:
        UsageError: there is no such layer, or nothing is asked.
        ModelError: a layer's attention is not shown.
    """
    most = engine.loaded.layers
    if asked.last_tokens < 1 or not asked.layers or not all(0 <= layer < most for layer in asked.layers):
        raise UsageError(f"no attention of {asked.last_tokens} tokens in the layers {asked.layers} of {most}")
    last, scale, shown = max(asked.layers), engine.loaded.attention_scale, set()
    start = max(0, len(tokens) - asked.last_tokens)
    sequence = Sequence(reserve_tokens=len(tokens))

    def pass_by(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        if layer == last:
            raise Enough

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        if layer in asked.layers:
            shown.add(layer)
            keys, _ = sequence.gather(layer, q.shape[1])
            see(layer, _shares(q, keys, scale, asked.products))
        pass_by(layer, q, lse)

    def forward(batch: Batch, pieces: list[Tokens], rows: np.ndarray) -> None:
        with suppress(Enough):
            engine.forward(batch, pieces, rows)

    read_behind(sequence, tokens[:start], forward, engine.forward_tokens, pass_by)
    read_behind(sequence, tokens[start:], forward, len(tokens), watch)
    _check(shown, asked.layers)


def _shares(q: torch.Tensor, keys: torch.Tensor, scale: float, products: bool) -> Shares:
    """The attention `[H, W, T]` of the last W tokens, head by head in fp32."""
    group, past = q.shape[0] // keys.shape[0], keys.shape[1] - q.shape[1]
    hidden = torch.ones(q.shape[1], keys.shape[1], dtype=torch.bool, device=q.device).triu(past + 1)
    found = []
    for head in range(q.shape[0]):
        scores = (q[head].float() @ keys[head // group].float().T * scale).masked_fill(hidden, -torch.inf)
        found.append((scores if products else scores.softmax(-1)).cpu())
    shares: Shares = torch.stack(found).numpy()
    return shares


def _check(shown: set[int], layers: Seq[int]) -> None:
    if missing := sorted(set(layers) - shown):
        raise ModelError(
            f"the attention of this model is not shown in the layers {missing}: they attend within a window",
            hint="choose other layers, or a compressor that needs no attention",
        )
