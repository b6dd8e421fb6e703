"""Compressing the KV of a prompt by a plan: what stays, how it is stored, at which positions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from readthrough.compression.base import HeadKV, LayerKV, Probe
from readthrough.compression.plan import Plan
from readthrough.kernels.attention import attend
from readthrough.kernels.rotary import rerotate
from readthrough.kernels.scores import attention_peaks
from readthrough.models.local.behind import Forward, read_behind
from readthrough.models.local.cache import CompressedBlock, KeptKV, Sequence
from readthrough.models.local.loading import Loaded
from readthrough.models.local.prompts import Prompts, Tokens


class Compressor:
    """Compresses sequences by a plan.

    Args:
        plan: the plan.
        loaded: the model.
        forward: computes a batch, for policies that probe.
        pass_tokens: the most tokens of a pass.
    """

    def __init__(self, plan: Plan, loaded: Loaded, forward: Forward, pass_tokens: int) -> None:
        self.plan = plan
        self.loaded = loaded
        self._forward = forward
        self._pass_tokens = pass_tokens

    @cached_property
    def _prompts(self) -> Prompts:
        return Prompts(self.loaded.tokenizer)

    def compress(
        self,
        tokens: Tokens,
        sequence: Sequence,
        queries: Mapping[int, torch.Tensor],
        attended: Mapping[int, torch.Tensor],
    ) -> None:
        """Compress all tokens of a sequence but those of the plan's window.

        Args:
            tokens: what the sequence holds.
            sequence: whose KV is not compressed yet from `sequence.compressed_tokens` on.
            queries: of the latest tokens in each layer, `[H, n, D]`, as many as the plan's policy asks for.
            attended: the attention that what is not compressed got in each layer, `[Hkv, n]`, where it asks for that.
        """
        start, store, policy = sequence.compressed_tokens, self.plan.store, self.plan.keep
        count = (sequence.length - self.plan.window_tokens - start) // store.group_tokens * store.group_tokens
        if count <= 0:
            return
        probe = None if policy is None else policy.probe
        mass = self._probe(probe, tokens, sequence, count) if probe else {}
        starts = None if policy is None or policy.separator is None else self._starts(policy.separator, tokens[start:])
        layers = [
            LayerKV(
                *sequence.gather(layer),
                start,
                self._scale,
                queries.get(layer),
                mass.get(layer),
                attended.get(layer),
                starts,
            )
            for layer in range(self.loaded.layers)
        ]
        if policy is None:
            every = torch.arange(count, device=self.loaded.device)
            chosen = [_own(layer, every) for layer in layers]
        else:
            chosen = policy.compress(layers, count, store.group_tokens)
        kept = [_kept(heads, start) for heads in chosen]
        ragged = policy is not None and policy.ragged
        block = CompressedBlock(layers[0].keys.shape[0], ragged=ragged, store=store, whole=policy is None)
        if policy is not None and policy.renumbers:
            dropped = count - len(chosen[0][0].numbers)
            sequence.compress(start + count, kept, block, lambda keys: self._moved(keys, sequence, dropped))
            sequence.shift_tokens += dropped
        else:
            sequence.compress(start + count, kept, block, None)

    def _moved(self, keys: torch.Tensor, sequence: Sequence, by_tokens: int) -> torch.Tensor:
        """The latest keys, at positions that are smaller by so many tokens."""
        end = sequence.length - sequence.shift_tokens
        old = torch.arange(end - keys.shape[1], end, device=keys.device)
        return rerotate(keys, old, old - by_tokens, self.loaded.inverse_frequencies)

    def _starts(self, separator: str, tokens: Tokens) -> torch.Tensor:
        """The numbers of the tokens that hold the first letter behind a separator."""
        ids, places = np.unique(tokens, return_inverse=True)
        texts = [self.loaded.tokenizer.decode([int(each)]) for each in ids]
        ends = np.cumsum([len(texts[place]) for place in places])
        whole = "".join(texts[place] for place in places)
        behind = [found.end() for found in re.finditer(re.escape(separator), whole)]
        numbers = np.unique(np.searchsorted(ends, behind, side="right"))
        return torch.from_numpy(numbers[numbers < len(tokens)]).to(self.loaded.device)

    @property
    def _scale(self) -> float:
        return self.loaded.attention_scale

    def _probe(self, probe: Probe, tokens: Tokens, sequence: Sequence, count: int) -> dict[int, torch.Tensor]:
        """The most attention that each of the first `count` tokens gets from a probe, `[Hkv, count]` in each layer."""
        start = sequence.compressed_tokens
        carried = tokens[max(0, start - probe.carried_tokens) : start]
        between = self._prompts.between_turns()
        asked = self._prompts.encode([probe.further if start else probe.first, between])
        text = np.concatenate([asked[0], carried, asked[1], tokens[start : start + count]])
        keys = {layer: sequence.gather(layer)[0][:, :count] for layer in range(self.loaded.layers)}
        mass: dict[int, torch.Tensor] = {}

        def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
            if probe.sink_tokens is not None:
                own, _ = reader.tail.read(layer, reader.tail.length + q.shape[1])
                among = torch.cat([_sink(sequence, layer, probe.sink_tokens), keys[layer], own], 1)
                lse = attend(q, among, among, causal=True, scale=self._scale)[1]
            found = attention_peaks(q, keys[layer], lse, scale=self._scale)
            mass[layer] = torch.maximum(mass[layer], found) if layer in mass else found

        reader = sequence.fork(reserve_tokens=len(text))
        read_behind(reader, text, self._forward, self._pass_tokens, watch)
        return mass


def _sink(sequence: Sequence, layer: int, count: int) -> torch.Tensor:
    """The compressed keys that come first, `[Hkv, count, D]`, or as many as every head has; none in the first piece."""
    block = sequence.compressed
    if block is None:
        return sequence.gather(layer)[0][:, :0]
    groups = [keys[:, :count] for keys, _, _ in block.read(layer, sequence.compressed_tokens)]
    fewest = min(keys.shape[1] for keys in groups)
    return torch.cat([keys[:, :fewest] for keys in groups])


def _own(layer: LayerKV, numbers: torch.Tensor) -> list[HeadKV]:
    """The same tokens of every head as they are."""
    return [
        HeadKV(numbers, keys[numbers], values[numbers]) for keys, values in zip(layer.keys, layer.values, strict=True)
    ]


def _kept(heads: list[HeadKV], first_token: int) -> KeptKV:
    return KeptKV(
        tuple(head.keys for head in heads),
        tuple(head.values for head in heads),
        tuple((head.numbers + first_token).int() for head in heads),
    )
