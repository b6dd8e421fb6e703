"""The extension points of `compression`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from readthrough.compression.selecting import ModelShape, ReplySelector
from readthrough.kernels.attention import attend
from readthrough.kernels.block_sparse import BlockSelection, attend_blocks, attend_columns
from readthrough.kernels.merge import merge_lse

BLOCK_TOKENS = 128
"""The width of the blocks that patterns choose."""

PIECE_TOKENS = 512
"""The usual length of the pieces that prompts are compressed in."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What the queries of a prompt see, besides their own block.

    Attributes:
        blocks: the past blocks of each query block.
        columns: single keys `[Hs, nc]`, -1 where there is none, that every query block after them sees as well; those
            in a chosen block count once.
    """

    blocks: BlockSelection
    columns: torch.Tensor | None = None


@dataclass(frozen=True)
class AttentionPattern(ABC):
    """Which keys the queries of a long prompt attend to; `name` is its name in the catalogue.

    A pattern is a frozen dataclass: its fields are its options. Replies are written with dense attention.

    Attributes:
        estimates: whether it estimates attention over what it chooses, and does not compute just that.
        dense_below_tokens: the queries of so many first tokens are dense: nothing would be gained there.
        dense_layers: so many first layers are dense.
    """

    name: ClassVar[str]
    estimates: ClassVar[bool] = False

    dense_below_tokens: int = field(default=4096, kw_only=True)
    dense_layers: int = field(default=0, kw_only=True)

    @abstractmethod
    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """What is attended to.

        Args:
            q: queries `[H, Tq, D]` of the last Tq tokens, rotated.
            k: keys `[Hkv, Tk, D]`, rotated; H is a multiple of Hkv.
            scale: what the scores are multiplied with.

        Returns:
            A choice for Hkv or H heads, over blocks of `BLOCK_TOKENS`.
        """

    def choose_at(
        self, q: torch.Tensor, k: torch.Tensor, *, layer: int, scale: float, notes: dict[str, torch.Tensor]
    ) -> Choice:
        """`choose` in a layer, for patterns whose layers differ or learn of each other.

        Args:
            q: as in `choose`.
            k: as in `choose`.
            layer: the number of the layer, from 0.
            scale: what the scores are multiplied with.
            notes: what layers before it left for those behind: of these queries alone, and empty in the first one.
        """
        return self.choose(q, k, scale=scale)

    def applies(self, past_tokens: int) -> bool:
        """Whether queries behind so many tokens attend by the pattern, and not densely."""
        return past_tokens >= self.dense_below_tokens

    def attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        layer: int,
        scale: float,
        notes: dict[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Causal attention of the last Tq tokens over what is chosen: `(out [H, Tq, D], lse [H, Tq])`.

        Args:
            q: queries `[H, Tq, D]`.
            k: keys `[Hkv, Tk, D]`.
            v: values `[Hkv, Tk, D]`.
            layer: the number of the layer, from 0.
            scale: what the scores are multiplied with.
            notes: see `choose_at`; None where a layer stands alone.
        """
        if not self.applies(k.shape[1] - q.shape[1]) or layer < self.dense_layers:
            return attend(q, k, v, causal=True, scale=scale)
        return self.compute(q, k, v, layer=layer, scale=scale, notes={} if notes is None else notes)

    def compute(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        layer: int,
        scale: float,
        notes: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`attend` where it is not dense; patterns that do otherwise than attend to a choice are `estimates`."""
        choice = self.choose_at(q, k, layer=layer, scale=scale, notes=notes)
        found = attend_blocks(q, k, v, choice.blocks, block_tokens=BLOCK_TOKENS, scale=scale)
        if choice.columns is None:
            return found
        columns = choice.blocks.uncovered(choice.columns, BLOCK_TOKENS)
        return merge_lse([found, attend_columns(q, k, v, columns, block_tokens=BLOCK_TOKENS, scale=scale)])


@dataclass(frozen=True, slots=True, eq=False)
class LayerKV:
    """What a policy sees of one layer: the tokens that are not compressed yet.

    Attributes:
        keys: `[Hkv, T, D]`, rotated.
        values: `[Hkv, T, D]`.
        first_token: the number of the first of them in the sequence.
        queries: of the latest tokens, `[H, W, D]`, rotated; None unless the policy asks for them.
        mass: what a probe found, `[Hkv, n]` (see `Probe`); None without one.
        attended: the attention that each of them has got, `[Hkv, T]`, summed over the query heads of a group and over
            all queries since anything was last dropped; None unless the policy accumulates it.
        starts: the numbers of those that come first behind a separator, ascending; None unless the policy names one.
        scale: what attention scores are multiplied with.
    """

    keys: torch.Tensor
    values: torch.Tensor
    first_token: int
    scale: float
    queries: torch.Tensor | None = None
    mass: torch.Tensor | None = None
    attended: torch.Tensor | None = None
    starts: torch.Tensor | None = None


class HeadKV(NamedTuple):
    """What stays of some tokens in one key head.

    Attributes:
        numbers: the tokens whose places it has, ascending.
        keys: `[n, D]`.
        values: `[n, D]`.
    """

    numbers: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, slots=True)
class Probe:
    """Tokens that are read behind a text to see what they attend to; their own KV is dropped again.

    They are an instruction, in the user's turn, the beginning of the model's turn, and the tokens that may be dropped
    once more: the mass of one of these is the most attention that any of the probe's queries pays to it.

    Attributes:
        first: the instruction behind the first tokens of a text.
        further: the instruction behind later ones; it is followed by the last `carried_tokens` before them.
        carried_tokens: see `further`.
        sink_tokens: None where shares are of all that the probe sees; else they are of so many first tokens of the
            prompt, the tokens that may be dropped, and the probe itself.
    """

    first: str
    further: str
    carried_tokens: int
    sink_tokens: int | None = None


@dataclass(frozen=True)
class KVPolicy(ABC):
    """Which tokens' KV stays in the cache; `name` is its name in the catalogue.

    A policy is a frozen dataclass: its fields are its options. It is asked whenever a prompt has been read up to the
    end of a piece (the engine cuts all prompts at the same places), or when a prompt has been read to its end; what
    it does not choose is gone for all that follows.

    Attributes:
        ragged: whether heads may keep different numbers of tokens.
        window_tokens: so many of the latest tokens are not asked about: they stay.
        piece_tokens: the length of the pieces, if that is when it is asked: what a prompt has behind the last whole one
            stays.
    """

    name: ClassVar[str]
    ragged: ClassVar[bool] = False

    window_tokens: int = field(default=0, kw_only=True)
    piece_tokens: int = field(default=PIECE_TOKENS, kw_only=True)

    @property
    def moment(self) -> Literal["piece", "prompt"]:
        """When it is asked."""
        return "piece"

    @property
    def probe(self) -> Probe | None:
        """What it wants to have read behind each piece."""
        return None

    @property
    def query_tokens(self) -> int:
        """Of how many latest tokens it wants the queries."""
        return 0

    @property
    def accumulates(self) -> bool:
        """Whether it wants to know the attention that tokens got from all queries: then each query has to be computed
        for the prompt that is compressed, and nothing is taken over that was read for another since the last piece.
        """
        return False

    @property
    def asks_queries(self) -> bool:
        """Whether it wants to know anything of the queries that are computed while a prompt is read."""
        return self.accumulates or self.query_tokens > 0

    @property
    def separator(self) -> str | None:
        """The text between units of a prompt, if it wants to know where they begin."""
        return None

    @property
    def renumbers(self) -> bool:
        """Whether positions count what is kept."""
        return False

    def fitted(self, shape: ModelShape) -> KVPolicy:
        """This policy for a model of such a shape.

        Raises:
            ValueError: it is not for such a model; the message says what is wrong with it.
        """
        return self

    def compress(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[HeadKV]]:
        """What stays, as `choose` says; a policy that merges gives other keys and values than the tokens' own."""
        chosen = self.choose(layers, tokens, multiple)
        return [
            [HeadKV(at, layer.keys[head, at], layer.values[head, at]) for head, at in enumerate(heads)]
            for layer, heads in zip(layers, chosen, strict=True)
        ]

    @abstractmethod
    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """What stays.

        Args:
            layers: what there is in each layer.
            tokens: how many of these tokens, the first ones, are to be chosen from; the others stay.
            multiple: heads can keep numbers of tokens that are multiples of this only.

        Returns:
            For each layer and key head the numbers of the tokens in `layers` that it keeps, ascending; equally many
            for all heads of a layer unless the policy is ragged.
        """


@dataclass(frozen=True)
class Positions(ABC):
    """Which positions tokens have; `name` is its name in the catalogue. Its fields are its options.

    Attributes:
        alone: whether they go with no other part of a plan.
    """

    name: ClassVar[str]
    alone: ClassVar[bool] = False

    def fitted(self, trained_tokens: int) -> Positions:
        """These positions, with the lengths that they take from a model trained with texts of `trained_tokens`.

        Raises:
            ValueError: they are not for such a model; the message says what is wrong with it.
        """
        return self

    @property
    def piece_tokens(self) -> int:
        """Prompts are computed in pieces of so many tokens, which choose together what they read; 0: no matter how."""
        return 0

    @abstractmethod
    def window_tokens(self, trained_tokens: int) -> int:
        """The longest text for a model that was trained with texts of `trained_tokens`."""

    def reach_tokens(self, trained_tokens: int) -> int:
        """So many positions lie between a key and a query at most, both included."""
        return self.window_tokens(trained_tokens)

    @abstractmethod
    def rope(self, parameters: Mapping[str, Any], trained_tokens: int, width: int) -> dict[str, Any]:
        """The model's rotary settings for these positions.

        Args:
            parameters: the model's own, `rope_parameters` of transformers' configurations, of type `default`.
            trained_tokens: the longest text that the model was trained with.
            width: how many channels of a head are rotated.
        """


class Deviation(NamedTuple):
    """How far the KV of tokens that were read apart lies from what it is in the whole prompt, in one layer.

    Attributes:
        keys: the squared distance of each token's keys, all heads together, fp32 `[T]`.
        values: of its values.
    """

    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Joining(ABC):
    """What is computed anew where texts that were read apart stand in one prompt; `name` is its name in the catalogue.

    A joining is a frozen dataclass: its fields are its options. The first text of a prompt has been read as it stands
    there, and what lies between texts is computed in any case: it is asked about the tokens of the others.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def compared_layer(self) -> int | None:
        """The layer whose KV it wants compared: up to there everything is computed for all tokens. None for none."""

    @abstractmethod
    def choose(self, tokens: int, deviation: Deviation | None) -> torch.Tensor:
        """Which tokens are computed anew.

        Args:
            tokens: how many there are, all texts together.
            deviation: theirs in `compared_layer`; None where that is.

        Returns:
            Their numbers, ascending.
        """


def top_tokens(scores: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The `count` tokens of the highest scores `[Hkv, T]`, ascending, of each head; the earlier ones where equal."""
    order = scores.sort(stable=True, dim=-1, descending=True).indices[:, :count]
    return list(order.sort(-1).values)


def blocks_of(tokens: int) -> int:
    """How many blocks so many tokens take."""
    return -(-tokens // BLOCK_TOKENS)


def at_least(part: AttentionPattern | KVPolicy | ReplySelector | Positions | Joining, **least: float) -> None:
    """Refuse options that are below their least value.

    Raises:
        ValueError: one is; the message names it.
    """
    for name, value in least.items():
        if getattr(part, name) < value:
            raise ValueError(f"{name} must be at least {value:g}, got {getattr(part, name)}")


def ratios(part: AttentionPattern | KVPolicy | ReplySelector | Positions, *names: str) -> None:
    """Refuse options that are no share of something; None is none to look at.

    Raises:
        ValueError: one is not above 0 and at most 1; the message names it.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value}")
