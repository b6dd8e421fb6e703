"""Full disks, damaged and newer files, folders that cannot be written: a typed error, and what was there stays."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from readthrough.errors import LibraryError
from readthrough.memory import schema
from readthrough.retrieval import segments
from readthrough.types import Event
from tests.library_samples import open_library, write_stories

ROOT = Path(__file__).parents[2]

# A real limit on the size of files stands for a full disk: the kernel refuses the write in the middle.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from readthrough.errors import LibraryError
from tests.library_samples import open_library
library = open_library(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    library.shelve([sys.argv[2]])
except LibraryError as error:
    print(error.path, "|", error.message)
    sys.exit(error.exit_code)
"""


def database(home: Path) -> Path:
    return home / "library.sqlite"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    library = open_library(tmp_path / "home")
    library.shelve(write_stories(tmp_path / "books", range(3)))
    library.close()
    return tmp_path / "home"


@pytest.mark.parametrize("room_bytes", [4_000, 40_000])
def test_a_full_disk_names_the_path_and_keeps_the_old(home: Path, tmp_path: Path, room_bytes: int) -> None:
    write_stories(tmp_path / "more", range(10, 40), paragraphs=40)
    command = [sys.executable, "-c", FULL_DISK, str(home), str(tmp_path / "more"), str(room_bytes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert str(home) in done.stdout
    library = open_library(home)
    assert library.check() == ()
    shelf = library.shelve([tmp_path / "books"])
    assert len(shelf.documents) == 3
    assert shelf.search("keeper lamp", 5, "hybrid")
    assert len(library.shelve([tmp_path / "more"]).documents) == 30, "with space it goes on"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_vector_file_that_cannot_be_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), str(home / "vectors"))

    library = open_library(home)
    more = write_stories(tmp_path / "more", range(10, 12))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(LibraryError, match=os.strerror(number)) as caught:
            library.shelve(more)
    assert caught.value.path == str(home / "vectors")
    assert len(list((home / "vectors").iterdir())) == 1
    assert library.shelve([tmp_path / "books"]).search("keeper", 3, "vectors")
    shelf = library.shelve(more)
    assert len(shelf.search("keeper", 1000, "vectors")) == len(shelf.chunk_ids())


def damage_header(path: Path) -> None:
    path.write_bytes(b"nonsense" * 64 + path.read_bytes()[512:])


def damage_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damage_header, damage_pages, cut])
def test_a_damaged_file_is_moved_aside(home: Path, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    damage(database(home))
    events: list[Event] = []
    library = open_library(home, events=events)
    shelf = library.shelve([tmp_path / "books"])
    assert len(shelf.documents) == 3
    assert shelf.search("keeper lamp", 5, "hybrid")
    assert library.check() == ()
    assert (home / "library.sqlite.damaged-1").exists()
    assert [event.stage for event in events if "damaged-1" in event.note] == ["warning"]
    library.close()
    damage(database(home))
    open_library(home).shelve([tmp_path / "books"])
    assert (home / "library.sqlite.damaged-2").exists()


def test_damage_that_shows_later_is_moved_aside_when_files_are_read(home: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    library = open_library(home, events=events)
    connection = sqlite3.connect(database(home))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'files'").fetchone()[0]
    connection.close()
    library.close()
    data = bytearray(database(home).read_bytes())
    data[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    database(home).write_bytes(data)
    library = open_library(home, events=events)
    assert len(library.shelve([tmp_path / "books"]).documents) == 3
    assert (home / "library.sqlite.damaged-1").exists()


def test_a_damaged_text_is_an_error_that_names_it(home: Path, tmp_path: Path) -> None:
    library = open_library(home)
    shelf = library.shelve([tmp_path / "books"])
    with sqlite3.connect(database(home)) as connection:
        connection.execute("UPDATE documents SET text = substr(text, 1, 40) WHERE key = 2")
    with pytest.raises(LibraryError, match=r"story001.*damaged.*library delete"):
        shelf.document(shelf.documents[1].id)
    (problem,) = library.check()
    assert "damaged" in problem
    library.delete([shelf.documents[1].id])
    shelf = library.shelve([tmp_path / "books"])
    assert shelf.document(shelf.documents[1].id).text
    assert library.check() == ()


def test_a_newer_library_is_refused(home: Path) -> None:
    with sqlite3.connect(database(home)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    with pytest.raises(LibraryError, match="update readthrough"):
        open_library(home)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder", encoding="utf-8")
    with pytest.raises(LibraryError, match="home"):
        open_library(tmp_path / "home")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(home: Path) -> None:
    home.chmod(0o500)
    try:
        with pytest.raises(LibraryError):
            open_library(home)
    finally:
        home.chmod(0o700)


def test_damaged_vector_folder_entries_do_not_count(home: Path) -> None:
    (home / "vectors" / ("0" * 64 + segments.SUFFIX)).write_bytes(b"left over")
    (home / "vectors" / f"{'0' * 64}.123.part").write_bytes(b"left over")
    open_library(home)
    assert len(list((home / "vectors").iterdir())) == 1
