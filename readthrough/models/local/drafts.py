"""Prompt-lookup drafts: what followed the last few tokens when they occurred before.

Saxena, "Prompt Lookup Decoding" (2023); the same idea as transformers' `prompt_lookup_num_tokens`. Differs:
the latest occurrence is taken, not the first; and a draft is short, the shorter the fewer tokens were found, until one
has come true to its end: then what is written is being copied, and the next may be as long as it can be. Each row of a
pass that is for nothing takes time.
"""

from __future__ import annotations

import numpy as np

from readthrough.models.local.prompts import Tokens

NGRAM_TOKENS_MAX = 3
FIRST_TOKENS = (2, 4, 7)
"""The most tokens of a draft where the one before did not come true, by how many of the last tokens were found."""


class Lookup:
    """The tokens of one sequence, prompt and reply, with room for `max_tokens` more."""

    def __init__(self, prompt: Tokens, max_tokens: int) -> None:
        self._tokens = np.empty(len(prompt) + max_tokens, dtype=np.int64)
        self._tokens[: len(prompt)] = prompt
        self._length = len(prompt)
        self._drafted, self._drafted_at = self._tokens[:0], 0

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
        written = self._tokens[self._drafted_at : self._length][: len(self._drafted)]
        copying = len(self._drafted) > 0 and np.array_equal(written, self._drafted)
        start, size = self._found()
        most = tokens if copying or not size else min(tokens, FIRST_TOKENS[size - 1])
        self._drafted, self._drafted_at = self.tokens[start : start + most].copy(), self._length
        return self._drafted

    def _found(self) -> tuple[int, int]:
        """Where what followed the last few tokens stands, and how many these are; the end, and 0, where nowhere."""
        seen = self.tokens
        for size in range(min(NGRAM_TOKENS_MAX, self._length - 1), 0, -1):
            ends = np.flatnonzero(seen[size - 1 : -1] == seen[-1])
            for back in range(1, size):
                ends = ends[seen[ends + size - 1 - back] == seen[-1 - back]]
            if len(ends):
                return int(ends[-1]) + size, size
        return self._length, 0
