"""The extension point of prompt compressors, the scorer that they are handed, and what they give back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from readthrough.errors import ConfigError

Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

SEPARATOR = "\n\n"
"""What stands between the texts of a prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedText:
    """The tokens of a text.

    Attributes:
        ids: `[n]`.
        starts: `[n]`, where in the text each begins, in characters and never decreasing. Tokens that share a character
            begin alike: only what lies between two different starts can stand by itself.
    """

    ids: Ids
    starts: npt.NDArray[np.int64]


class Scorer(Protocol):
    """A language model, as compressors need it: plain text, no chat template. `LocalModel` is one."""

    window_tokens: int

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of a text by itself, without special ones."""
        ...

    def token_logprobs(self, prompts: Sequence[Ids], first: Sequence[int]) -> list[Scores]:
        """Of each prompt, log p(token | all tokens before it) of the tokens from `first` on.

        A token that has nothing before it gets nan.

        Raises:
            PromptTooLongError: a prompt is longer than the window.
        """
        ...


Shares = npt.NDArray[np.float32]
"""Attention of the last tokens of a prompt in one layer, `[H, W, T]`: by head, asking token, token that is read."""


class AttentiveScorer(Scorer, Protocol):
    """A scorer that shows what a prompt's last tokens attend to. `LocalModel` is one, with a dense plan."""

    @property
    def attention_layers(self) -> int:
        """How many layers it has."""
        ...

    def read_attention(
        self,
        prompt: Ids,
        last_tokens: int,
        layers: Sequence[int],
        see: Callable[[int, Shares], None],
        *,
        products: bool = False,
    ) -> None:
        """Read a prompt, as plain text, up to the last of the layers that are asked for and no further.

        Args:
            prompt: its tokens, `[T]`.
            last_tokens: how many tokens W at its end are asked about; all of a shorter prompt.
            layers: the layers, numbered from 0.
            see: is told a layer's number and its attention `[H, W, T]`, layer by layer.
            products: show the scaled products of queries and keys (-inf where a key is not seen), not their softmax.

        Raises:
            PromptTooLongError: the prompt is longer than the window.
            ModelError: the model's attention cannot be shown.
        """
        ...


def attentive(scorer: Scorer, compressor: str) -> AttentiveScorer:
    """The scorer, if it shows attention.

    Raises:
        ConfigError: it does not.
    """
    if not hasattr(scorer, "read_attention"):
        raise ConfigError(
            f"{compressor} needs a model that shows its attention, which {type(scorer).__name__} does not",
            hint="score with a local model",
        )
    return cast(AttentiveScorer, scorer)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of the text number `text`."""

    text: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Kept(Span):
    """A piece that a compressor keeps; where the budget is exceeded, pieces of low `score` go first."""

    score: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Compressed:
    """What is left of some texts. Nothing in it is written by a model.

    Attributes:
        spans: what was kept, in the order of the compressed text; the spans of a text are in order and do not touch.
        text: the spans as they stand in their texts, a blank line between two texts.
        tokens: how many tokens `text` has.
        source_tokens: how many tokens the texts have, with blank lines between them.
    """

    spans: tuple[Span, ...]
    text: str
    tokens: int
    source_tokens: int

    @property
    def dropped_tokens(self) -> int:
        """How many tokens of the texts are no longer there."""
        return self.source_tokens - self.tokens


@dataclass(frozen=True)
class PromptCompressor(ABC):
    """Shortens texts to a budget of tokens; `name` is its name in the catalogue.

    A compressor is a frozen dataclass: its fields are its options.
    """

    name: ClassVar[str]

    @abstractmethod
    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """What to keep, in the order of the compressed text; the pieces of a text side by side and in their order.

        Args:
            scorer: the model.
            texts: texts that are longer than the budget together; some may be empty.
            question: what the texts are read for.
            target_tokens: the budget, at least 1. What is more is dropped afterwards.
        """

    def compress(
        self,
        scorer: Scorer,
        texts: Sequence[str],
        question: str = "",
        *,
        target_tokens: int | None = None,
        ratio: float | None = None,
    ) -> Compressed:
        """Shorten the texts; the question is not a part of the result.

        Texts within the budget come back as they are. The budget holds for the result as the scorer's tokenizer counts
        it, the blank lines between texts included.

        Args:
            scorer: the model whose probabilities decide.
            texts: the texts; an empty one leaves no trace.
            question: what the texts are read for.
            target_tokens: the most tokens of the result.
            ratio: in place of it, the most that may be left, as a share of the texts' tokens.

        Raises:
            ConfigError: the budget is no budget, or not given in exactly one way.
            UsageError: the compressor needs a question, and there is none.
            PromptTooLongError: the question leaves no room in the scorer's window.
        """
        _check_budget(target_tokens, ratio)
        whole = [Kept(number, 0, len(text), 0.0, 0) for number, text in enumerate(texts) if text]
        everything = _cut(texts, whole)
        source_tokens = len(scorer.tokenize(everything).ids)
        target = int(source_tokens * ratio) if ratio is not None else target_tokens or 0
        if source_tokens <= target:
            return Compressed(_spans(whole), everything, source_tokens, source_tokens)
        if target < 1:
            raise ConfigError(
                f"ratio {ratio} leaves no token of {source_tokens}", hint="give a larger ratio, or target_tokens"
            )
        return _within(scorer, texts, self.select(scorer, texts, question, target), target, source_tokens)


def _check_budget(target_tokens: int | None, ratio: float | None) -> None:
    if (target_tokens is None) == (ratio is None):
        raise ConfigError("a prompt compressor needs either target_tokens or ratio")
    if target_tokens is not None and target_tokens < 1:
        raise ConfigError(f"target_tokens must be at least 1, got {target_tokens}")
    if ratio is not None and not 0 < ratio <= 1:
        raise ConfigError(f"ratio must be above 0 and at most 1, got {ratio}")


def _within(
    scorer: Scorer, texts: Sequence[str], pieces: Sequence[Kept], target_tokens: int, source_tokens: int
) -> Compressed:
    """The result, without the pieces of the lowest score as far as it would have more than `target_tokens`.

    A text made of pieces may have more tokens than these, or fewer: it is counted as a whole.
    """
    order = sorted(range(len(pieces)), key=lambda number: (-pieces[number].score, number))
    while True:
        left = [pieces[number] for number in sorted(order)]
        text = _cut(texts, left)
        tokens = len(scorer.tokenize(text).ids)
        over = tokens - target_tokens
        if over <= 0:
            return Compressed(_spans(left), text, tokens, source_tokens)
        while over > 0:
            over -= max(1, pieces[order.pop()].tokens)
            if len(order) <= 1:
                break  # blank lines go with the pieces, so the last one may fit


def _cut(texts: Sequence[str], spans: Iterable[Span]) -> str:
    """The spans as they stand in their texts, a blank line between two texts."""
    groups = groupby(spans, key=lambda span: span.text)
    return SEPARATOR.join("".join(texts[number][span.start : span.end] for span in group) for number, group in groups)


def _spans(pieces: Iterable[Span]) -> tuple[Span, ...]:
    """The pieces as spans, those that touch joined."""
    found: list[Span] = []
    for piece in pieces:
        if found and (found[-1].text, found[-1].end) == (piece.text, piece.start):
            found[-1] = replace(found[-1], end=piece.end)
        else:
            found.append(Span(piece.text, piece.start, piece.end))
    return tuple(found)
