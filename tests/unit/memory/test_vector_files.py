"""Large libraries: an approximate index stands beside the exact vectors, and never says more than they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from readthrough.filters import Filter
from readthrough.memory import vector_files
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval import approximate, base, segments
from readthrough.types import Event
from tests.library_samples import HashingEmbedder, open_library, write_stories

QUERIES = ["the keeper of the brass lamp", "storm over the harbour", "a letter in the cellar", "river market bridge"]


@pytest.fixture(autouse=True, params=["HNSW", "IVF"])
def small_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is large begins at 100 chunks."""
    kind: str = request.param
    monkeypatch.setattr(base, "EXACT_CHUNKS", 100)
    monkeypatch.setattr(vector_files, "SEGMENT_CHUNKS", 150)
    monkeypatch.setattr(vector_files, "MOST_SMALL_SEGMENTS", 3)
    monkeypatch.setattr(segments, "MAPPED_BYTES", 20_000)
    monkeypatch.setattr(approximate, "HNSW_CHUNKS", 100_000 if kind == "HNSW" else 0)
    return kind


@pytest.fixture
def books(tmp_path: Path) -> Path:
    write_stories(tmp_path / "books", range(40), paragraphs=10)
    return tmp_path / "books"


def kinds(library: Library) -> list[str]:
    return [kind for (kind,) in library.connection().execute("SELECT kind FROM approximations")]


def covered(library: Library, tmp_path: Path) -> set[int]:
    (name,) = library.connection().execute("SELECT name FROM approximations").fetchone()
    return set(segments.ids_of(segments.read_segment(tmp_path / "home" / "vectors", name, True)).tolist())


def recall(shelf: Shelf, within: Filter | None = None) -> float:
    """The share of the ten nearest that are found; the scores of what is found must be exact."""
    ids = shelf.chunk_array(within)
    matrix = shelf.vectors(ids.tolist())
    right = 0
    for query in QUERIES:
        scores = dict(zip(ids.tolist(), (matrix @ HashingEmbedder().embed([query])[0]).tolist(), strict=True))
        best = sorted(scores.values(), reverse=True)[:10]
        hits = shelf.search(query, 10, "vectors", within)
        assert [hit.score for hit in hits] == pytest.approx([scores[hit.chunk.id] for hit in hits], abs=1e-5)
        right += sum(hit.score >= best[-1] - 1e-6 for hit in hits)
    return right / (10 * len(QUERIES))


def test_built_when_large_and_searched_with_filters(tmp_path: Path, books: Path, small_limits: str) -> None:
    events: list[Event] = []
    library = open_library(tmp_path / "home", events=events)
    few = library.shelve([books / "story000.txt"])
    assert kinds(library) == []
    assert recall(few) == 1.0
    shelf = library.shelve([books])
    assert [kind[: len(small_limits)] for kind in kinds(library)] == [small_limits]
    assert [event.done for event in events if event.unit == "vectors"][-1] == len(shelf.chunk_ids()) > 300
    assert recall(shelf) >= 0.95
    assert recall(shelf, Filter(documents=("story00*.txt",))) == 1.0, "few enough to be exact"
    assert recall(shelf, Filter(lines=(1, 12))) >= 0.95
    assert library.check() == ()
    library.close()
    again = open_library(tmp_path / "home").shelve([books])
    assert recall(again) >= 0.95


def test_additions_edits_and_deletions(tmp_path: Path, books: Path) -> None:
    library = open_library(tmp_path / "home")
    before = library.shelve([books]).chunk_ids()
    first = covered(library, tmp_path)
    assert first == set(before)
    (books / "story003.txt").write_text("A keeper of the brass lamp.\n", encoding="utf-8")
    library.delete([library.show(str(books / "story004.txt")).id])
    (books / "story004.txt").unlink()
    shelf = library.shelve([books])
    assert covered(library, tmp_path) == first, "so little is not worth building anew"
    top = shelf.search("A keeper of the brass lamp.", 1, "vectors")[0]
    assert shelf.document(top.chunk.document).path.endswith("story003.txt"), "what is new is found at once"
    assert recall(shelf) >= 0.95
    assert {hit.chunk.id for hit in shelf.search("keeper", 1000, "vectors")} <= set(shelf.chunk_ids())
    write_stories(books, range(100, 112), paragraphs=10)
    shelf = library.shelve([books])
    assert covered(library, tmp_path) == set(shelf.chunk_ids()), "so much is"
    assert recall(shelf) >= 0.95
    assert library.check() == ()


def test_pruned_until_it_is_small_again(tmp_path: Path, books: Path) -> None:
    library = open_library(tmp_path / "home")
    ids = [entry.id for entry in library.shelve([books]).documents]
    library.delete(ids[:20])
    library.prune()
    shelf = library.shelve([books / f"story{number:03}.txt" for number in range(20, 40)])
    assert covered(library, tmp_path) == set(shelf.chunk_ids()), "what is mostly dead is built anew"
    library.delete(ids[20:38])
    library.prune()
    assert kinds(library) == []
    last = library.shelve([books / "story038.txt", books / "story039.txt"])
    assert recall(last) == 1.0
    assert len(list((tmp_path / "home" / "vectors").iterdir())) == 1


def test_more_is_asked_for_than_the_index_proposes(tmp_path: Path, books: Path) -> None:
    shelf = open_library(tmp_path / "home").shelve([books])
    ids = shelf.chunk_ids()
    assert {hit.chunk.id for hit in shelf.search(QUERIES[0], len(ids), "vectors")} == set(ids)


def test_a_library_that_grew_before_this_version(tmp_path: Path, books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(base, "EXACT_CHUNKS", 10_000)
        library = open_library(tmp_path / "home")
        library.shelve([books])
        assert kinds(library) == []
        library.close()
    embedder = HashingEmbedder()
    shelf = open_library(tmp_path / "home", embedder).shelve([books])
    assert recall(shelf) >= 0.95
    assert embedder.embedded == len(QUERIES), "built from the vectors there are"


def test_segments_are_merged_up_to_their_size(tmp_path: Path, books: Path) -> None:
    library = open_library(tmp_path / "home")
    for path in sorted(books.iterdir()):
        library.shelve([path])
    counts = [count for (count,) in library.connection().execute("SELECT count FROM segments")]
    assert max(counts) <= 150
    assert len(counts) <= 10
    shelf = library.shelve([books])
    ids = shelf.chunk_ids()
    assert np.allclose(shelf.vectors(ids), HashingEmbedder().embed([c.text for c in shelf.get(ids)]), atol=1e-6)
    assert recall(shelf) >= 0.95


def test_what_is_dead_is_given_back_whatever_stands_beside_it(tmp_path: Path, books: Path) -> None:
    library = open_library(tmp_path / "home")
    many = [books / f"story{number:03}.txt" for number in range(12)]
    few = [books / f"story{number:03}.txt" for number in range(20, 24)]
    ids = [entry.id for entry in library.shelve(many).documents]
    library.shelve(few)
    library.delete(ids[:1])
    library.prune()
    wasted = """SELECT count(*) FROM segments WHERE count > (SELECT count(*) FROM vectors WHERE segment = name)"""
    assert library.connection().execute(wasted).fetchone() == (0,)
    assert library.check() == ()
