"""SpecPC: the attention of a draft model says which tokens of a prompt a larger model reads.

Source: Galim et al., "Draft-based Approximate Inference for LLMs", arXiv 2506.08373, section 4.2 and algorithm 2, and
its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from readthrough.compression.prompt.attentive import keep_noticed, pooled
from readthrough.compression.prompt.base import Ids, Kept, PromptCompressor, Scorer, Scores, Shares, attentive


@dataclass(frozen=True)
class SpecPC(PromptCompressor):
    """The tokens that a draft model's last tokens attend to, with their neighbours (SpecPC, arXiv 2506.08373).

    The scorer is the draft model: a smaller one of the same family. The highest share that a token gets from any of the
    last `window_tokens` tokens, in any head and any layer from `first_layer` on, the later ones counting more, is
    spread over its neighbours. Tokens are taken in that order, each with its neighbours, the nearest first. What of the
    texts stands in the window comes before all.

    Differs from the paper: words are kept whole (`whole_words`). The question, which ends the window, is kept by who
    asks and not a part of the budget. No token is drafted to look ahead (one in the authors' settings, whose query is
    the window's last). The prompt is plain text, not a chat. A text longer than the window is read in parts.

    Attributes:
        window_tokens: how many last tokens are asked, the question's included.
        pool_tokens: over how many neighbours the highest share counts.
        neighbour_tokens: so many tokens around a chosen one come with it; 0 for none but itself.
        first_layer: earlier ones attend to too many; None takes a third of the model's (8 of 24, as the authors do).
        whole_words: False keeps and drops single tokens, as the paper does.
    """

    name = "specpc"

    window_tokens: int = 64
    pool_tokens: int = 64
    neighbour_tokens: int = 64
    first_layer: int | None = None
    whole_words: bool = True

    def __post_init__(self) -> None:
        least = {"window_tokens": 1, "pool_tokens": 1, "neighbour_tokens": 0}
        for option, value in least.items():
            if getattr(self, option) < value:
                raise ValueError(f"{option} must be at least {value}, got {getattr(self, option)}")
        if self.first_layer is not None and self.first_layer < 0:
            raise ValueError(f"first_layer must be at least 0, got {self.first_layer}")

    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """See `PromptCompressor.select`.

        Raises:
            ConfigError: the model does not show its attention.
            UsageError: there is no question.
            PromptTooLongError: the question leaves no room in the window.
        """
        shown = attentive(scorer, self.name)
        layers = shown.attention_layers
        first = layers // 3 if self.first_layer is None else self.first_layer

        def judge(prompt: Ids, tokens: int) -> Scores:
            most = np.zeros(len(prompt))

            def see(number: int, shares: Shares) -> None:
                weights = np.linspace(0, 1, shares.shape[1]) if shares.shape[1] > 1 else np.ones(1)
                np.maximum(most, (shares * weights[:, None]).max((0, 1)), out=most)

            shown.read_attention(prompt, self.window_tokens, range(min(first, layers - 1), layers), see)
            return self._ranked(most)

        return keep_noticed(scorer, texts, question, (target_tokens, self.whole_words), judge)

    def _ranked(self, most: Scores) -> Scores:
        """The later a token is taken, the lower its score, down from 1."""
        tokens = len(most)
        # as torch pads: an even width reaches one further forward than back
        spread = pooled(most[::-1], self.pool_tokens, largest=True)[::-1]
        around = self._around()
        taken = np.full(tokens, -1)
        window = np.arange(max(0, tokens - self.window_tokens), tokens)
        taken[window] = np.arange(len(window))
        count = len(window)
        for best in np.argsort(-spread, kind="stable").tolist():
            if count == tokens:
                break
            for at in np.clip(best + around, 0, tokens - 1).tolist():
                if taken[at] < 0:
                    taken[at] = count
                    count += 1
        return 1 - taken / tokens

    def _around(self) -> Ids:
        width = self.neighbour_tokens
        if not width:
            return np.zeros(1, dtype=np.int64)
        before = (width - 1) // 2
        offsets = np.arange(-before, width - before)
        return offsets[np.argsort(np.abs(offsets), kind="stable")]
