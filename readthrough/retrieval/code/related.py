"""What found passages of source code rest on: the definitions that they use, or import by name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from readthrough.retrieval.code.graph import UNNAMED_RATIO, CodeGraph
from readthrough.types import Chunk

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def rests_on(graph: CodeGraph, chunks: Sequence[Chunk]) -> list[tuple[int, float]]:
    """The definitions that chunks use or import, as (number, score), best first; without those that they hold.

    A definition scores by how telling its name is, how often it is used, how few others the name may mean, and how
    far in front the chunks stand that use it.
    """
    scores: dict[int, float] = defaultdict(float)
    for place, chunk in enumerate(chunks, 1):
        file = graph.number(chunk.document)
        if file is None:
            continue
        used = graph.files[file].symbols.references
        taken = {name for made in graph.files[file].symbols.imports for name in made.names}
        for name, uses in Counter(_IDENTIFIER.findall(chunk.text)).items():
            if name in used or name in taken:
                meant = graph.meant(file, name)
                for number in meant:
                    ratio = 1.0 if graph.may_be_meant(file, number) else UNNAMED_RATIO
                    scores[number] += ratio * graph.weight(name, uses) / len(meant) / place
    held = [(graph.number(chunk.document), chunk.start, chunk.end) for chunk in chunks]
    for number in list(scores):
        made, file = graph.definitions[number], graph.file_of[number]
        if any(file == other and start <= made.start < end for other, start, end in held):
            del scores[number]
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
