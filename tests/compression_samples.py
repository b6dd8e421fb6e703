"""A scorer without a model, texts of many kinds, and what holds for everything that a prompt compressor gives back."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from readthrough.compression.prompt.base import Compressed, Ids, Scorer, Scores, Shares, TokenizedText
from readthrough.errors import PromptTooLongError

_TOKEN = re.compile(r"[ ]?[A-Za-z0-9]{1,4}|.", re.DOTALL)

DAYS = [
    f"On day {day} the boats went out at dawn, and came back at dusk with {day * 37} baskets of herring for the market."
    for day in range(40)
]
NEEDLE = "Maren Holm kept the lighthouse of Anholt from 1871 on, and her daughter after her."
QUESTION = "Who kept the lighthouse of Anholt?"
TEXTS: dict[str, list[str]] = {
    "documents": [" ".join(DAYS[:8]), " ".join([*DAYS[8:12], NEEDLE, *DAYS[12:16]]), " ".join(DAYS[16:30])],
    "one": [" ".join([*DAYS[:12], NEEDLE, *DAYS[12:24]])],
    "short": [NEEDLE, "A net.", "Salt", "and tar."],
    "with empty ones": ["", *DAYS[:3], "", NEEDLE, ""],
    "scripts": [
        "灯台守はマーレンでした。彼女は島に四十年住んでいました。" * 3,
        "Смотритель маяка жил на острове сорок лет. 👩‍👩‍👧 👍🏽 e\u0301 ﬁ \u202etfel\u202c",
        "حارس المنارة عاش في الجزيرة أربعين عاما. 你好，世界！" * 2,
    ],
    "space": ["\n\n \t first\r\n\r\n\n" + " " * 50 + "last \n\n", " \n ", "\u00a0\u2003x"],
    "no space": ["x" * 300 + ";" * 200, "a=b+c;" * 60],
    "special": ["He wrote <|im_start|>system\nand <|endoftext|> by hand. " * 4, "<|im_end|>"],
}


class WordScorer:
    """Tokens of up to four letters, or a byte; a token is the likelier the more often it has come before."""

    def __init__(self, window_tokens: int = 4096) -> None:
        self.window_tokens = window_tokens
        self.read_tokens = 0

    def tokenize(self, text: str) -> TokenizedText:
        ids, starts = [], []
        for match in _TOKEN.finditer(text):
            raw = match[0].encode("utf-8", "surrogatepass")
            pieces = [raw] if raw.isascii() else [raw[i : i + 1] for i in range(len(raw))]
            ids += [zlib.crc32(piece) for piece in pieces]
            starts += [match.start()] * len(pieces)
        return TokenizedText(np.array(ids, dtype=np.int64), np.array(starts, dtype=np.int64))

    def token_logprobs(self, prompts: Sequence[Ids], first: Sequence[int]) -> list[Scores]:
        return [self._logprobs(prompt.tolist(), start) for prompt, start in zip(prompts, first, strict=True)]

    attention_layers = 3

    def read_attention(
        self,
        prompt: Ids,
        last_tokens: int,
        layers: Sequence[int],
        see: Callable[[int, Shares], None],
        *,
        products: bool = False,
    ) -> None:
        """Two heads; a token attends to the same ones before it, and a little to others as their numbers say."""
        if len(prompt) > self.window_tokens:
            raise PromptTooLongError(f"{len(prompt)} tokens")
        self.read_tokens += len(prompt)
        start = max(0, len(prompt) - last_tokens)
        asking = prompt[start:, None]
        for layer in layers:
            found = []
            for head in range(2):
                other = (prompt * (7 + head) + asking * (13 + layer)) % 101 / 40
                scores = other + (4 + head + layer) * (prompt == asking)
                seen = np.arange(len(prompt)) <= np.arange(start, len(prompt))[:, None]
                scores = np.where(seen, scores, -np.inf)
                shares = np.exp(scores - scores.max(-1, keepdims=True))
                found.append(scores if products else shares / shares.sum(-1, keepdims=True))
            see(layer, np.array(found, dtype=np.float32))

    def _logprobs(self, prompt: list[int], first: int) -> Scores:
        if len(prompt) > self.window_tokens:
            raise PromptTooLongError(f"{len(prompt)} tokens")
        self.read_tokens += len(prompt)
        found: list[float] = []
        counts: dict[int, int] = {}
        for place, token in enumerate(prompt):
            found.append(np.log((counts.get(token, 0) + 0.05) / (place + 50)) if place else np.nan)
            counts[token] = counts.get(token, 0) + 1
        return np.array(found[first:])


def check(scorer: Scorer, texts: Sequence[str], found: Compressed, target_tokens: int) -> None:
    """What every result must keep."""
    assert found.tokens == len(scorer.tokenize(found.text).ids) <= target_tokens
    assert found.source_tokens == len(scorer.tokenize("\n\n".join(text for text in texts if text)).ids)
    order = list(dict.fromkeys(span.text for span in found.spans))
    pieces = [
        "".join(texts[span.text][span.start : span.end] for span in found.spans if span.text == text) for text in order
    ]
    assert found.text == "\n\n".join(pieces)
    for span in found.spans:
        assert 0 <= span.start < span.end <= len(texts[span.text])
    for before, after in pairwise(found.spans):
        assert before.text != after.text or before.end < after.start
    changes = sum(before.text != after.text for before, after in pairwise(found.spans))
    assert changes == max(0, len(order) - 1), "the spans of a text stand side by side"
