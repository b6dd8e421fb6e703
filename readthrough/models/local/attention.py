"""The attention function that the engine registers with transformers, and the batch it computes.

A forward pass packs the new tokens of several sequences back to back: no padding, no mask. What belongs to
whom travels beside the tokens, as a `Batch` in the model's keyword arguments. Each sequence's new tokens see
themselves causally and everything their sequence holds already; the two are merged by log-sum-exp. A prefix
that several sequences share is read once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from readthrough.compression.base import AttentionPattern
from readthrough.compression.selecting import PageSelector, TokenSelector
from readthrough.errors import ModelError
from readthrough.kernels.attention import (
    NEWEST_TOKENS,
    TILE_TOKENS,
    attend,
    attend_newest,
    attend_placed,
    attend_window,
)
from readthrough.kernels.merge import merge_lse
from readthrough.models.local.cache import Block, CompressedBlock, Sequence
from readthrough.models.local.own import OwnAttention, OwnPass
from readthrough.models.local.paging import attend_chosen
from readthrough.models.local.rows import Rows, joined, on_device

ATTENTION = "readthrough"
"""The name to give as `attn_implementation`."""


@dataclass(slots=True)
class Segment:
    """The new tokens of one sequence in a forward pass: rows `start` to `end` of the packed input.

    `sequence` is None for tokens whose KV nobody will read again. `sparse`: they attend by the batch's pattern;
    `paged`: to the pages that the batch's selector chooses. `places`, on the processor, where they are not new: tokens
    in the sequence's tail, ascending, whose KV is computed anew. `notes`: what the pattern's layers tell each other.
    """

    sequence: Sequence | None
    start: int
    end: int
    sparse: bool = False
    paged: bool = False
    places: torch.Tensor | None = None
    notes: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def positions(self) -> torch.Tensor:
        """Of each token, on the processor."""
        if self.places is not None:
            return self.places
        first = self.sequence.length - self.sequence.shift_tokens if self.sequence else 0
        return torch.arange(first, first + self.end - self.start)

    @property
    def rows(self) -> slice:
        """The segment's rows of the packed input."""
        return slice(self.start, self.end)


@dataclass(slots=True)
class SharedPart:
    """The first `tokens` tokens of a block, and the packed rows that read them."""

    block: Block | CompressedBlock
    tokens: int
    rows: Rows


Watch = Callable[[int, torch.Tensor, torch.Tensor], None]


@dataclass
class Batch:
    """What one forward pass computes.

    `pattern` says what long prompts attend to, `selector` what the tokens of replies do; None is everything. `own`
    computes all of it instead, where positions bring an attention of their own. `watch` is told the queries `[H, T, D]`
    of each layer and their log-sum-exps `[H, T]`.
    """

    segments: list[Segment]
    parts: list[SharedPart]
    pattern: AttentionPattern | None = None
    selector: PageSelector | TokenSelector | None = None
    own: OwnPass | None = None
    watch: Watch | None = None
    layers_seen: set[int] = field(default_factory=set)

    @classmethod
    def pack(
        cls,
        pieces: Iterable[tuple[Sequence | None, int]],
        pattern: AttentionPattern | None = None,
        selector: PageSelector | TokenSelector | None = None,
        own: OwnAttention | None = None,
    ) -> Batch:
        """Lay the next `tokens` tokens of each sequence back to back."""
        segments: list[Segment] = []
        readers: dict[tuple[int, int], tuple[Block | CompressedBlock, list[Segment]]] = {}
        for sequence, tokens in pieces:
            start = segments[-1].end if segments else 0
            segment = Segment(sequence, start, start + tokens)
            segments.append(segment)
            segment.sparse = pattern is not None and _is_long(segment, pattern)
            segment.paged = selector is not None and sequence is not None and selector.applies(sequence.length)
            for block, length in sequence.parts if sequence else ():
                if (segment.sparse or segment.paged) and isinstance(block, Block):
                    continue  # read apart, where it is chosen what of it is read
                readers.setdefault((id(block), length), (block, []))[1].append(segment)
        if own is not None:
            return cls(segments, [], own=own.lay((segment.sequence, segment.rows) for segment in segments))
        parts = [
            SharedPart(block, length, joined([segment.rows for segment in who]))
            for (_, length), (block, who) in readers.items()
        ]
        return cls(segments, parts, pattern, selector)

    @classmethod
    def placed(cls, sequence: Sequence, places: torch.Tensor) -> Batch:
        """Compute tokens of a sequence's tail anew, each over what stands before it."""
        segment = Segment(sequence, 0, len(places), places=places)
        return cls([segment], [SharedPart(block, length, segment.rows) for block, length in sequence.parts])

    @property
    def positions(self) -> torch.Tensor:
        """What the model rotates the tokens for."""
        if self.own is not None:
            return self.own.places
        return torch.cat([segment.positions for segment in self.segments])

    def with_idle_row(self) -> Batch:
        """The same, and a row behind it that counts for nothing; who watches is not told of it."""
        end = self.segments[-1].end
        segments = [*self.segments, Segment(None, end, end + 1)]
        pieces = ((segment.sequence, segment.rows) for segment in segments)
        own = None if self.own is None else self.own.maker.lay(pieces)
        watch = self.watch
        shown = None if watch is None else lambda layer, q, lse: watch(layer, q[:, :end], lse[:, :end])
        return replace(self, segments=segments, own=own, watch=shown)


