"""From requests to tokens: the chat template, and continuations tokenised where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from readthrough.compression.prompt.base import TokenizedText
from readthrough.errors import ModelError, UsageError
from readthrough.models.base import Message, Request

Tokens = npt.NDArray[np.int64]

Spans = tuple[tuple[int, int], ...]
"""Where texts that recur are among a prompt's tokens, each from and to, two or more."""


class Prompts:
    """Renders and tokenises for one tokenizer.

    A tokenizer cuts text at its special tokens before anything else, so what follows the last one can be
    tokenised apart from what precedes it. That makes it cheap to tokenise many continuations of a long prompt.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        ordered = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._encode_head = lru_cache(maxsize=64)(self._encode_one)
        self._splits = self._splits_at_special(ordered)

    def render(self, request: Request) -> str:
        """The whole prompt of a request as text, `prefill` included.

        Raises:
            UsageError: the request has no messages.
            ModelError: the model's chat template refuses the messages.
        """
        if not request.messages:
            raise UsageError("a request needs at least one message")
        if not self.tokenizer.chat_template:
            return self._plain(request)
        try:
            text = self._template(request.messages)
        except TemplateError:
            try:
                text = self._template(without_system(request.messages))
            except TemplateError as error:
                raise ModelError(f"the chat template refuses these messages: {error}") from error
        return text + self.defuse(request.prefill)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of texts that carry their special tokens already."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [np.asarray(ids, dtype=np.int64) for ids in found]

    def continued(self, prompt: str, continuations: Sequence[str]) -> tuple[Tokens, list[Tokens]]:
        """A prompt and its continuations, tokenised as whole strings.

        Returns:
            The tokens that the prompt and all of prompt + continuation begin with (the prompt's own, unless a
            continuation's first letters merge with the prompt's last), and for each continuation the tokens
            that follow them.
        """
        head, tail = self._split(prompt)
        base = self._encode_head(head)
        tails = self.encode([tail, *(tail + self.defuse(text) for text in continuations)])
        common = min((common_length(tails[0], other) for other in tails[1:]), default=len(tails[0]))
        return np.concatenate([base, tails[0][:common]]), [other[common:] for other in tails[1:]]

    def pieced(self, request: Request, continuations: Sequence[str]) -> tuple[Tokens, list[Tokens], Spans]:
        """As `continued` for a request with texts that recur, and where these are.

        What is before, between and behind them is tokenised apart, so that a text has the same tokens wherever it
        stands; the prompt may then differ by a token at their borders from what it is as a whole string. A single
        text gives no spans: it is a prefix like any other.

        Raises:
            UsageError: a text is empty or is not in the messages behind the one before it, or nothing follows the last.
        """
        prompt = self.render(request)
        pieces, at = list[str](), 0
        for text in map(self.defuse, request.reused):
            start = prompt.find(text, at) if text else -1
            if start < 0:
                raise UsageError(
                    f"a reused text is not in the messages, or overlaps the one before it: {text!r:.60}",
                    hint="give the texts in the order in which they stand there, each as often as it does",
                )
            pieces += [prompt[at:start], text]
            at = start + len(text)
        rest, others = self.continued(prompt[at:], continuations)
        if not len(rest):
            raise UsageError("nothing follows the last reused text", hint="ask something about it")
        tokens = self.encode(pieces)
        ends = np.cumsum([len(piece) for piece in tokens]).tolist()
        spans = tuple(zip(ends[::2], ends[1::2], strict=True))
        return np.concatenate([*tokens, rest]), others, spans if len(spans) > 1 else ()

    def joins_pieces(self) -> bool:
        """Whether pieces of a text, each tokenised by itself, make up the text."""
        pieces = ["One", "two three.\n", "\n[4] Five", " six"]
        found: str = self.tokenizer.decode(np.concatenate(self.encode(pieces)), clean_up_tokenization_spaces=False)
        return found == "".join(pieces)

    def between_turns(self) -> str:
        """What stands between the end of a user's turn and the beginning of the model's."""
        mark = "readthrough"
        return self.render(Request.user(mark)).rpartition(mark)[2]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has by itself."""
        return [len(tokens) for tokens in self.encode([self.defuse(text) for text in texts])]

    def located(self, text: str) -> TokenizedText:
        """The tokens of a text by itself, and where in it they begin; a special token spelled out in it is no token.

        Raises:
            ModelError: the tokenizer does not say where its tokens stand.
        """
        if not self.tokenizer.is_fast:
            raise ModelError(f"{type(self.tokenizer).__name__} does not say where in a text its tokens stand")
        found = self.tokenizer(
            self.defuse(text), add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True
        )
        ids = np.asarray(found["input_ids"], dtype=np.int64)
        offsets = np.asarray(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        if self._special is not None:
            # Where a special token was taken apart, one character more stands behind its first.
            added = [match.start() + 1 + i for i, match in enumerate(self._special.finditer(text))]
            offsets = offsets - np.searchsorted(added, offsets, side="left")
        return TokenizedText(ids, _starts(offsets))

    def defuse(self, text: str) -> str:
        """The text with a zero-width space in every special token that is spelled out in it.

        A document that holds `<|im_end|>` must not end a turn. Text without such strings comes back as it is.
        """
        if self._special is None:
            return text
        return self._special.sub(lambda match: match[0][0] + "\u200b" + match[0][1:], text)

    def _template(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": self.defuse(message.content)} for message in messages]
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def _plain(self, request: Request) -> str:
        names = {"system": "System", "user": "User", "assistant": "Assistant"}
        turns = "".join(f"{names[message.role]}: {self.defuse(message.content)}\n\n" for message in request.messages)
        lead = "" if request.prefill.startswith((" ", "\n")) or not request.prefill else " "
        return (self.tokenizer.bos_token or "") + turns + "Assistant:" + lead + self.defuse(request.prefill)

    def _encode_one(self, text: str) -> Tokens:
        return self.encode([text])[0]

    def _split(self, prompt: str) -> tuple[str, str]:
        """The prompt up to its last special token, and the rest."""
        ends = [match.end() for match in self._special.finditer(prompt)] if self._special and self._splits else []
        cut = ends[-1] if ends else 0
        return prompt[:cut], prompt[cut:]

    def _splits_at_special(self, special: Sequence[str]) -> bool:
        """Whether this tokenizer treats what follows a special token as a text of its own."""
        tails = ("A", " A", "\nA", "assistant\n(A")
        pairs = [(token, token + tail, tail) for token in special for tail in tails]
        return all(
            np.array_equal(np.concatenate(self.encode([token, tail])), self._encode_one(both))
            for token, both, tail in pairs
        )


def _starts(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where tokens begin; one that begins within those before it (bytes of one character) begins where they do."""
    if not len(offsets):
        return np.zeros(0, dtype=np.int64)
    ends = np.maximum.accumulate(offsets[:, 1])
    fresh = np.append(True, offsets[1:, 0] >= ends[:-1])
    starts = offsets[:, 0][np.maximum.accumulate(np.where(fresh, np.arange(len(fresh)), 0))]
    starts[starts == starts[0]] = 0
    return starts


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with the system turns put before the first user turn, for templates that know no system."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if system and rest:
        rest[0] = Message(rest[0].role, "\n\n".join([*system, rest[0].content]))
    return rest


def common_length(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences have in common from the start."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size
