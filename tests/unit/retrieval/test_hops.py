"""Search in hops: by the names in what was found, and never worse than a plain search where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from readthrough.memory.shelf import Shelf
from readthrough.retrieval.indexes.hops import HopsIndex, bridges
from readthrough.retrieval.indexes.hybrid import HybridIndex, take_turns
from tests.library_samples import open_library, shelf_of, write_stories

QUESTION = "Whom did the painter of the picture Grey Harbour marry?"
TEXTS = {
    "picture": "Grey Harbour hangs in the town hall. The picture is by Tilda Marsh, who never signed it.",
    "tilda": "Tilda Marsh and Ole Brandt were wed in Vardo. Nobody came.",
    "ole": "Ole Brandt kept goats on Skerry Island all his life, and he said little.",
    "blue": "Whom did the painter of the picture Blue Harbour marry? Nobody knows whom the painter did marry.",
    "red": "A painter of harbours may marry whom a painter likes, the picture says of the painter.",
    "green": "The painter did marry, the picture was sold, and the harbour was painted by a painter.",
    "other": "Marsh gas lights the bog at night, and Marsh hens nest there.",
}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelf_of(tmp_path, TEXTS)


def found(shelf: Shelf, index: HopsIndex | HybridIndex, k: int = 10) -> list[str]:
    names = {entry.id: Path(entry.path).stem for entry in shelf.documents}
    chunks = shelf.get([chunk for chunk, _ in index.search(QUESTION, k)])
    return [names[chunk.document] for chunk in chunks]


def test_a_name_in_what_is_found_leads_to_what_shares_no_word_with_the_question(shelf: Shelf) -> None:
    assert "tilda" not in found(shelf, HybridIndex(shelf), 4)
    assert "tilda" in found(shelf, HopsIndex(shelf, hops=1), 4)


def test_how_many_are_asked_for_does_not_change_which_are_best(shelf: Shelf) -> None:
    index = HopsIndex(shelf)
    every = index.search(QUESTION, 50)
    assert all(index.search(QUESTION, k) == every[:k] for k in range(1, 8))


def test_the_second_hop_goes_on_from_the_first(shelf: Shelf) -> None:
    chunk_ids = shelf.chunk_array()
    first = HopsIndex(shelf).hop(QUESTION, [_chunk(shelf, "picture")], chunk_ids)
    assert first[0] == _chunk(shelf, "tilda") and _chunk(shelf, "ole") not in first
    assert _chunk(shelf, "ole") in HopsIndex(shelf).hop(QUESTION, first[:1], chunk_ids)


def _chunk(shelf: Shelf, name: str) -> int:
    [document] = [entry.id for entry in shelf.documents if Path(entry.path).stem == name]
    return shelf.chunk_ids(document)[0]


def test_bridges_are_new_names_that_stand_elsewhere_as_phrases(shelf: Shelf) -> None:
    led = bridges(shelf, QUESTION, [_chunk(shelf, "picture")], shelf.chunk_array())
    assert {bridge.name: bridge.holders.tolist() for bridge in led} == {
        "tilda marsh": [_chunk(shelf, "tilda")],
        "tilda": [_chunk(shelf, "tilda")],
        "marsh": sorted([_chunk(shelf, "tilda"), _chunk(shelf, "other")]),
    }
    only = np.sort(np.array([_chunk(shelf, "picture"), _chunk(shelf, "red")]))
    assert bridges(shelf, QUESTION, [_chunk(shelf, "picture")], only) == [], "restricted to what is asked about"


def test_a_name_that_is_everywhere_leads_nowhere(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readthrough.retrieval.indexes.hops.COMMON_LEAST", 1)
    led = bridges(shelf, QUESTION, [_chunk(shelf, "picture")], shelf.chunk_array())
    assert {bridge.name for bridge in led} == {"tilda marsh", "tilda"}


def test_without_names_it_is_the_hybrid_index(tmp_path: Path) -> None:
    shelf = open_library(tmp_path / "home").shelve(write_stories(tmp_path / "books", range(4)))
    query = "keeper of the lamp"
    chunks = [chunk for chunk, _ in HybridIndex(shelf).search(query, 9)]
    assert [chunk for chunk, _ in HopsIndex(shelf).search(query, 9)] == chunks


def test_turns_and_settings() -> None:
    assert take_turns([[1, 2, 3], [3, 4], []], 9) == [1, 3, 2, 4]
    assert take_turns([[1, 2, 3], [3, 4]], 2) == [1, 3]
    for wrong in ({"hops": 0}, {"seeds": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            HopsIndex(None, **wrong)  # type: ignore[arg-type]
