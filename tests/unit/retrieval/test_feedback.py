"""Keyword search with the query rewritten in terms of the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.memory.shelf import Shelf
from readthrough.retrieval.indexes.bm25 import BM25Index
from readthrough.retrieval.indexes.feedback import FeedbackIndex
from tests.library_samples import open_library, write_stories

TEXTS = {
    "asked": "Beekeeping needs patience: the apiary is opened on warm days, and the honeycomb is lifted with care.",
    "meant": "An apiary near an orchard gives more honeycomb than one on a moor.",
    "other": "Sheep graze on the moor until the first snow falls there.",
}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "texts"
    write_stories(folder, range(4))
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return open_library(tmp_path / "home").shelve([folder])


def found(shelf: Shelf, index: BM25Index | FeedbackIndex, query: str) -> list[str]:
    names = {entry.id: Path(entry.path).stem for entry in shelf.documents}
    return [names[chunk.document] for chunk in shelf.get([chunk for chunk, _ in index.search(query, 3)])]


def test_what_shares_terms_with_the_best_text_is_found_too(shelf: Shelf) -> None:
    assert found(shelf, BM25Index(shelf), "beekeeping") == ["asked"]
    assert found(shelf, FeedbackIndex(shelf), "beekeeping")[:2] == ["asked", "meant"]


def test_weights_sum_to_one_and_common_terms_are_not_taken(shelf: Shelf) -> None:
    index, ids = FeedbackIndex(shelf, terms=5), shelf.chunk_array()
    hits = BM25Index(shelf).search("beekeeping", 3)
    weights = index.rewritten("beekeeping beekeeping sheep", hits, "words", ids)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["sheep"] == pytest.approx(0.7 / 3) and weights["beekeeping"] > 0.7 * 2 / 3
    assert "the" not in weights and len(weights) <= 5 + 2


def test_all_the_weight_to_the_query_is_the_plain_search(shelf: Shelf) -> None:
    plain = BM25Index(shelf).search("keeper lamp storm", 10)
    asked = FeedbackIndex(shelf, query_weight=1.0).search("keeper lamp storm", 10)
    assert [chunk for chunk, _ in asked] == [chunk for chunk, _ in plain]
    assert [3 * score for _, score in asked] == pytest.approx([score for _, score in plain])
    for wrong in ({"texts": 0}, {"terms": 0}, {"query_weight": 1.1}):
        with pytest.raises(ValueError, match="must be at least 1"):
            FeedbackIndex(shelf, **wrong)
