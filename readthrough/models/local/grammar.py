"""Completions that satisfy a JSON Schema: llguidance says which tokens may come next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llguidance.hf
import llguidance.numpy
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer

from readthrough.errors import UsageError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# As models write JSON on one line. Free whitespace invites a small model to write nothing else.
_STYLE: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def grammar_tokenizer(tokenizer: Any, vocabulary: int) -> LLTokenizer:
    """llguidance's view of a tokenizer (a second of work; make it once a model)."""
    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=max(vocabulary, len(tokenizer)))


class SchemaGrammar:
    """The state of one constrained completion.

    Raises:
        UsageError: the schema is not one that can be followed.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: dict[str, Any]) -> None:
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=_STYLE)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the JSON Schema cannot be followed: {error}") from error
        self._matcher = LLMatcher(tokenizer, grammar)
        self._mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
        self._check()

    @property
    def done(self) -> bool:
        """Whether the value is complete and nothing more may come."""
        return bool(self._matcher.is_stopped())

    def allowed(self, vocabulary: int, device: torch.device) -> torch.Tensor:
        """Which of the `vocabulary` tokens may come next, as bool `[vocabulary]`."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8)[0], bitorder="little")[:vocabulary]
        return torch.from_numpy(bits.astype(np.bool_)).to(device)

    def forced(self) -> list[int]:
        """The tokens that must come next where the schema leaves no choice."""
        return list(self._matcher.compute_ff_tokens())

    def push(self, token: int) -> None:
        """Take in the token that was chosen."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if problem := self._matcher.get_error():
            raise UsageError(f"the JSON Schema cannot be followed: {problem}")
