"""Token counts without a tokenizer: an estimate that errs upwards, and a bound that no tokenizer goes below."""

from __future__ import annotations

import re

from readthrough.models.base import Request

ESTIMATE_ID = "estimate:scripts-v1"

_MESSAGE_OVERHEAD_TOKENS = 5
_PIECES = re.compile(r"(?P<latin>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<space>\s+)|(?P<mark>[!-~])|(?P<other>[^\s!-~]+)")
_WORD = re.compile(r"[^\W\d_]+")


def estimate_tokens(text: str) -> int:
    """An upper-leaning estimate, made for no tokenizer in particular.

    A Latin word costs a token for every 5 letters begun; an ASCII mark costs one; a number one more than it has
    digits; white space other than a single space, one for every 4 characters begun; any other script, two for every
    5 bytes of UTF-8 (Chinese: 1.2 a character).
    """
    tokens = 0
    for piece in _PIECES.finditer(text):
        kind, length = piece.lastgroup, piece.end() - piece.start()
        if kind == "latin":
            tokens += -(-length // 5)
        elif kind == "digits":
            tokens += length + 1
        elif kind == "space":
            tokens += 0 if piece.group() == " " else -(-length // 4)
        elif kind == "other":
            tokens += -(-len(piece.group().encode("utf-8", "surrogatepass")) * 2 // 5)
        else:
            tokens += 1
    return tokens


def estimate_prompt_tokens(request: Request) -> int:
    """The estimate for a whole chat, with the marks between its turns."""
    texts = [message.content for message in request.messages] + [request.prefill]
    return sum(map(estimate_tokens, texts)) + _MESSAGE_OVERHEAD_TOKENS * (len(request.messages) + 1)


def fewest_prompt_tokens(request: Request) -> int:
    """A count that a whole prompt cannot have fewer tokens than: its words. Tokens do not reach across words."""
    return sum(len(_WORD.findall(message.content)) for message in request.messages)
