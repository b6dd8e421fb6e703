"""Where in source code some passages stand: the definitions that they are of, and the names that these use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from readthrough.retrieval.code.graph import CodeGraph
from readthrough.retrieval.code.ranking import asks_for_tests, is_test
from readthrough.types import Chunk

SHORT_NAME = 3
"""Names of so few letters say nothing where they stand alone."""

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Place:
    """A definition that a passage is of.

    Attributes:
        document: its id.
        path: the file, as quotes name it.
        line: the line (from 1) of the definition's name.
        name: its name behind those of the definitions around it: `Session.send`.
        uses: names that the passage uses, as they stand there (`self.lamp.light`), the most telling first.
    """

    document: str
    path: str
    line: int
    name: str
    uses: tuple[str, ...]


def places(graph: CodeGraph, chunks: Iterable[Chunk], known: str = "", uses: int = 3) -> Iterator[Place]:
    """The innermost definitions that chunks of source code are of, in the order of the chunks, each once.

    Those of tests come last, unless `known` speaks of tests.

    Args:
        graph: the files.
        chunks: passages, best first; those of other texts are passed over.
        known: the question and what is known; its names are not told as uses.
        uses: how many used names are told of each place.
    """
    told = set(_IDENTIFIER.findall(known))
    seen: set[int] = set()
    for chunk in _tests_last(graph, chunks, known):
        file = graph.number(chunk.document)
        if file is None:
            continue
        for number in graph.innermost(file, chunk.start, chunk.end):
            if number in seen:
                continue
            seen.add(number)
            made = graph.definitions[number]
            start, end = max(made.start, chunk.start), min(made.end, chunk.end)
            used = _used(graph, file, chunk.text[start - chunk.start : end - chunk.start], told | {made.name})
            name = ".".join(made.path)
            yield Place(chunk.document, graph.files[file].path, made.line, name, tuple(used[:uses]))


def _tests_last(graph: CodeGraph, chunks: Iterable[Chunk], question: str) -> list[Chunk]:
    if asks_for_tests(question):
        return list(chunks)
    files = ((chunk, graph.number(chunk.document)) for chunk in chunks)
    return [
        chunk for chunk, file in sorted(files, key=lambda of: of[1] is not None and is_test(graph.files[of[1]].path))
    ]


def _used(graph: CodeGraph, file: int, text: str, told: set[str]) -> Sequence[str]:
    """The names in a text that the file refers to, as they first stand there, the most telling first."""
    references = graph.files[file].symbols.references
    used: dict[str, str] = {}
    for found in _DOTTED.findall(text):
        for part in found.split("."):
            if part in references and part not in told and len(part) > SHORT_NAME:
                used.setdefault(part, found)
    best = sorted(used, key=lambda name: -graph.weight(name, 1))
    return list(dict.fromkeys(used[name] for name in best))
