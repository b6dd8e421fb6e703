"""EHPC: the few heads that find a needle pick the tokens of a prompt.

Source: Fei et al., "Efficient Prompt Compression with Evaluator Heads for Long-Context Transformer Inference", arXiv
2501.12959, sections 3.4 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from readthrough.compression.prompt.attentive import keep_noticed, pooled
from readthrough.compression.prompt.base import (
    SEPARATOR,
    AttentiveScorer,
    Ids,
    Kept,
    PromptCompressor,
    Scorer,
    Scores,
    Shares,
    attentive,
)

NEEDLE = " The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
ASKED = "Based on the content above, what is the best thing to do in San Francisco?\nAnswer:"
DEPTHS = tuple(step / 10 for step in range(1, 10))

_HAY = (
    " The ferry left the harbour at seven and crossed the bay in an hour.",
    " A bill for the repair of the roof was paid in the second week of March.",
    " Most of the letters in the archive were written by clerks who never signed them.",
    " Water boils at a lower temperature on a mountain than at the coast.",
    " The committee met twice, and each time put off its decision.",
    " Her brother kept bees behind the mill, and sold the honey in town.",
    " Nobody could say when the old bridge had been closed to carts.",
    " The second edition corrects some errors of the first, and adds an index.",
    " In autumn the lower fields are flooded, and cranes rest there.",
    " He had learned the trade from his uncle, a maker of barrels.",
    " The timetable was changed so often that travellers ceased to read it.",
)

_found: WeakKeyDictionary[AttentiveScorer, dict[tuple[int, int, int], tuple[int, tuple[int, ...]]]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class EHPC(PromptCompressor):
    """The tokens that a model's evaluator heads attend to (EHPC, arXiv 2501.12959, equations 1 and 2).

    The heads are those of one layer that attend most to a needle in a text, asked for it at nine depths. The texts and
    the question are read up to that layer only. Of each head the attention of the last `window_tokens` tokens is
    averaged over these and over neighbours; the tokens of the highest sum over the heads are kept.

    Differs from the paper: words are kept whole (`whole_words`), by their best token. The needle lies in sentences of
    our own, `probe_tokens` of them (there essays, 16,000), which a model reads once in the life of the process. The
    question is kept by who asks and not a part of the budget (there the window's tokens are appended and the others
    compete). The prompt is plain text, not a chat. A text longer than the window is read in parts. The authors' code is
    not public: a description of what they submitted with the paper was followed.

    Attributes:
        layer: the evaluator heads', from 0; None finds it.
        heads: their numbers; none finds them.
        head_count: how many are found (8 of 32 there).
        window_tokens: how many last tokens ask.
        pool_tokens: over how many neighbours attention is averaged.
        probe_tokens: the length of the text with the needle.
        whole_words: False keeps and drops single tokens, as the paper does.
    """

    name = "ehpc"

    layer: int | None = None
    heads: tuple[int, ...] = ()
    head_count: int = 8
    window_tokens: int = 16
    pool_tokens: int = 32
    probe_tokens: int = 2000
    whole_words: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        if (self.layer is None) != (not self.heads):
            raise ValueError("layer and heads are given together, or found together")
        if self.layer is not None and min(self.layer, *self.heads) < 0:
            raise ValueError(f"layer and heads are numbered from 0, got {self.layer} and {self.heads}")
        for option in ("head_count", "window_tokens", "pool_tokens", "probe_tokens"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, got {getattr(self, option)}")

    def select(self, scorer: Scorer, texts: Sequence[str], question: str, target_tokens: int) -> list[Kept]:
        """See `PromptCompressor.select`.

        Raises:
            ConfigError: the model does not show its attention.
            UsageError: there is no question.
            PromptTooLongError: the question leaves no room in the window.
        """
        shown = attentive(scorer, self.name)

        def judge(prompt: Ids, tokens: int) -> Scores:
            layer, heads = self.evaluators(shown)
            found: list[Scores] = []

            def see(number: int, shares: Shares) -> None:
                means = shares[list(heads)].mean(1, dtype=np.float64)
                found.append(pooled(means, self.pool_tokens).sum(0))

            shown.read_attention(prompt, self.window_tokens, [layer], see)
            return found[0]

        return keep_noticed(scorer, texts, question, (target_tokens, self.whole_words), judge)

    def evaluators(self, scorer: AttentiveScorer) -> tuple[int, tuple[int, ...]]:
        """The layer and the heads that are used on a model."""
        if self.layer is not None:
            return self.layer, self.heads
        known = _found.setdefault(scorer, {})
        key = (self.head_count, self.window_tokens, self.probe_tokens)
        if key not in known:
            scores = np.mean([self._needle_scores(scorer, depth) for depth in DEPTHS], 0)
            layer = int(scores.sum(1).argmax())
            known[key] = layer, tuple(np.argsort(-scores[layer], kind="stable")[: self.head_count].tolist())
        return known[key]

    def _needle_scores(self, scorer: AttentiveScorer, depth: float) -> Scores:
        """What each head, `[layers, H]`, pays to the needle at a depth of a text."""
        asked = scorer.tokenize(SEPARATOR + ASKED).ids
        prompt, needle = hay_with_needle(scorer, depth, min(self.probe_tokens, scorer.window_tokens - len(asked)))
        found: list[Scores] = []

        def see(number: int, shares: Shares) -> None:
            found.append(shares[:, :, needle].mean(1, dtype=np.float64).sum(-1))

        layers = range(scorer.attention_layers)
        scorer.read_attention(np.concatenate([prompt, asked]), self.window_tokens, layers, see)
        return np.array(found)


def hay_with_needle(scorer: Scorer, depth: float, most_tokens: int) -> tuple[Ids, slice]:
    """Sentences of at most so many tokens with the needle between two of them, and where it is."""
    needle = scorer.tokenize(NEEDLE).ids
    sentences = [scorer.tokenize(sentence).ids for sentence in _HAY]
    parts: list[Ids] = []
    held = len(needle)
    while held + len(sentences[len(parts) % len(sentences)]) <= most_tokens:
        parts.append(sentences[len(parts) % len(sentences)])
        held += len(parts[-1])
    before = round(depth * len(parts))
    start = sum(map(len, parts[:before]))
    return np.concatenate([*parts[:before], needle, *parts[before:]]), slice(start, start + len(needle))
