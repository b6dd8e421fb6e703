"""BM25 equals bm25s (its Lucene variant) on the same terms."""

from __future__ import annotations

from pathlib import Path

import bm25s
import numpy as np
import pytest

from readthrough.memory.shelf import Shelf
from readthrough.retrieval.analysis import TOKENIZERS, Analyzer
from readthrough.retrieval.indexes.bm25 import BM25Index
from tests.library_samples import open_library, write_stories

QUERIES = [
    "the keeper of the brass lamp",
    "storm storm storm harbour",
    "In part 3 of story 4",
    "gardens and orchards, running rivers",
    "zanzibar lamp",
    "東京 lamp",
]


def terms(analyzer: Analyzer, text: str) -> list[str]:
    return [f"{analysis}:{term}" for analysis in TOKENIZERS for term in analyzer.terms(text, analysis)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("bm25")
    library = open_library(folder / "home")
    library.shelve(write_stories(folder / "others", range(50, 70)), vectors=False)
    mixed = folder / "mixed.txt"
    mixed.write_text("A lamp.\n\n新宿の東京都庁舎へ行く。\n\nThe loadPages function\n" + "runs " * 55, encoding="utf-8")
    return library.shelve([*write_stories(folder / "books", range(12)), mixed], vectors=False)


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.5), (1.5, 0.75), (0.9, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("query", QUERIES)
def test_equals_bm25s(shelf: Shelf, query: str, k1: float, b: float) -> None:
    analyzer = Analyzer()
    ids = shelf.chunk_ids()
    reference = bm25s.BM25(method="lucene", k1=k1, b=b)
    reference.index([terms(analyzer, chunk.text) for chunk in shelf.get(ids)], show_progress=False)
    expected = dict(zip(ids, reference.get_scores(terms(analyzer, query)).tolist(), strict=True))
    found = dict(BM25Index(shelf, k1=k1, b=b).search(query, len(ids)))
    assert np.allclose([found.get(chunk, 0.0) for chunk in ids], list(expected.values()), rtol=1e-4, atol=1e-6)
    assert any(found.values())


def test_in_a_large_set_common_words_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "book.txt"
    paragraphs = [f"The part {'lamp' if number % 7 == 0 else 'rope'} {'gull tide ' * 25}." for number in range(30)]
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    shelf = open_library(tmp_path / "home").shelve([path], vectors=False)
    exact = dict(BM25Index(shelf).search("lamp", 100))
    both = dict(BM25Index(shelf).search("the part lamp", 100))
    monkeypatch.setattr("readthrough.retrieval.indexes.bm25.LARGE_SET_CHUNKS", 1)
    index = BM25Index(shelf)
    assert dict(index.search("the part lamp", 100)) == exact != both, "every chunk holds `the` and `part`"
    assert index.search("the part", 100), "where nothing else is asked for, they count"
    assert dict(index.search("the part", 100)) == dict(index.search("part the", 100))