def _is_long(segment: Segment, pattern: AttentionPattern) -> bool:
    """Whether a segment lies behind the tokens that are dense in any case."""
    held = segment.sequence.length if segment.sequence else 0
    return segment.end - segment.start > NEWEST_TOKENS and pattern.applies(held)


def engine_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    batch: Batch | None = None,
    **kw: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The function registered as `ATTENTION`.

    Args:
        module: the attention layer that calls.
        query: `[1, H, T, D]`, rotated.
        key: the new keys `[1, Hkv, T, D]`, rotated.
        value: the new values `[1, Hkv, T, D]`.
        attention_mask: used without a `batch` only (plain `model.generate`).
        batch: the pass; None leaves the call to transformers' sdpa.
        kw: `scaling`, and `sliding_window` where the layer has one, by transformers' contract.

    Returns:
        The output `[1, T, H, D]` and None.

    Raises:
        ModelError: the layer asks for something that this attention does not compute.
    """
    if batch is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kw)
        return output
    _refuse_unknown(module, kw)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    batch.layers_seen.add(layer)
    scaling = kw.get("scaling")
    scale = float(scaling) if isinstance(scaling, int | float) else float(query.shape[-1] ** -0.5)
    window = kw.get("sliding_window")
    q, k, v = query[0], key[0], value[0]
    out = q.new_empty(q.shape[1], q.shape[0], q.shape[2]).transpose(0, 1)
    if batch.own is not None:
        batch.own.attend(layer, (q, k, v), out, scale)
    elif isinstance(window, int) and any(_exceeds(segment, window) for segment in batch.segments):
        _windowed(batch, layer, (q, k, v), out, (window, scale))
    else:
        _dense(batch, layer, (q, k, v), out, scale)
    return out.transpose(0, 1).unsqueeze(0), None


def _dense(batch: Batch, layer: int, qkv: tuple[torch.Tensor, ...], out: torch.Tensor, scale: float) -> None:
    q, k, v = qkv
    lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
    for segment in batch.segments:
        rows = segment.rows
        own = (q[:, rows], k[:, rows], v[:, rows])
        if segment.paged and batch.selector is not None and segment.sequence is not None:
            segment.sequence.append(layer, *own[1:])
            out[:, rows], lse[:, rows] = attend_chosen(batch.selector, segment.sequence, layer, own[0], scale)
        elif segment.sparse and batch.pattern is not None:
            out[:, rows], lse[:, rows] = _sparse(segment, layer, own, batch.pattern, scale)
        else:
            out[:, rows], lse[:, rows] = _own(segment, layer, own, scale)
    for part in batch.parts:
        at = on_device(part.rows, q.device)
        past = part.block.attend(layer, part.tokens, q[:, at], scale)
        out[:, at], lse[:, at] = merge_lse([(out[:, at], lse[:, at]), past])
    if batch.watch is not None:
        batch.watch(layer, q, lse)


def _sparse(
    segment: Segment, layer: int, qkv: tuple[torch.Tensor, ...], pattern: AttentionPattern, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A segment's attention over what a pattern chooses of all that its sequence holds, and itself."""
    q, k, v = qkv
    if segment.sequence is not None:
        segment.sequence.append(layer, k, v)
        k, v = segment.sequence.gather(layer, k.shape[1])
    return pattern.attend(q, k, v, layer=layer, scale=scale, notes=segment.notes)


def _own(
    segment: Segment, layer: int, qkv: tuple[torch.Tensor, ...], scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A segment's attention over its sequence's tail and itself, after writing itself there."""
    q, k, v = qkv
    if segment.sequence is None:
        return attend(q, k, v, causal=True, scale=scale)
    tail = segment.sequence.tail
    if segment.places is not None:
        segment.sequence.rewrite(layer, segment.places, k, v)
        places = segment.places - (segment.sequence.length - tail.length)
        return attend_placed(q, *tail.read(layer, tail.length), places=places, scale=scale)
    segment.sequence.append(layer, k, v)
    tokens = tail.length + q.shape[1]
    if q.shape[1] > NEWEST_TOKENS:
        return attend(q, *tail.read(layer, tokens), causal=True, scale=scale)
    tiles = -(-tokens // TILE_TOKENS) * TILE_TOKENS
    return attend_newest(q, *tail.read(layer, tiles), tokens=tokens, scale=scale)


def _exceeds(segment: Segment, window: int) -> bool:
    held = segment.sequence.length if segment.sequence else 0
    return held + segment.end - segment.start > window


def _windowed(
    batch: Batch, layer: int, qkv: tuple[torch.Tensor, ...], out: torch.Tensor, limits: tuple[int, float]
) -> None:
    window, scale = limits
    for segment in batch.segments:
        q, k, v = (tensor[:, segment.rows] for tensor in qkv)
        if segment.sequence is not None:
            segment.sequence.append(layer, k, v)
            k, v = segment.sequence.gather(layer, k.shape[1])
        out[:, segment.rows] = attend_window(q, k, v, window_tokens=window, scale=scale)


_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask", "indexer_kwargs")


def _refuse_unknown(module: torch.nn.Module, kw: dict[str, object]) -> None:
    for name in _UNSUPPORTED:
        if kw.get(name) is not None:
            raise ModelError(
                f"{type(module).__name__} asks for attention with {name!r}, which the local engine does not compute",
                hint="serve this model with another program and name it as openai:MODEL@URL",
            )


def register() -> None:
    """Make `ATTENTION` known to transformers. Calling it again changes nothing."""
    AttentionInterface.register(ATTENTION, engine_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
