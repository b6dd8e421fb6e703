"""A small shelf of a large library is counted anew, and scored as by the library's index."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.memory.library import Library
from readthrough.retrieval.indexes import bm25
from tests.library_samples import HashingEmbedder, chunker

TEXTS = {
    "harbour.txt": "The keeper lit the lamps. The lamp of the keeper burned all night. " * 6 + "A storm came in.",
    "hafen.txt": "Die Häuser am Hafen waren alt, und das Haus des Wärters stand leer. Er ging durch die Straßen. " * 5,
    "lamp.py": "class LampKeeper:\n    def light_lamp(self, oil):\n        return burn(oil)\n" * 8,
    "港.txt": "港の灯台は夜に光る。灯台守は眠らない。" * 5,
}
QUERIES = ("Who lit the lamp?", "alte Häuser", "light_lamp LampKeeper", "灯台は夜", "nothing that stands there")


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_scores_as_by_the_index(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other, text in TEXTS.items():
        (tmp_path / other).write_text(text)
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(24))
    library.shelve([tmp_path], vectors=False)
    shelf = library.shelve([tmp_path / name], vectors=False)
    found = {}
    for ratio in (0, 1_000_000):
        monkeypatch.setattr(bm25, "RECOUNTED_RATIO", ratio)
        index = bm25.BM25Index(shelf)
        found[ratio] = [index.search(query, 10) for query in QUERIES]
        assert (index._counts(shelf.chunk_array()) is None) == bool(ratio)
    assert found[0] == found[1_000_000]
    assert any(found[0])
    library.close()


def test_part_of_a_document_is_counted_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bm25, "RECOUNTED_RATIO", 0)
    (tmp_path / "a.txt").write_text(TEXTS["harbour.txt"])
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(24))
    shelf = library.shelve([tmp_path / "a.txt"], vectors=False)
    last = shelf.chunk_array()[-1:]
    rows, uses = bm25.BM25Index(shelf).postings("words", "storm", last)
    assert rows.tolist() == [0] and uses.tolist() == [1.0]
    assert len(bm25.BM25Index(shelf).postings("words", "nobody", last)[0]) == 0
    library.close()
