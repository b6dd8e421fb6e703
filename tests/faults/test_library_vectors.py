"""Vector files that are damaged, swapped, missing or left over are never searched: they are made again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from readthrough.errors import LibraryError
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval import segments
from readthrough.types import Event
from tests.library_samples import HashingEmbedder, chunker, open_library, write_stories

QUERY = "the keeper of the brass lamp"


def files(home: Path) -> list[Path]:
    return sorted((home / "vectors").iterdir())


def hits(shelf: Shelf) -> list[tuple[int, float]]:
    return [(hit.chunk.id, round(hit.score, 5)) for hit in shelf.search(QUERY, 10, "vectors")]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-17])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:16] = b"\xff" * 8
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], None]] = [truncate, zero, empty, overwrite_header, Path.unlink]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A library of two vector files."""
    library = open_library(tmp_path / "home")
    paths = write_stories(tmp_path / "books", range(6))
    library.shelve(paths[:3])
    library.shelve(paths)
    library.close()
    assert len(files(tmp_path / "home")) == 2
    return tmp_path / "home"


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
@pytest.mark.parametrize("reopened", [True, False])
def test_damage_is_repaired(home: Path, tmp_path: Path, damage: Callable[[Path], None], reopened: bool) -> None:
    events: list[Event] = []
    embedder = HashingEmbedder()
    library = open_library(home, embedder, events)
    shelf = library.shelve([tmp_path / "books"])
    expected = hits(shelf)
    if reopened:
        library.close()
        library = open_library(home, embedder, events)
        shelf = library.shelve([tmp_path / "books"])
    damage(files(home)[0])
    embedder.embedded = 0
    assert hits(shelf) == expected
    assert 1 < embedder.embedded < len(shelf.chunk_ids()), "only what was lost is embedded again"
    assert [event.stage for event in events if "vectors are made again" in event.note] == ["warning"]
    assert library.check() == ()
    assert len(files(home)) == 2


def test_two_files_swapped(home: Path, tmp_path: Path) -> None:
    library = open_library(home)
    shelf = library.shelve([tmp_path / "books"])
    expected = hits(shelf)
    one, two = files(home)
    aside = tmp_path / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    assert hits(shelf) == expected
    assert library.check() == ()


def flip_bits(path: Path, times: int) -> None:
    """No flipped bit of a file goes unseen."""
    chance = random.Random(0)
    whole = path.read_bytes()
    for _ in range(times):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(segments.DamagedSegmentError):
            segments.read_segment(path.parent, path.stem)
    path.write_bytes(whole)
    segments.read_segment(path.parent, path.stem)


def test_every_flipped_bit_is_detected(home: Path) -> None:
    flip_bits(files(home)[0], 100)


def test_check_names_what_is_wrong(home: Path, tmp_path: Path) -> None:
    overwrite_header(files(home)[0])
    library = open_library(home)
    (problem,) = library.check()
    assert "damaged" in problem
    assert len(hits(library.shelve([tmp_path / "books"]))) == 10
    assert library.check() == ()


def test_a_crash_after_the_file_before_the_entry(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """Stands for the end of the process: no handler runs but the ones that undo."""

    write = segments.write_segment

    def write_then_crash(folder: Path, chunk_ids: np.ndarray, vectors: np.ndarray) -> str:
        write(folder, chunk_ids, vectors)
        raise Crash

    library = open_library(home)
    more = write_stories(tmp_path / "more", range(10, 12))
    with monkeypatch.context() as patched:
        patched.setattr(segments, "write_segment", write_then_crash)
        with pytest.raises(Crash):
            library.shelve(more)
    assert len(files(home)) == 3, "the file was left behind"
    library.close()
    library = open_library(home)
    assert len(files(home)) == 2
    shelf = library.shelve(more)
    assert len(shelf.search(QUERY, 100, "vectors")) == len(shelf.chunk_ids())
    assert library.check() == ()


def test_an_entry_without_its_file(home: Path, tmp_path: Path) -> None:
    for path in files(home):
        path.unlink()
    library = open_library(home)
    shelf = library.shelve([tmp_path / "books"])
    assert len(shelf.search(QUERY, 100, "vectors")) == len(shelf.chunk_ids())
    assert library.check() == ()


def test_files_that_cannot_be_kept(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def always_missing(folder: Path, name: str) -> None:
        raise segments.DamagedSegmentError(f"{name} is damaged")

    shelf = open_library(home).shelve([tmp_path / "books"])
    monkeypatch.setattr(segments, "read_segment", always_missing)
    with pytest.raises(LibraryError, match="damaged or removed"):
        shelf.search(QUERY, 3, "vectors")


def test_other_dimensions_are_refused(home: Path, tmp_path: Path) -> None:
    library = Library.open(home, embedder=HashingEmbedder(dimensions=32), chunker=chunker())
    shelf = library.shelve([tmp_path / "books"])
    for index in ("vectors", "hybrid"):
        with pytest.raises(LibraryError, match="64 dimensions, the embedder gives 32"):
            shelf.search(QUERY, 3, index)
    write_stories(tmp_path / "books", range(20, 22))
    with pytest.raises(LibraryError, match="64 dimensions, the embedder gives 32"):
        library.shelve([tmp_path / "books"])
    assert shelf.search(QUERY, 3, "bm25")


def test_another_embedder_never_sees_these_vectors(home: Path, tmp_path: Path) -> None:
    other = HashingEmbedder("other", dimensions=32)
    library = open_library(home, other)
    shelf = library.shelve([tmp_path / "books"])
    assert other.embedded == len(shelf.chunk_ids())
    assert shelf.vectors(shelf.chunk_ids()).shape[1] == 32
    library.close()
    first = HashingEmbedder()
    assert open_library(home, first).shelve([tmp_path / "books"]).vectors([1]).shape == (1, 64)
    assert first.embedded == 0


def test_many_small_files_are_merged(tmp_path: Path) -> None:
    library = open_library(tmp_path / "home")
    paths = write_stories(tmp_path / "books", range(70), paragraphs=1)
    for path in paths:
        library.shelve([path])
    assert len(files(tmp_path / "home")) < 10
    shelf = library.shelve(paths)
    ids = shelf.chunk_ids()
    assert np.allclose(shelf.vectors(ids), shelf.embedder.embed([chunk.text for chunk in shelf.get(ids)]), atol=1e-6)


def test_a_copy_of_the_library_works_elsewhere(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "elsewhere")
    embedder = HashingEmbedder()
    shelf = open_library(tmp_path / "elsewhere", embedder).shelve([tmp_path / "books"])
    assert len(hits(shelf)) == 10
    assert embedder.embedded == 1, "the query alone"
