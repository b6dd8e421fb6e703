"""Notebooks: cells in order, what they printed, and where each cell stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from readthrough.documents.load import load
from readthrough.errors import DocumentError
from readthrough.types import Document
from tests.contracts.test_loaders import check_places
from tests.document_samples import notebook, notebook_cell


def read(data: bytes, folder: Path) -> Document:
    (folder / "a.ipynb").write_bytes(data)
    document = load(folder / "a.ipynb")
    check_places(document)
    return document


def code(source: str, outputs: list[dict[str, Any]] | None = None, count: int | None = None) -> dict[str, Any]:
    return notebook_cell(source, "code", outputs=outputs or [], execution_count=count)


def test_cells_and_their_places(tmp_path: Path) -> None:
    cells = [
        notebook_cell("# Öl\n\nWie viel?"),
        code("pints = 2\nprint(pints)", [{"output_type": "stream", "name": "stdout", "text": ["2\n", "3\n"]}], 5),
        notebook_cell("Vor dem Titel.\n\n## Docht\n\nNeu."),
        code("pints"),
        notebook_cell(""),
        notebook_cell("raw words", "raw"),
    ]
    document = read(notebook(cells), tmp_path)
    assert document.text == (
        "# Öl\n\nWie viel?\n\n```python\npints = 2\nprint(pints)\n```\nOutput:\n```\n2\n3\n```\n\n"
        "Vor dem Titel.\n\n## Docht\n\nNeu.\n\n```python\npints\n```\n\n```\nraw words\n```"
    )
    assert [section.title for section in document.sections] == [
        "Öl > Cell 1",
        "Öl > Cell 2, In [5]",
        "Öl > Cell 3",
        "Öl > Docht > Cell 3",
        "Öl > Docht > Cell 4",
        "Öl > Docht > Cell 6",
    ]


def test_outputs(tmp_path: Path) -> None:
    outputs: list[dict[str, Any]] = [
        {
            "output_type": "execute_result",
            "data": {"text/plain": ["<Figure>"], "image/png": "aGVsbG8="},
            "metadata": {},
        },
        {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}},
        {
            "output_type": "error",
            "ename": "KeyError",
            "evalue": "'öl'",
            "traceback": ["\x1b[0;31m---\x1b[0m", "\x1b[1;32mKeyError\x1b[0m: 'öl'"],
        },
        {"output_type": "error", "ename": "E", "evalue": "why", "traceback": []},
        {"output_type": "stream", "text": "10%\r100%\n```\n"},
    ]
    text = read(notebook([code("x", outputs)]), tmp_path).text
    assert "Output:\n```\n<Figure>\n[image/png left out]\n```" in text
    assert "[image/svg+xml left out]" in text and "aGVsbG8" not in text
    assert "---\nKeyError: 'öl'" in text and "\x1b" not in text
    assert "E: why" in text
    assert "Output:\n````\n10%\n100%\n```\n````" in text


def test_format_3(tmp_path: Path) -> None:
    result = {"output_type": "pyout", "prompt_number": 2, "text": ["42"], "png": "aGk=", "metadata": {}}
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Der Turm"]},
        {"cell_type": "code", "input": ["6 * 7"], "language": "python", "prompt_number": 2, "outputs": [result]},
    ]
    source = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}).encode()
    document = read(source, tmp_path)
    assert document.text == "## Der Turm\n\n```\n6 * 7\n```\nOutput:\n```\n42\n[png left out]\n```"
    assert [section.title for section in document.sections] == ["Der Turm > Cell 1", "Der Turm > Cell 2, In [2]"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "no JSON"),
        (b"[1]", "it has no cells"),
        (b'{"cells": 3}', "it has no cells"),
        (b'{"nbformat": 4}', "it has no cells"),
        (b'{"cells": []}', "no text in it"),
        (b'{"cells": [3, {}, {"cell_type": "code", "source": {"a": 1}, "outputs": [4]}]}', "no text in it"),
        (b"[" * 100_000, "no JSON"),
        (b'{"cells": [{"cell_type": "markdown", "source": "\\ud800', "no JSON"),
    ],
)
def test_broken_notebooks(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=reason):
        read(data, tmp_path)


def test_lone_surrogates_and_strange_values(tmp_path: Path) -> None:
    source = (
        b'{"cells": [{"cell_type": "markdown", "source": "a \\ud800 \\ud83d\\ude00"}, {"cell_type": 7, "source": "b"}]}'
    )
    assert read(source, tmp_path).text == "a \ufffd 😀\n\nb"
