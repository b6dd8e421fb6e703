"""The approximate index of a large library: damaged, half written, on a full disk. It is made again from the vectors
themselves; nothing is embedded again, and nothing wrong is ever found."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from readthrough.errors import LibraryError
from readthrough.memory import vector_files, vectors
from readthrough.memory.library import Library
from readthrough.retrieval import approximate, base, segments
from readthrough.types import Event
from tests.faults.test_library_vectors import DAMAGES, flip_bits
from tests.library_samples import HashingEmbedder, open_library, write_stories

QUERY = "the keeper of the brass lamp"


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large begins at 100 chunks; everything is probed, so that results are the same whoever finds them."""
    monkeypatch.setattr(base, "EXACT_CHUNKS", 100)
    monkeypatch.setattr(vector_files, "SEGMENT_CHUNKS", 150)
    monkeypatch.setattr(vector_files, "MOST_SMALL_SEGMENTS", 2)
    monkeypatch.setattr(segments, "MAPPED_BYTES", 10_000)
    monkeypatch.setattr(approximate, "HNSW_CHUNKS", 0)
    monkeypatch.setattr(approximate, "PROBED_SHARE", 1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    library = open_library(tmp_path / "home")
    library.shelve(write_stories(tmp_path / "books", range(30), paragraphs=8))
    assert approximation(library).exists()
    library.close()
    return tmp_path / "home"


def approximation(library: Library) -> Path:
    (name,) = library.connection().execute("SELECT name FROM approximations").fetchone() or ("none",)
    return library.home / "vectors" / (name + segments.SUFFIX)


def hits(library: Library, tmp_path: Path) -> list[tuple[int, float]]:
    shelf = library.shelve([tmp_path / "books"])
    return [(hit.chunk.id, round(hit.score, 5)) for hit in shelf.search(QUERY, 10, "vectors")]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
@pytest.mark.parametrize("reopened", [True, False])
def test_damage_is_repaired_without_embedding(
    home: Path, tmp_path: Path, damage: Callable[[Path], None], reopened: bool
) -> None:
    events: list[Event] = []
    embedder = HashingEmbedder()
    library = open_library(home, embedder, events)
    expected = hits(library, tmp_path)
    if reopened:
        library.close()
    damage(approximation(library))
    if reopened:
        library = open_library(home, embedder, events)
    embedder.embedded = 0
    assert hits(library, tmp_path) == expected
    assert embedder.embedded == 1, "the query alone"
    assert [event.stage for event in events if "built again" in event.note] == ["warning"]
    assert approximation(library).exists()
    assert library.check() == ()


def test_damage_is_found_by_check(home: Path, tmp_path: Path) -> None:
    library = open_library(home)
    path = approximation(library)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    (problem,) = library.check()
    assert "damaged" in problem
    assert not path.exists()
    assert hits(library, tmp_path)
    assert library.check() == ()


def test_every_flipped_bit_of_a_mapped_file_is_detected(home: Path) -> None:
    for path in (home / "vectors").iterdir():
        assert path.stat().st_size >= segments.MAPPED_BYTES
        flip_bits(path, 30)


def test_swapped_with_the_vectors(home: Path, tmp_path: Path) -> None:
    library = open_library(home)
    expected = hits(library, tmp_path)
    library.close()
    mine = approximation(library)
    other = next(path for path in mine.parent.iterdir() if path != mine)
    aside = tmp_path / "aside"
    for source, target in ((mine, aside), (other, mine), (aside, other)):
        source.rename(target)
    assert hits(library, tmp_path) == expected
    assert library.check() == ()


class CrashError(BaseException):
    """Stands for the end of the process."""


def crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the `number`-th operation on files the last one; returns the operations as they are done."""
    done: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def work(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            if len(done) == number:
                raise CrashError
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, work)

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
        wrap(owner, name)
    for name in ("_enter", "_replace_approximation", "_merge", "sweep"):
        wrap(vector_files.VectorFiles, name)
    return done


@pytest.mark.slow
def test_a_crash_at_any_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing from a small library over merged segments to an approximate index."""
    monkeypatch.setattr(base, "EXACT_CHUNKS", 60)
    monkeypatch.setattr(vectors, "BATCH_CHUNKS", 25)
    books = tmp_path / "books"
    expected: dict[int, list[tuple[int, float]]] = {}
    number, ended = 0, False
    while not ended:
        number += 1
        home = tmp_path / f"home{number}"
        for count in (10, 24):
            write_stories(books, range(count), paragraphs=4)
            with pytest.MonkeyPatch.context() as patched:
                library = open_library(home)
                done = crash_at(number, patched)
                try:
                    library.shelve([books])
                    ended = len(done) < number
                except CrashError:
                    ended = False
                library.close()
            library = open_library(home)
            assert library.check() == (), f"operation {number}: {done[-1:]}"
            shelf = library.shelve([books])
            found = [(hit.chunk.start, round(hit.score, 5)) for hit in shelf.search(QUERY, 10, "vectors")]
            assert found == expected.setdefault(count, found), f"operation {number}: {done[-1:]}"
            assert library.check() == ()
            (entries,) = library.connection().execute("SELECT count(*) FROM vectors").fetchone()
            assert entries == len(shelf.chunk_ids())
            select = "SELECT name FROM segments UNION SELECT name FROM approximations"
            named = {name for (name,) in library.connection().execute(select)}
            assert {path.stem for path in (home / "vectors").iterdir()} == named
            library.close()
        for path in books.iterdir():
            path.unlink()
    assert number > 15, "otherwise the test has shown nothing"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_cannot_hold_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    library = open_library(home)
    expected = hits(library, tmp_path)
    approximation(library).unlink()
    library.close()

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), str(home / "vectors"))

    events: list[Event] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        library = open_library(home, events=events)
        assert hits(library, tmp_path) == hits(library, tmp_path) == expected, "a search needs no room"
        assert len([event for event in events if "one by one" in event.note]) == 1
        with pytest.raises(LibraryError, match=os.strerror(number)):
            library.shelve(write_stories(tmp_path / "more", range(40, 44)))
        library.close()
    library = open_library(home)
    assert hits(library, tmp_path) == expected
    assert approximation(library).exists()
    assert library.check() == ()
