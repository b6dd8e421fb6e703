"""Joining texts that were read apart into the beginning of a prompt.

Each text has been read behind what comes before the first of them, so that there is one beginning that everything
attends to; its KV is turned to its place, and some of its tokens are computed anew, over all that stands before them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Seq
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from readthrough.compression.base import Deviation, Joining
from readthrough.kernels.rotary import rerotate
from readthrough.models.local.attention import Batch
from readthrough.models.local.behind import NO_ROWS, Enough, Forward, read_behind
from readthrough.models.local.cache import Sequence
from readthrough.models.local.loading import Loaded
from readthrough.models.local.prompts import Spans, Tokens

_SALT_BITS, _TOKEN_BITS = 38, 24


def keyed(tokens: Tokens, spans: Spans) -> Tokens:
    """Tokens as they are told from others whose KV is not the same, since they were joined otherwise or not at all."""
    if not spans:
        return tokens
    said = tokens[: spans[-1][1]].tobytes() + repr(spans).encode()
    salt = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little") % (1 << _SALT_BITS) + 1
    return tokens + (salt << _TOKEN_BITS)


def is_joined(key: Tokens) -> bool:
    """Whether a key is that of a prompt which begins with joined texts."""
    return bool(key[0] >> _TOKEN_BITS)


def read_apart(tokens: Tokens, spans: Spans) -> list[Tokens]:
    """What is read for each text: it, behind what comes before the first."""
    return [np.concatenate([tokens[: spans[0][0]], tokens[start:end]]) for start, end in spans]


@dataclass(frozen=True, slots=True)
class Joined:
    """The beginning of a prompt up to the end of its last text, and which tokens of it were computed for it alone."""

    sequence: Sequence
    places: np.ndarray


class Joiner:
    """Joins sequences.

    Args:
        join: which tokens are computed anew.
        loaded: the model.
        forward: computes a batch.
        pass_tokens: the most tokens of a pass.

    Raises:
        ModelError: the model's positions cannot be moved.
    """

    def __init__(self, join: Joining, loaded: Loaded, forward: Forward, pass_tokens: int) -> None:
        self._join = join
        self._layers = loaded.layers
        self._frequencies = loaded.inverse_frequencies
        self._forward = forward
        self._pass_tokens = pass_tokens

    def join(self, tokens: Tokens, spans: Spans, read: Seq[Sequence]) -> Joined:
        """The KV of a prompt up to the end of its last text.

        Args:
            tokens: of the prompt.
            spans: where its texts are, two or more.
            read: the KV of what `read_apart` says.
        """
        start, end = spans[0][1], spans[-1][1]
        sequence = read[0].fork(start, reserve_tokens=end - start)
        self._lay(sequence, spans, read)
        texts = np.concatenate([np.arange(*span) for span in spans[1:]]) - start
        layer, deviation = self._join.compared_layer, None
        if layer is not None:
            found = self._compare(sequence, read[0], tokens[start:end], layer)
            deviation = Deviation(*(each.cpu()[texts] for each in found))
        anew = np.ones(end - start, dtype=bool)
        anew[texts] = False
        anew[texts[self._join.choose(len(texts), deviation)]] = True
        places = np.flatnonzero(anew) + start
        for first in range(0, len(places), self._pass_tokens):
            some = places[first : first + self._pass_tokens]
            self._forward(Batch.placed(sequence, torch.from_numpy(some)), [tokens[some]], NO_ROWS)
        return Joined(sequence, places)

    def _lay(self, sequence: Sequence, spans: Spans, read: Seq[Sequence]) -> None:
        """Put the texts behind the first at their places; zeros between them."""
        start, end, prefix = spans[0][1], spans[-1][1], spans[0][0]
        for layer in range(self._layers):
            first_keys, first_values = read[0].gather(layer)
            keys, values = (x.new_zeros(x.shape[0], end - start, x.shape[2]) for x in (first_keys, first_values))
            for (at, to), one in zip(spans[1:], read[1:], strict=True):
                own_keys, own_values = (x[:, prefix:] for x in one.gather(layer))
                places = torch.arange(to - at, device=keys.device)
                own = slice(at - start, to - start)
                keys[:, own] = rerotate(own_keys, places + prefix, places + at, self._frequencies)
                values[:, own] = own_values
            sequence.append(layer, keys, values)
        sequence.commit(end - start)

    def _compare(self, sequence: Sequence, before: Sequence, tokens: Tokens, layer: int) -> Deviation:
        """Compute all of the latest `tokens` up to a layer, and put that in place of what was joined.

        Returns:
            How far it was off in that layer.
        """

        def stop(at: int, q: torch.Tensor, lse: torch.Tensor) -> None:
            if at == layer:
                raise Enough

        def forward(batch: Batch, tokens: list[Tokens], rows: np.ndarray) -> None:
            with suppress(Enough):
                self._forward(batch, tokens, rows)

        start = sequence.length - len(tokens)
        reader = before.fork(start, reserve_tokens=len(tokens))
        read_behind(reader, tokens, forward, self._pass_tokens, stop)
        pairs = zip(sequence.gather(layer), reader.gather(layer), strict=True)
        off = Deviation(*((new[:, start:].float() - old[:, start:].float()).square().sum((0, 2)) for old, new in pairs))
        places = torch.arange(start, sequence.length)
        for earlier in range(layer + 1):
            sequence.rewrite(earlier, places, *(x[:, start:] for x in reader.gather(earlier)))
        return off
