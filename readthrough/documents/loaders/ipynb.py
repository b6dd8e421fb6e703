"""Jupyter notebooks: the cells in order as Markdown, code and its results in fences, each cell a place of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from readthrough.documents.loaders.markdown import find_headings
from readthrough.documents.reading import (
    FileLoader,
    Heading,
    decode,
    fingerprint,
    normalise_newlines,
    read_source,
    sections_from,
    without_surrogates,
)
from readthrough.errors import DocumentError
from readthrough.types import Document

BETWEEN_CELLS = "\n\n"
CELL_LEVEL = 7
"""Below the six levels of Markdown's headings."""
FENCED = frozenset(("code", "raw"))
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_FENCES = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


class NotebookLoader(FileLoader):
    """Reads notebooks of format 3 and 4: text, code, printed results and errors; images are named and left out."""

    suffixes = (".ipynb",)

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        source, encoding = decode(data, name, self.encoding)
        notebook = _parse(source, name)
        texts: list[str] = []
        headings: list[Heading] = []
        position = 0
        for number, cell in enumerate(_cells(notebook, name), 1):
            text = _cell_text(cell, _language(notebook))
            if not text.strip():
                continue
            headings += _places(cell, number, text, position)
            texts.append(text)
            position += len(text) + len(BETWEEN_CELLS)
        text = BETWEEN_CELLS.join(texts)
        if not text:
            raise DocumentError("no text in it", path=name)
        sections = sections_from(headings, len(text))
        return Document(fingerprint(data), name, text, "ipynb", sections=sections, encoding=encoding)


def _parse(source: str, name: str) -> dict[str, Any]:
    try:
        notebook = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"broken notebook: no JSON: {error}", path=name) from error
    if not isinstance(notebook, dict):
        raise DocumentError("not a notebook: it has no cells", path=name)
    return notebook


def _cells(notebook: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The cells in order; format 3 keeps them in worksheets."""
    sheets = notebook.get("worksheets")
    groups = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
    for group in groups or [notebook.get("cells")]:
        if not isinstance(group, list):
            raise DocumentError("not a notebook: it has no cells", path=name)
        yield from (cell for cell in group if isinstance(cell, dict))


def _language(notebook: Mapping[str, Any]) -> str:
    """The language of the code, where the notebook names it."""
    metadata = _mapping(notebook.get("metadata"))
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        language = _mapping(metadata.get(part)).get(key)
        if isinstance(language, str) and language.isprintable():
            return language.strip()
    return ""


def _places(cell: Mapping[str, Any], number: int, text: str, start: int) -> list[Heading]:
    """The cell as the innermost heading at its start, and again below each heading of its own."""
    count = cell.get("execution_count", cell.get("prompt_number"))
    title = f"Cell {number}, In [{count}]" if isinstance(count, int) else f"Cell {number}"
    own = find_headings(text) if cell.get("cell_type") == "markdown" else []
    if cell.get("cell_type") == "heading":  # of format 3
        own = [Heading(0, _level(cell), " ".join(text.lstrip("#").split()))]
    places = [] if own and own[0].start == 0 else [Heading(start, CELL_LEVEL, title)]
    for heading in own:
        if heading.title:
            places.append(Heading(start + heading.start, heading.level, heading.title))
        places.append(Heading(start + heading.start, CELL_LEVEL, title))
    return places


def _cell_text(cell: Mapping[str, Any], language: str) -> str:
    """A cell as Markdown."""
    kind, source = cell.get("cell_type"), _text(cell.get("source", cell.get("input")))
    if kind == "heading":
        return f"{'#' * _level(cell)} {' '.join(source.split())}"
    if kind not in FENCED:
        return source
    parts = [_fenced(source, language if kind == "code" else "")] if source.strip() else []
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        shown = _output(_mapping(output))
        if shown.strip():
            parts.append(f"Output:\n{_fenced(shown, '')}")
    return "\n".join(parts)


def _level(cell: Mapping[str, Any]) -> int:
    level = cell.get("level")
    return level if isinstance(level, int) and 1 <= level < CELL_LEVEL else 1


def _output(output: Mapping[str, Any]) -> str:
    """What a result says in plain text; what cannot be said is named."""
    kind = output.get("output_type")
    if kind == "stream":
        return _text(output.get("text"))
    if kind in ("error", "pyerr"):
        trace = output.get("traceback")
        lines = [_text(line) for line in trace] if isinstance(trace, list) else []
        return "\n".join(lines) or f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}"
    data = _mapping(output.get("data")) or {key: value for key, value in output.items() if key != "metadata"}
    for plain in ("text/plain", "text", "text/markdown", "text/latex", "latex"):
        if _text(data.get(plain)).strip():
            left_out = [key for key in data if key.startswith("image/") or key in ("png", "jpeg", "svg")]
            return "\n".join([_text(data[plain]), *(f"[{key} left out]" for key in left_out)])
    return "\n".join(f"[{key} left out]" for key in data if key not in ("output_type", "prompt_number"))


def _fenced(text: str, language: str) -> str:
    """Text between fences that nothing in it closes."""
    longest = max((len(fence) for fence in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _text(value: Any) -> str:
    """Text that is kept whole or as a list of lines, without the codes that colour a terminal."""
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    return without_surrogates(normalise_newlines(_ANSI.sub("", value))) if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
