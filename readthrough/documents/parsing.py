"""Parsing source code with tree-sitter, which counts bytes of UTF-8; everything else here counts characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar
from readthrough.documents.languages import GRAMMARS

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Query

# Beyond this a file is data or minified, and a parse may take long.
PARSED_CHARS = 4_000_000
# What a header of C does not say, and one of C++ does.
_ONLY_CPP = re.compile(r"^\s*(?:(?:class|namespace|template|using)\b|(?:public|private|protected)\s*:)", re.MULTILINE)


@dataclass(frozen=True)
class Tools:
    """What it takes to parse one language and to query the tree."""

    grammar: Grammar
    language: Language
    definitions: Query
    uses: Query


@dataclass(frozen=True)
class Parsed:
    """The tree of a source file, and the bytes that it counts."""

    tools: Tools
    data: bytes
    root: Node

    def characters(self, byte_offsets: Iterable[int]) -> dict[int, int]:
        """Character offsets by byte offset."""
        if self.data.isascii():
            return {offset: offset for offset in byte_offsets}
        offsets: dict[int, int] = {}
        done_bytes = done_chars = 0
        for offset in sorted(set(byte_offsets)):
            done_chars += len(self.data[done_bytes:offset].decode("utf-8", "replace"))
            done_bytes = offset
            offsets[offset] = done_chars
        return offsets


def parse(text: str, language: str | None) -> Parsed | None:
    """The tree of a text; None where there is no grammar for the language, or the text is too long to be code."""
    if language is None or len(text) > PARSED_CHARS:
        return None
    tools = _tools("cpp" if language == "c" and _ONLY_CPP.search(text) else language)
    if tools is None:
        return None
    from tree_sitter import Parser

    data = text.encode("utf-8", "replace")
    return Parsed(tools, data, Parser(tools.language).parse(data).root_node)


def parseable(language: str | None) -> bool:
    """Whether the grammar of a language is there."""
    return language is not None and _tools(language) is not None


@cache
def _tools(language: str) -> Tools | None:
    if language not in GRAMMARS:
        return None
    try:
        from tree_sitter import Language, Query

        grammar: Grammar = import_module(f"readthrough.documents.grammars.{language}").GRAMMAR
        made = Language(getattr(import_module(grammar.module), grammar.function)())
    except ImportError:
        return None
    return Tools(grammar, made, Query(made, grammar.definitions), Query(made, grammar.uses))
