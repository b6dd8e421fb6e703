"""Prompt-lookup drafts: what followed the last few tokens when they occurred before.

Saxena, "Prompt Lookup Decoding" (2023); the same idea as transformers' `prompt_lookup_num_tokens`. Differs:
the latest occurrence is taken, not the first.
"""

from __future__ import annotations

import numpy as np

from readthrough.models.local.prompts import Tokens

NGRAM_TOKENS_MAX = 3


class Lookup:
    """The tokens of one sequence, prompt and reply, with room for `max_tokens` more."""

    def __init__(self, prompt: Tokens, max_tokens: int) -> None:
        self._tokens = np.empty(len(prompt) + max_tokens, dtype=np.int64)
        self._tokens[: len(prompt)] = prompt
        self._length = len(prompt)

    @property
    def tokens(self) -> Tokens:
        """All tokens so far."""
        return self._tokens[: self._length]

    def push(self, token: int) -> None:
        """Take in the next token."""
        self._tokens[self._length] = token
        self._length += 1

    def draft(self, tokens: int) -> Tokens:
        """At most `tokens` tokens that are likely to come next; empty where nothing like the end was seen."""
        seen = self.tokens
        for size in range(min(NGRAM_TOKENS_MAX, self._length - 1), 0, -1):
            ends = np.flatnonzero(seen[size - 1 : -1] == seen[-1])
            for back in range(1, size):
                ends = ends[seen[ends + size - 1 - back] == seen[-1 - back]]
            if len(ends):
                start = int(ends[-1]) + size
                return seen[start : start + tokens].copy()
        return seen[:0]
