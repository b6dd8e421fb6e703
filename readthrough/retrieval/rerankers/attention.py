"""Reranking by attention: which of many texts in one context the question looks at.

Source: Chen et al., "Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers" (ICR), arXiv 2410.02642:
the attention of the question's tokens to each text, over all heads and layers, less that of a question without content.

Differs from the paper: the texts come in windows where they do not fit one context, and each window's scores stand
for themselves; tokens whose calibrated score is far below the others' are not left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.retrieval.base import Judge
from readthrough.retrieval.rerankers.choices import MARK_TOKENS
from readthrough.retrieval.rerankers.likelihood import CHAT_TOKENS
from readthrough.types import Cost

LOOK = """Here are some texts:

{texts}

Which of them answer this question? {question}"""

NO_QUESTION = "N/A"


@dataclass(frozen=True)
class AttentionReranker:
    """By how much attention the question pays to each of the texts in one context.

    The best text stands nearest to the question. The texts are read once: the question, and the one without content
    that is taken off, cost their own tokens.

    Attributes:
        window_tokens: the most tokens of texts in one context.
    """

    window_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.window_tokens < 1:
            raise ValueError(f"window_tokens must be positive, got {self.window_tokens}")

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """The share of attention that the question pays to a text, beyond what any question would.

        Raises:
            ModelError: the model does not show its attention.
            PromptTooLongError: a text alone is longer than `window_tokens`.
        """
        found = [0.0] * len(texts)
        for window in self._windows(judge, texts):
            order = window[::-1]
            shown = [texts[text] for text in order]
            asked, plain = (
                judge.attention_mass(
                    Request.user(LOOK.format(texts="\n\n".join(shown), question=question)), shown, question
                ).shares
                for question in (query, NO_QUESTION)
            )
            for text, share, base in zip(order, asked, plain, strict=True):
                found[text] = share - base
        return found

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """Every text twice, the second time from kept KV."""
        asked, plain, frame, *read = judge.count_tokens([query, NO_QUESTION, LOOK, *texts])
        held = sum(read) + MARK_TOKENS * len(texts)
        windows = len(self._windows(judge, texts))
        frames = windows * (frame + CHAT_TOKENS)
        return Cost(2 * windows, 2 * (held + frames) + windows * (asked + plain), cached_tokens=held + frames)

    def _windows(self, judge: Judge, texts: Sequence[str]) -> list[list[int]]:
        """The texts in as few windows as they fill, in order; empty ones pay no attention and get none."""
        windows: list[list[int]] = []
        left = 0
        for text, tokens in enumerate(judge.count_tokens(texts)):
            if tokens > self.window_tokens:
                raise PromptTooLongError(
                    f"text {text} has {tokens} tokens, a context takes {self.window_tokens}",
                    hint="raise window_tokens, or rerank smaller chunks",
                )
            if not texts[text]:
                continue
            if not windows or tokens > left:
                windows.append([])
                left = self.window_tokens
            windows[-1].append(text)
            left -= tokens
        return windows
