"""Reranking by a cross-encoder: a small model that was trained to read query and text together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from readthrough.errors import ModelError
from readthrough.retrieval.base import Judge
from readthrough.retrieval.embedders import folder
from readthrough.types import Cost


@dataclass(frozen=True)
class CrossEncoderReranker:
    """By a sentence-transformers cross-encoder, loaded on first use; the workflow's model is not asked.

    A pair that is longer than the encoder reads is scored in pieces of the text, and the best piece counts.

    Attributes:
        name: a hub id, or a folder with its weights.
        batch: how many pairs are scored at once.
    """

    name: str
    batch: int = 32

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name must be a hub id or a folder")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """The encoder's logits.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
            ModelError: there is no such encoder, it gives no single score, or the query alone fills its window.
        """
        pieces = [(owner, piece) for owner, text in enumerate(texts) for piece in self._pieces(query, text)]
        found = [float("-inf")] * len(texts)
        pairs = [(query, piece) for _, piece in pieces]
        logits = self._encoder.predict(pairs, batch_size=self.batch, show_progress_bar=False) if pairs else []
        for (owner, _), logit in zip(pieces, logits, strict=True):
            found[owner] = max(found[owner], float(logit))
        return found

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """Nothing of the workflow's model."""
        return Cost()

    @cached_property
    def _encoder(self) -> Any:
        library = folder.library()
        import torch

        try:
            encoder = library.CrossEncoder(self.name, activation_fn=torch.nn.Identity())
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the cross-encoder {self.name!r} cannot be loaded: {error}",
                hint="name a hub id, or a folder with config.json, weights and tokenizer",
            ) from error
        if encoder.num_labels != 1:
            raise ModelError(
                f"{self.name} gives {encoder.num_labels} scores a pair, a reranker gives one",
                hint="choose a cross-encoder that was trained to rank",
            )
        return encoder

    @cached_property
    def _room_tokens(self) -> int:
        """The most tokens of a pair."""
        positions = getattr(self._encoder.config, "max_position_embeddings", None)
        return int(min(self._encoder.tokenizer.model_max_length, positions or math.inf))

    def _pieces(self, query: str, text: str) -> list[str]:
        """The text in pieces that fit beside the query, cut at spaces near their middles."""
        if self._tokens(query, text) <= self._room_tokens:
            return [text]
        middle = len(text) // 2
        if not middle:
            raise ModelError(
                f"the query leaves no room in the {self._room_tokens} tokens of {self.name}",
                hint="ask a shorter question",
            )
        cut = text.rfind(" ", middle // 2, middle) + 1 or middle
        return [*self._pieces(query, text[:cut]), *self._pieces(query, text[cut:])]

    def _tokens(self, query: str, text: str) -> int:
        return len(self._encoder.tokenizer(query, text, truncation=False, verbose=False)["input_ids"])
