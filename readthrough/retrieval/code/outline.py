"""A map of source files: the definitions that matter most, as an outline within a budget of tokens."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from readthrough.documents.base import CountTokens
from readthrough.documents.symbols import Definition
from readthrough.retrieval.code.graph import CodeGraph, shared_folder
from readthrough.retrieval.code.ranking import Ranking

FEWEST_TOKENS_A_LINE = 2
"""No definition takes fewer, which bounds how many are tried."""


@dataclass(frozen=True, slots=True)
class MapFile:
    """A file of a map with those of its definitions that are in it, in the order of the file."""

    path: str
    language: str
    rank: float
    definitions: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class CodeMap:
    """The most important files and definitions, best file first.

    Attributes:
        text: the outline; `tokens` is its length.
        files_left, definitions_left: how many are not in it.
    """

    text: str
    tokens: int
    files: tuple[MapFile, ...]
    files_left: int
    definitions_left: int

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The map as JSON-ready values."""
        files = [
            {
                "path": file.path,
                "language": file.language,
                "rank": file.rank,
                "definitions": [_row(made) for made in file.definitions],
            }
            for file in self.files
        ]
        left = {"files_left": self.files_left, "definitions_left": self.definitions_left}
        return {"tokens": self.tokens, "files": files, **left, "text": self.text}


def _row(made: Definition) -> dict[str, Any]:
    return {"name": ".".join(made.path), "kind": made.kind, "line": made.line, "signature": made.signature}


def draw(graph: CodeGraph, ranking: Ranking, max_tokens: int, count_tokens: CountTokens) -> CodeMap:
    """The map of as many definitions, best first, as fit into `max_tokens`; empty where not even one fits."""
    order = [number for number in ranking.order() if graph.definitions[number].kind != "local"]
    fitting = _map(graph, ranking, order[:0], 0)
    low, high = 0, min(len(order), max_tokens // FEWEST_TOKENS_A_LINE)
    while low < high:
        middle = (low + high + 1) // 2
        tried = _map(graph, ranking, order[:middle], 0)
        tokens = count_tokens([tried.text])[0]
        if tokens <= max_tokens:
            low, fitting = middle, CodeMap(tried.text, tokens, tried.files, tried.files_left, tried.definitions_left)
        else:
            high = middle - 1
    return fitting


def _map(graph: CodeGraph, ranking: Ranking, chosen: Sequence[int], tokens: int) -> CodeMap:
    by_file: dict[int, set[int]] = {}
    for number in chosen:
        file = graph.file_of[number]
        by_file.setdefault(file, set()).update((number, *_around(graph, file, number)))
    files = [
        MapFile(
            graph.files[file].path,
            graph.files[file].language,
            float(ranking.files[file]),
            tuple(graph.definitions[number] for number in sorted(by_file[file])),
        )
        for file in sorted(by_file, key=lambda each: (-ranking.files[each], each))
    ]
    shown = sum(len(file.definitions) for file in files)
    left = len(graph.files) - len(files), len(graph.definitions) - shown
    return CodeMap(_text(files, *left), tokens, tuple(files), *left)


def _around(graph: CodeGraph, file: int, number: int) -> list[int]:
    """The definitions that stand around one."""
    made = graph.definitions[number]
    return [
        other
        for other in graph.of_file(file)
        if other != number and graph.definitions[other].start <= made.start and made.end <= graph.definitions[other].end
    ]


def _text(files: Sequence[MapFile], files_left: int, definitions_left: int) -> str:
    """The outline: paths below the folder that all share, and under each the lines of its definitions."""
    if not files:
        return ""
    folder = shared_folder([file.path for file in files])
    lines = [f"{folder}/:"] if folder else []
    for file in files:
        lines.append(os.path.relpath(file.path, folder) if folder else file.path)
        width = max(len(str(made.line)) for made in file.definitions)
        ends: list[int] = []
        for made in file.definitions:
            while ends and ends[-1] <= made.start:
                ends.pop()
            lines.append(f"{made.line:>{width + 1}} {'  ' * len(ends)}{made.signature}")
            ends.append(made.end)
    if files_left or definitions_left:
        lines.append(f"({definitions_left} more definitions, {files_left} more files)")
    return "\n".join(lines)
