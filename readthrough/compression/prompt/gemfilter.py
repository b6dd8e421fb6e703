"""GemFilter: an early layer's last query picks the tokens that the whole model reads.

Source: Shi et al., "Discovering the Gems in Early Layers: Accelerating Long-Context LLMs with 1000x Input Token
Reduction", arXiv 2409.17422, algorithm 1, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from readthrough.compression.prompt.attentive import keep_noticed, pooled
from readthrough.compression.prompt.base import Ids, Kept, PromptCompressor, Scorer, Scores, Shares, attentive


@dataclass(frozen=True)
class GemFilter(PromptCompressor):
    """The tokens whose keys fit the last query best in one early layer (GemFilter, arXiv 2409.17422).

    The texts and the question are read up to that layer only. The products of the last query with each key, summed over
    the heads, are averaged over neighbours; the tokens of the highest are kept.

    Differs from the paper: words are kept whole (`whole_words`), by their best token. The budget is the texts' alone:
    the question does not compete with them. The prompt is plain text, not a chat. A text longer than the window is read
    in parts, and products of several readings are compared.

    Attributes:
        layer: from 0; None takes two fifths of the model's (13 of 32, as the authors do for Llama 3.1).
        pool_tokens: over how many neighbours products are averaged, odd.
        whole_words: False keeps and drops single tokens, as the paper does.
    """

    name = "gemfilter"

    layer: int | None = None
    pool_tokens: int = 5
    whole_words: bool = True

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 0:
            raise ValueError(f"layer must be at least 0, got {self.layer}")
        if self.pool_tokens < 1 or self.pool_tokens % 2 == 0:
            raise ValueError(f"pool_tokens must be odd and positive, got {self.pool_tokens}")

    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """See `PromptCompressor.select`.

        Raises:
            ConfigError: the model does not show its attention.
            UsageError: there is no question.
            PromptTooLongError: the question leaves no room in the window.
        """
        shown = attentive(scorer, self.name)
        layer = shown.attention_layers * 2 // 5 if self.layer is None else self.layer

        def judge(prompt: Ids, tokens: int) -> Scores:
            found: list[Scores] = []

            def see(number: int, products: Shares) -> None:
                found.append(pooled(products[:, -1].astype(np.float64).sum(0), self.pool_tokens))

            shown.read_attention(prompt, 1, [layer], see, products=True)
            return found[0]

        return keep_noticed(scorer, texts, question, (target_tokens, self.whole_words), judge)
