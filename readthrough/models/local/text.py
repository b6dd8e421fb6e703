"""Tokens to text, one at a time: whole characters only, and an end at a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTEXT_TOKENS = 4
"""Tokens of the prompt that are decoded along: some tokenizers drop the space of a first token."""


class ReplyText:
    """The text of a growing reply.

    Attributes:
        text: the text so far, cut where a stop string began.
        stopped: whether a stop string was met.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.text = ""
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = [string for string in stop if string]
        self._ids = [int(token) for token in prompt[-CONTEXT_TOKENS:]]
        self._decoded_from = 0
        self._decoded_to = len(self._ids)
        self._given = 0

    def push(self, token: int) -> None:
        """Take in the next token. Bytes of an unfinished character wait for the rest."""
        self._ids.append(token)
        before, after = self._decode(self._decoded_to), self._decode(len(self._ids))
        if len(after) > len(before) and not after.endswith("�"):
            self._decoded_from, self._decoded_to = self._decoded_to, len(self._ids)
            self._extend(after[len(before) :])

    def finish(self) -> None:
        """The reply is over: what is left of an unfinished character comes as it is."""
        if not self.stopped:
            self._extend(self._decode(len(self._ids))[len(self._decode(self._decoded_to)) :])
            self._decoded_to = len(self._ids)

    def ready(self, finished: bool) -> str:
        """Text that was not handed out yet and cannot become part of a stop string any more."""
        end = len(self.text) if finished or self.stopped else len(self.text) - self._held()
        piece = self.text[self._given : end]
        self._given = max(self._given, end)
        return piece

    def _decode(self, end: int) -> str:
        ids = self._ids[self._decoded_from : end]
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _extend(self, piece: str) -> None:
        longest = max(map(len, self._stop), default=0)
        search_from = max(0, len(self.text) - longest + 1)
        self.text += piece
        found = [at for at in (self.text.find(string, search_from) for string in self._stop) if at != -1]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def _held(self) -> int:
        """The length of the longest end of the text that is the beginning of a stop string."""
        return max(
            (
                size
                for string in self._stop
                for size in range(1, min(len(string), len(self.text) + 1))
                if self.text.endswith(string[:size])
            ),
            default=0,
        )
