"""Chunks of source code by tokens: whole lines, ending with definitions, empty lines or statements where that fits."""

from __future__ import annotations

from collections.abc import Mapping

from readthrough.documents.chunkers.tokens import TokenChunker, boundaries
from readthrough.documents.packing import Level
from readthrough.documents.sentences import line_spans
from readthrough.documents.statements import inner_lines
from readthrough.types import Document


class CodeChunker(TokenChunker):
    """Splits at definitions (the document's sections), empty lines, statements, lines; arguments as `TokenChunker`."""

    name = "code"
    version = 2

    def _boundaries(self, document: Document) -> Mapping[int, Level]:
        text, inner = document.text, inner_lines(document.text, document.language)
        levels: dict[int, Level] = {}
        for start, level in boundaries(document, line_spans(text)).items():
            # A line belongs to its indentation, so that a chunk can be read, and put back, as it stands.
            line_start = text.rfind("\n", 0, start) + 1
            moved = line_start if not text[line_start:start].strip() else start
            found = Level.LINE if level is Level.SENTENCE and moved in inner else level
            levels[moved] = max(found, levels.get(moved, Level.CUT))
        levels.pop(0, None)
        return levels
