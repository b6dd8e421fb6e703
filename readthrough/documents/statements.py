"""Where statements of source code begin, for those who must cut it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from readthrough.documents.parsing import parse

if TYPE_CHECKING:
    from tree_sitter import Node

_FIRST = re.compile(rb"^[ \t\f]*(?=\S)", re.MULTILINE)


def inner_lines(text: str, language: str | None) -> frozenset[int]:
    """The offsets of the lines that begin inside of a statement, or behind the head of one: worse places to cut.

    Empty where there is no grammar for the language.
    """
    parsed = parse(text, language)
    if parsed is None:
        return frozenset()
    blocks = parsed.tools.grammar.blocks
    lines = ((line.start(), line.end()) for line in _FIRST.finditer(parsed.data))
    inner = [start for start, first in lines if not _begins(parsed.root, first, blocks)]
    return frozenset(parsed.characters(inner).values())


def _begins(root: Node, first: int, blocks: frozenset[str]) -> bool:
    """Whether a statement or declaration begins at the byte `first`."""
    node = root.descendant_for_byte_range(first, first + 1)
    if node is not None and not node.is_named and node.parent is not None and node.parent.start_byte < first:
        return False  # a closing bracket
    while node is not None and node.start_byte == first:
        parent = node.parent
        if parent is None or (parent.type in blocks and (parent.start_byte < first or parent.parent is None)):
            return True
        node = parent
    return False
