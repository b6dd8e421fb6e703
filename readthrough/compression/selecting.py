"""What the tokens of a reply read: the base of pages' and tokens' selectors, and what the latter are shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch


class ModelShape(NamedTuple):
    """What a part of a plan may ask of a model before weights are loaded.

    Attributes:
        name: the folder's name.
        layers: how many layers attend.
        heads: how many query heads a layer has.
        key_heads: how many key heads.
    """

    name: str
    layers: int
    heads: int
    key_heads: int


@dataclass(frozen=True)
class ReplySelector(ABC):
    """What the tokens of a reply attend to; `name` is its name in the catalogue.

    A selector is a frozen dataclass: its fields are its options. Drafts change nothing: every token chooses for itself,
    or by what the tokens before it remembered.

    Attributes:
        dense_below_tokens: where fewer tokens are held everything is read.
    """

    name: ClassVar[str]

    dense_below_tokens: int = field(default=4096, kw_only=True)

    def applies(self, held_tokens: int) -> bool:
        """Whether something is chosen where so many tokens are held."""
        return held_tokens >= self.dense_below_tokens

    def fitted(self, shape: ModelShape) -> Self:
        """This selector for a model of such a shape.

        Raises:
            ValueError: it is not for such a model; the message says what is wrong with it.
        """
        return self


@dataclass(frozen=True)
class PageSelector(ReplySelector):
    """Which pages of the KV a token of a reply attends to; `name` is its name in the catalogue.

    Every token chooses for itself. The latest pages are always read.

    Attributes:
        page_tokens: the width of a page.
        dense_layers: so many first layers read everything.
        latest_pages: how many whole pages before a token's own are not chosen among, but read.
    """

    page_tokens: int
    dense_layers: int
    latest_pages: ClassVar[int] = 2

    @abstractmethod
    def choose(self, q: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, scale: float) -> torch.Tensor:
        """The pages that are read.

        Args:
            q: queries `[H, 1, D]` of one token, rotated.
            low: the least values of each channel of the keys of every page, `[Hkv, pages, D]`, at least one page.
            high: the greatest values, likewise.
            scale: what the scores are multiplied with.

        Returns:
            Numbers of pages `[Hkv, n]`, ascending.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What one token of a reply may read in one layer: all that is not compressed, its own key the last.

    Attributes:
        layer: the number of the layer, from 0.
        runs: keys `[Hkv, n, D]` of consecutive tokens, rotated: one after the other they are all of them.
        scale: what the scores are multiplied with.
        before: what earlier layers remember of this same token.
    """

    layer: int
    runs: Sequence[torch.Tensor]
    scale: float
    before: Mapping[int, Any] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """How many tokens there are."""
        return sum(run.shape[1] for run in self.runs)

    def keys(self) -> torch.Tensor:
        """The keys of all tokens, `[Hkv, seen, D]`: a copy where there are several runs."""
        return self.runs[0] if len(self.runs) == 1 else torch.cat(list(self.runs), 1)

    def scores(self, q: torch.Tensor) -> torch.Tensor:
        """The scaled scores of queries `[H, 1, D]` with all keys, `[Hkv, G, seen]`, in fp32 (fp64 for fp64)."""
        rows = q.reshape(self.runs[0].shape[0], -1, q.shape[-1])
        found = torch.cat([rows @ run.transpose(1, 2) for run in self.runs], 2)
        return (found if found.dtype == torch.float64 else found.float()) * self.scale


class Chosen(NamedTuple):
    """What a token of a reply reads in one layer.

    Attributes:
        start: all tokens from here on, its own among them.
        tokens: numbers of tokens before `start`, `[Hkv, n]`, each once, -1 where there is none; None for none at all.
        memory: what the next token in this layer is told, and later layers of this token; never changed in place.
    """

    start: int
    tokens: torch.Tensor | None = None
    memory: Any = None


class Prompt(NamedTuple):
    """New tokens of a prompt that is being read, in one layer.

    Attributes:
        q: their queries `[H, T, D]`, rotated.
        lse: the log-sum-exps of their attention, `[H, T]`.
        keys: of all tokens up to the last of them, `[Hkv, n, D]`, rotated.
        scale: what the scores are multiplied with.
    """

    q: torch.Tensor
    lse: torch.Tensor
    keys: torch.Tensor
    scale: float


@dataclass(frozen=True)
class TokenSelector(ReplySelector):
    """Which single tokens a token of a reply attends to; `name` is its name in the catalogue.

    What it remembers of a reply goes from token to token; of drafts that do not come true nothing is remembered.

    Attributes:
        budget_tokens: how many tokens a head reads in each layer, first and latest ones included.
        budget_ratio: the same as a share of what is held, in place of `budget_tokens`.
        sink_tokens: so many first tokens are always read.
        latest_tokens: so many latest tokens are always read, a token's own among them. A budget too small for twice the
            first and the latest is spent on them by half.
        dense_layers: so many first layers read everything.
        reads_prompts: whether it is shown the prompts: they are then read anew for each reply.
    """

    reads_prompts: ClassVar[bool] = False

    budget_tokens: int
    sink_tokens: int
    latest_tokens: int
    budget_ratio: float | None = field(default=None, kw_only=True)
    dense_layers: int = field(default=0, kw_only=True)

    @abstractmethod
    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """What is read.

        Args:
            q: queries `[H, 1, D]` of one token, rotated.
            past: what there is.
            memory: what the token before it remembered in this layer; None for the first.
        """

    def read_prompt(self, prompt: Prompt, memory: Any) -> Any:
        """What is remembered of a piece of a prompt, and `memory`, what was of those before: None for the first."""
        return memory

    def shares(self, seen: int) -> tuple[int, int, int]:
        """How many first tokens, chosen ones and latest ones are read of so many; what is not chosen may be 0."""
        budget = self.budget_tokens if self.budget_ratio is None else int(self.budget_ratio * seen)
        budget = max(1, min(budget, seen))
        sink, latest = min(self.sink_tokens, seen), max(1, self.latest_tokens)
        if budget < seen and 2 * (sink + latest) > budget:
            fixed = max(1, budget // 2)
            sink = sink * fixed // (sink + latest)
            latest = fixed - sink
        latest = min(latest, seen - sink)
        return sink, max(0, min(budget - sink - latest, seen - sink - latest)), latest

    def check(self) -> None:
        """Refuse options that all selectors of tokens have, where they are wrong.

        Raises:
            ValueError: one is; the message names it.
        """
        for name, least in (
            ("budget_tokens", 1),
            ("sink_tokens", 0),
            ("latest_tokens", 1),
            ("dense_layers", 0),
            ("dense_below_tokens", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.budget_ratio is not None and not 0 < self.budget_ratio <= 1:
            raise ValueError(f"budget_ratio must be above 0 and at most 1, got {self.budget_ratio}")


def with_sink(sink: int, tokens: torch.Tensor) -> torch.Tensor:
    """The first `sink` tokens, and tokens `[Hkv, n]` behind them, ascending."""
    first = torch.arange(sink, device=tokens.device).expand(tokens.shape[0], -1)
    return torch.cat([first, tokens.sort(-1).values], 1)
