"""What workflows ask of a shelf."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.errors import LibraryError, UnknownNameError
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend
from tests.library_samples import count_words, open_library, write_stories

ROOT = Path(__file__).parents[3]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Shelf:
    return library.shelve(write_stories(tmp_path / "books", range(4)))


class Counter(ModelBackend):
    """A model that only counts."""

    def __init__(self, tokenizer_id: str, tokens_a_word: int) -> None:
        self.tokenizer_id = tokenizer_id
        self._tokens_a_word = tokens_a_word
        self.counted = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        self.counted += len(texts)
        return [count * self._tokens_a_word for count in count_words(texts)]

    def complete(self, requests):  # type: ignore[no-untyped-def]
        raise AssertionError("nobody asked")

    choose = complete  # type: ignore[assignment]


def test_chunks_cover_the_documents_in_reading_order(shelf: Shelf) -> None:
    ids = [chunk.id for entry in shelf.documents for chunk in shelf.chunks(entry.id)]
    assert shelf.chunk_ids() == ids
    for entry in shelf.documents:
        document = shelf.document(entry.id)
        chunks = shelf.chunks(entry.id)
        assert [chunk.index for chunk in chunks] == list(range(entry.chunks))
        assert chunks[0].start == 0
        assert chunks[-1].end == len(document.text) == entry.characters
        assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


def test_get_keeps_the_order_given(shelf: Shelf) -> None:
    ids = shelf.chunk_ids()[::-2]
    assert [chunk.id for chunk in shelf.get(ids)] == ids
    with pytest.raises(KeyError):
        shelf.get([10**9])


def test_neighbours_stay_in_the_document(shelf: Shelf) -> None:
    ids = shelf.chunk_ids(shelf.documents[1].id)
    assert [chunk.id for chunk in shelf.neighbours(ids[2], 1, 2)] == ids[1:5]
    assert [chunk.id for chunk in shelf.neighbours(ids[0], 3, 1)] == ids[:2]
    assert [chunk.id for chunk in shelf.neighbours(ids[-1], 0, 3)] == ids[-1:]


def test_tokens_are_counted_once_a_tokenizer(library: Library, shelf: Shelf, tmp_path: Path) -> None:
    one, two = Counter("one", 1), Counter("two", 2)
    counts = shelf.count_tokens(one)
    assert list(counts) == shelf.chunk_ids()
    assert {chunk: 2 * count for chunk, count in counts.items()} == shelf.count_tokens(two)
    shelf.count_tokens(one)
    assert one.counted == len(counts)
    more = library.shelve([tmp_path / "books", *write_stories(tmp_path / "more", [9])])
    more.count_tokens(one)
    assert one.counted == len(more.chunk_ids()), "only the new chunks"


def test_search_by_an_unknown_index(shelf: Shelf) -> None:
    with pytest.raises(UnknownNameError, match="bm25"):
        shelf.search("lamp", 3, "bm26")


def test_search_among_documents(shelf: Shelf) -> None:
    second = shelf.documents[1].id
    hits = shelf.search("keeper lamp", 50, "hybrid", [second])
    assert {hit.chunk.document for hit in hits} == {second}
    assert all(hit.chunk.text for hit in hits)


def test_a_document_that_was_deleted_meanwhile(library: Library, shelf: Shelf) -> None:
    library.delete([shelf.documents[0].id])
    with pytest.raises(LibraryError, match="no longer"):
        shelf.document(shelf.documents[0].id)
    with pytest.raises(LibraryError, match="ask again"):
        shelf.search("keeper lamp", 5, "vectors")


@pytest.mark.parametrize("gone", [[0], [3], [0, 1, 2, 3]])
def test_keywords_are_found_in_what_is_left(library: Library, shelf: Shelf, gone: list[int]) -> None:
    deleted = {shelf.documents[number].id for number in gone}
    library.delete(sorted(deleted))
    hits = shelf.search("keeper lamp", 500, "bm25")
    assert {hit.chunk.document for hit in hits} == set(shelf.document_ids()) - deleted


def test_asking_again_loads_nothing_heavy(tmp_path: Path) -> None:
    path = write_stories(tmp_path / "books", [0])[0]
    program = """
import sys
from pathlib import Path
from readthrough.memory.library import Library
library = Library.open(Path(sys.argv[1]))
shelf = library.shelve([sys.argv[2]], vectors=len(sys.argv) > 3)
assert shelf.search("keeper", 3, "bm25")
print(*[name for name in ("torch", "transformers", "faiss", "sentence_transformers") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "home"), str(path)]
    subprocess.run([*command, "with vectors"], cwd=ROOT, check=True, capture_output=True)
    again = subprocess.run([*command, "with vectors"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.stdout.strip() == ""
