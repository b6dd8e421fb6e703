"""Code in functions, functions in blocks of lines, and which blocks fit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

EXACT_ITEMS = 100
EXACT_TOKENS = 2000
"""Larger knapsacks are filled by value a token."""

# Where a function, class, structure or implementation begins, in the usual languages: at the beginning of a line.
_BEGINS = re.compile(
    r"""^[ \t]*+(?:
        (?:async[ \t]+)?def[ \t] | class[ \t]                                                             # Python
      | (?:(?:export|default|public|private|protected|static|final|abstract|async)[ \t]+)*+
        (?:function\b | class[ \t] | interface[ \t])                                              # TypeScript, Java
      | (?:pub(?:\([a-z]+\))?[ \t]+)?(?:async[ \t]+)?(?:fn|struct|enum|trait|impl)\b                       # Rust
      | func\b | type[ \t]+\w+[ \t]+(?:struct|interface)\b                                                   # Go
      | (?:(?:public|private|protected|static|final|abstract|virtual|inline|const|unsigned)[ \t]+)*+
        (?!(?:return|else|throw|new|case|goto|delete|await|yield|in|if|while|for|switch)\b)
        [A-Za-z_][\w:<>,\[\]*&]*+[ \t*&]+[A-Za-z_~][\w:]*+[ \t]*+\([^;{}()\n]*+\)[^;{\n]*+\{           # C, C++, Java
    )""",
    re.VERBOSE | re.MULTILINE,
)
_DEFINITIONS = ("def ", "class ", "function ", "fn ", "func ")
_COMMENTS = ("#", "//")


def function_spans(text: str) -> list[tuple[int, int]]:
    """A text divided where functions and classes begin, side by side; one span where it has none of them."""
    if not text:
        return []
    starts = [match.start() for match in _BEGINS.finditer(text)]
    if starts and text[: starts[0]].strip():
        starts.insert(0, 0)
    return list(pairwise([0, *starts[1:], len(text)]))


def blocks_of_lines(text: str, perplexities: Sequence[float], spike_weight: float) -> list[int]:
    """Where blocks of lines begin: behind lines more perplexing than both neighbours, and far more than one.

    Far is above the mean of all lines that are perplexing at all by so many standard deviations; 0.5 where there are
    fewer than three.
    """
    values = [value for value in perplexities if math.isfinite(value) and value > 0]
    far = float(np.mean(values) + spike_weight * np.std(values)) if len(values) >= 3 else 0.5
    begins = [0, *(place + 1 for place, letter in enumerate(text) if letter == "\n" and place + 1 < len(text))]
    found = [0]
    for line in range(1, len(begins) - 1):
        rises = [perplexities[line] - perplexities[beside] for beside in (line - 1, line + 1)]
        if min(rises) >= 0 and max(rises) >= far:
            found.append(begins[line + 1])
    return found


def is_marked(block: str) -> bool:
    """Whether the first line of a block that is not blank is a definition, a comment or a return."""
    first = next((line for line in block.split("\n") if line.strip()), "")
    defines = any(word in first for word in _DEFINITIONS)
    return defines or first.strip().startswith(_COMMENTS) or "return " in first


def knapsack(tokens: Sequence[int], values: Sequence[float], room_tokens: int) -> set[int]:
    """Which items of the greatest sum of values fit; by value a token where they are many."""
    if room_tokens <= 0:
        return set()
    order = sorted(range(len(tokens)), key=lambda item: -values[item] / max(tokens[item], 1))
    if len(tokens) > EXACT_ITEMS or room_tokens > EXACT_TOKENS:
        chosen = set()
        for item in order:
            if tokens[item] <= room_tokens:
                chosen.add(item)
                room_tokens -= tokens[item]
        return chosen
    best = np.zeros((len(order) + 1, room_tokens + 1))
    for row, item in enumerate(order):
        best[row + 1] = best[row]
        size = tokens[item]
        if size <= room_tokens:
            best[row + 1, size:] = np.maximum(best[row, size:], best[row, : room_tokens + 1 - size] + values[item])
    chosen, left = set(), room_tokens
    for row in range(len(order), 0, -1):
        if best[row, left] != best[row - 1, left]:
            chosen.add(order[row - 1])
            left -= tokens[order[row - 1]]
    return chosen
