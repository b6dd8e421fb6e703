"""Every index in the catalogue, unasked: what is asked for, best first, from the question's documents alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from readthrough import catalogue
from readthrough.filters import Filter
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval.base import Index
from tests.library_samples import open_library, write_stories

INDEXES = list(catalogue.PARTS["indexes"])
HOSTILE = [
    "",
    "   ",
    '"',
    "'; DROP TABLE chunks; --",
    'lamp" OR "key',
    "NEAR(lamp key, 2)",
    "text:lamp",
    "lamp*",
    "-lamp +key ^storm",
    "lamp\x00key",
    "\ud800",
    "🗝️ 🕯️",
    "(((",
    "lamp " * 3000,
    "🗝" * 5000,
]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Shelf:
    return library.shelve(write_stories(tmp_path / "books", range(8)))


@pytest.fixture(params=INDEXES)
def index(request: pytest.FixtureRequest, shelf: Shelf) -> Index:
    made: Index = catalogue.find("indexes", request.param)(shelf)
    return made


def test_best_first_each_once_at_most_k(index: Index, shelf: Shelf) -> None:
    for k in (1, 5, 1000):
        hits = index.search("the keeper of the brass lamp", k)
        scores = [score for _, score in hits]
        assert 0 < len(hits) <= k
        assert scores == sorted(scores, reverse=True)
        assert len({chunk for chunk, _ in hits}) == len(hits)
        assert {chunk for chunk, _ in hits} <= set(shelf.chunk_ids())


def test_k_is_a_prefix(index: Index) -> None:
    assert index.search("storm over the harbour", 3) == index.search("storm over the harbour", 20)[:3]


def test_a_chunk_is_found_by_its_own_words(index: Index, shelf: Shelf) -> None:
    for chunk in shelf.get(shelf.chunk_ids()[::9]):
        assert chunk.id in [found for found, _ in index.search(chunk.text, 3)]


def test_among_restricts_and_scores_depend_on_it_alone(
    index: Index, shelf: Shelf, library: Library, tmp_path: Path
) -> None:
    among = [shelf.documents[2].id, shelf.documents[5].id]
    hits = index.search("keeper lamp storm", 50, among)
    allowed = {*shelf.chunk_ids(among[0]), *shelf.chunk_ids(among[1])}
    assert {chunk for chunk, _ in hits} <= allowed
    library.shelve(write_stories(tmp_path / "more", range(100, 130)))
    assert index.search("keeper lamp storm", 50, among) == hits
    paths = [entry.path for entry in shelf.documents if entry.id in among]
    alone = library.shelve(paths).search("keeper lamp storm", 50, name_of(index))
    assert [(hit.chunk.id, hit.score) for hit in alone] == hits


FILTERS = [
    Filter(documents=("story00[2-4].txt",)),
    Filter(lines=(3, 6)),
    Filter(start=400, end=900),
    Filter(documents=("story003.txt",), start=300),
    Filter(lines=(5, 9), start=500),
    Filter(pages=(1, 2)),
    Filter(section="part"),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_filters_are_exact(index: Index, shelf: Shelf, wanted: Filter) -> None:
    """Found is everything that fits the query and passes, and nothing else; scores depend on what passes alone."""
    texts = {chunk.id: chunk.text for entry in shelf.documents for chunk in shelf.chunks(entry.id)}
    passing = shelf.chunk_array(wanted).tolist()
    with_words = {chunk for chunk in passing if {"keeper", "lamp"} & set(texts[chunk].lower().split())}
    hits = index.search("keeper lamp", 1000, wanted)
    found = {chunk for chunk, _ in hits}
    assert with_words <= found <= set(passing)
    assert bool(hits) == bool(with_words)
    assert index.search("keeper lamp", 5, wanted) == hits[:5]


def name_of(index: Index) -> str:
    return next(name for name in INDEXES if type(index) is catalogue.find("indexes", name))


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_any_query_is_a_query(index: Index, query: str) -> None:
    for chunk, score in index.search(query, 5):
        assert isinstance(chunk, int)
        assert np.isfinite(score)


def test_no_documents(index: Index) -> None:
    assert index.search("lamp", 5, []) == []


def test_what_was_deleted_is_not_found(index: Index, shelf: Shelf, library: Library) -> None:
    gone = shelf.documents[0]
    library.delete([gone.id])
    rest = library.shelve([entry.path for entry in shelf.documents[1:]])
    fresh: Index = catalogue.find("indexes", name_of(index))(rest)
    found = {chunk for chunk, _ in fresh.search("keeper lamp storm", 1000)}
    assert found
    assert not found & set(shelf.chunk_ids(gone.id))


def test_vectors_equal_brute_force(shelf: Shelf) -> None:
    index: Any = catalogue.find("indexes", "vectors")(shelf)
    ids = shelf.chunk_ids()
    matrix = shelf.vectors(ids)
    assert np.allclose(matrix, shelf.embedder.embed([chunk.text for chunk in shelf.get(ids)]), atol=1e-6)
    for query in ("keeper of the lamp", "the river market", "letter"):
        scores = matrix @ shelf.embedder.embed([query])[0]
        expected = sorted(zip(ids, scores.tolist(), strict=True), key=lambda hit: -hit[1])[:10]
        hits = index.search(query, 10)
        assert np.allclose([score for _, score in hits], [score for _, score in expected], atol=1e-5)
        assert {chunk for chunk, score in hits if score > expected[-1][1] + 1e-5} <= {chunk for chunk, _ in expected}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("我住在东京都附近。\n\n这本书的作者是鲁迅。\n\n北京的冬天很冷。\n", "鲁迅写了什么"),
        ("吾輩は猫である。\n\n名前はまだ無い。\n\n新宿の東京都庁舎へ行く。\n", "東京都庁"),
        ("吾輩は猫である。\n\n名前はまだ無い。\n\n新宿の東京都庁舎へ行く。\n", "猫"),
    ],
)
def test_chinese_and_japanese_are_found(tmp_path: Path, library: Library, text: str, query: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    hits = library.shelve([path], vectors=False).search(query, 3, "bm25")
    assert hits
    assert set(query) & set(hits[0].chunk.text)
