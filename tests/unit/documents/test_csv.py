"""Tables of text: the names of the columns are the section of every row, and rows are not cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.documents.load import load
from readthrough.documents.loaders.csv import column_names
from readthrough.memory.chunking import ByKind
from readthrough.retrieval.embedders.open import open_embedder
from readthrough.retrieval.keywords import indexed


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hour,pints\nsix,2\nnine,3\n", "hour, pints"),
        ("Straße;Größe;Preis\nA;1,5;2,0\nB;2,5;3,0\n", "Straße, Größe, Preis"),
        ("都市\t人口\n東京\t14\n", "都市, 人口"),
        ("a|b\nx|y\n", "a, b"),
        ('"name, full",note\n"Ann, A.","two\nlines"\n', "name, full, note"),
        ("Oil, 2024 report\nhour,pints,keeper\nsix,2,Ann\nnine,3,Tom\n", "hour, pints, keeper"),
        ("region,2023,2024\nNord,1,2\n", "region, 2023, 2024"),
        ("1,2\n3,4\n", ""),
        ("six,2\nnine,3\n", ""),
        ("a,a\n1,2\n", ""),
        ("hour,pints\n", ""),
        ("one column\nand another row\n", ""),
        ('a,"never closed\n1,2\n', ""),
    ],
)
def test_names_of_columns(text: str, names: str) -> None:
    assert column_names(text) == names


def test_the_text_is_the_files_own(tmp_path: Path) -> None:
    source = 'Stadt;Größe\r\nKöln;"zwei\r\nZeilen"\r\n'
    (tmp_path / "a.csv").write_bytes(source.encode("cp1252"))
    document = load(tmp_path / "a.csv")
    assert document.text == source.replace("\r\n", "\n")
    assert document.encoding in ("cp1252", "windows-1252")
    assert document.section_at(document.text.index("Zeilen")) == "Stadt, Größe"
    assert document.line_at(document.text.index("Köln")) == 2


def test_names_that_are_long_are_cut(tmp_path: Path) -> None:
    names = ",".join(f"column number {number}" for number in range(500))
    (tmp_path / "a.csv").write_text(f"{names}\n{','.join('1' * 500)}\n")
    (section,) = load(tmp_path / "a.csv").sections
    assert section.title.startswith("column number 0, column number 1") and section.title.endswith("…")
    assert len(section.title) < 210


def test_every_chunk_is_whole_rows_and_is_indexed_with_the_names(tmp_path: Path) -> None:
    rows = "".join(f"Keeper number {number},{number},lamp {number % 7}\n" for number in range(400))
    (tmp_path / "a.csv").write_text(f"keeper,pints,lamp\n{rows}")
    document = load(tmp_path / "a.csv")
    chunks = ByKind(open_embedder("all-minilm-l6-v2")).split(document)
    assert len(chunks) > 10
    assert all(chunk.text.endswith("\n") for chunk in chunks)
    assert all(indexed(document, chunk.start, chunk.end) == f"keeper, pints, lamp\n{chunk.text}" for chunk in chunks)
