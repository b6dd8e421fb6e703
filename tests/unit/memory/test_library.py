"""What the library keeps: each content once, changes noticed, the oldest pruned."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from readthrough.documents.base import Loading
from readthrough.errors import EmptyShelfError, InputError, MissingPathError, UnknownNameError
from readthrough.memory.library import Library
from readthrough.types import Event
from tests.library_samples import HashingEmbedder, chunker, open_library, story, write_stories


def rows(library: Library, table: str) -> int:
    return int(library.connection().execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def word_uses(library: Library) -> int:
    return rows(library, "stems_uses")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    write_stories(tmp_path / "books", range(3))
    return tmp_path / "books"


def test_shelve_keeps_the_order_and_the_text(library: Library, books: Path) -> None:
    shelf = library.shelve([books / "story002.txt", books])
    assert [Path(entry.path).name for entry in shelf.documents] == ["story002.txt", "story000.txt", "story001.txt"]
    for entry in shelf.documents:
        assert shelf.document(entry.id).text == Path(entry.path).read_text(encoding="utf-8")
        assert "".join(chunk.text for chunk in shelf.chunks(entry.id)) == shelf.document(entry.id).text
        assert entry.chunks == len(shelf.chunks(entry.id)) > 1


def test_the_same_again_does_no_work(tmp_path: Path, books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = HashingEmbedder()
    library = open_library(tmp_path / "home", embedder)
    first = library.shelve([books])
    age(books)
    library.shelve([books])  # the files were too young before for their time stamps to be trusted
    before = (rows(library, "chunks"), rows(library, "vectors"), word_uses(library), embedder.embedded)
    monkeypatch.setattr("readthrough.documents.load.load", None)  # reading any file would fail
    monkeypatch.setattr("readthrough.memory.shelving._fingerprint", None)  # so would hashing one
    again = library.shelve([books])
    assert again.documents == first.documents
    assert again.chunk_ids() == first.chunk_ids()
    assert (rows(library, "chunks"), rows(library, "vectors"), word_uses(library), embedder.embedded) == before


def age(folder: Path) -> None:
    """Make the files look as if they were written long ago. (The time of change cannot be set: wait it out.)"""
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    time.sleep(2.05)


def test_a_renamed_copy_is_kept_once(library: Library, books: Path) -> None:
    library.shelve([books])
    chunks = rows(library, "chunks")
    (books / "copy.txt").write_bytes((books / "story001.txt").read_bytes())
    shelf = library.shelve([books])
    assert len(shelf.documents) == 3, "the same content stands on a shelf once"
    assert rows(library, "chunks") == chunks
    holding = library.show(str(books / "copy.txt"))
    assert [Path(path).name for path in holding.paths] == ["copy.txt", "story001.txt"]


def test_an_edited_file_replaces_its_old_version(library: Library, books: Path) -> None:
    old = library.shelve([books])
    edited = books / "story001.txt"
    text = edited.read_text(encoding="utf-8").replace("story 1 ", "tale 1 zanzibar ")
    edited.write_text(text, encoding="utf-8")
    shelf = library.shelve([books])
    assert rows(library, "documents") == 3
    assert [shelf.document(entry.id).text for entry in shelf.documents][1] == text
    assert shelf.search("zanzibar", 5, "bm25")[0].chunk.document == shelf.documents[1].id
    assert old.documents[1].id not in {holding.id for holding in library.list()}
    assert rows(library, "vectors") == rows(library, "chunks")
    assert {row[0] for row in library.connection().execute("SELECT doc FROM stems_uses")} == set(shelf.chunk_ids())


def test_an_edit_of_the_same_size_within_the_same_tick_is_noticed(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("The lamp is red.\n", encoding="utf-8")
    status = path.stat()
    library.shelve([path])
    path.write_text("The lamp is tan.\n", encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    shelf = library.shelve([path])
    assert shelf.document(shelf.documents[0].id).text == "The lamp is tan.\n"


def test_an_old_version_that_another_file_holds_stays(library: Library, books: Path) -> None:
    (books / "copy.txt").write_bytes((books / "story001.txt").read_bytes())
    library.shelve([books])
    (books / "story001.txt").write_text(story(77), encoding="utf-8")
    library.shelve([books])
    assert rows(library, "documents") == 4
    assert len(library.show(str(books / "copy.txt")).paths) == 1


def test_a_deleted_file_is_forgotten(library: Library, books: Path) -> None:
    library.shelve([books])
    (books / "story001.txt").unlink()
    shelf = library.shelve([books])
    assert len(shelf.documents) == rows(library, "documents") == 2
    assert rows(library, "chunks") == rows(library, "vectors") == len(shelf.chunk_ids())


def test_a_missing_folder_forgets_nothing(library: Library, books: Path) -> None:
    library.shelve([books])
    books.rename(books.with_name("elsewhere"))
    with pytest.raises(MissingPathError):
        library.shelve([books])
    assert rows(library, "documents") == 3


def test_standard_input(library: Library) -> None:
    shelf = library.shelve(["-"], stdin=b"The keeper is named Ann.\n")
    assert shelf.documents[0].path == "-"
    assert shelf.document(shelf.documents[0].id).text == "The keeper is named Ann.\n"
    assert library.list()[0].paths == ()


def test_another_encoding_is_another_document(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes("Größe und Maß der Straße\n".encode("cp1252"))
    shelf = library.shelve([path], loading=Loading("cp1252"))
    assert "Größe" in shelf.document(shelf.documents[0].id).text
    shelf = library.shelve([path], loading=Loading("cp1251"))
    assert "Größe" not in shelf.document(shelf.documents[0].id).text


def test_another_chunker_splits_again_and_keeps_the_text_once(tmp_path: Path, books: Path) -> None:
    coarse = open_library(tmp_path / "home").shelve([books])
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(30))
    fine = library.shelve([books])
    assert len(fine.chunk_ids()) > len(coarse.chunk_ids())
    assert not set(fine.chunk_ids()) & set(coarse.chunk_ids())
    assert rows(library, "documents") == 3


def test_nothing_readable_names_the_reasons(library: Library, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "empty.txt").write_bytes(b"")
    with pytest.raises(EmptyShelfError, match=r"empty\.txt"):
        library.shelve([tmp_path / "bad"])


def test_what_cannot_be_read_is_listed(library: Library, books: Path) -> None:
    (books / "broken.pdf").write_bytes(b"%PDF-1.7 nonsense")
    shelf = library.shelve([books])
    assert len(shelf.documents) == 3
    assert [Path(item.path).name for item in shelf.skipped] == ["broken.pdf"]


def test_vectors_may_wait(tmp_path: Path, books: Path) -> None:
    embedder = HashingEmbedder()
    library = open_library(tmp_path / "home", embedder)
    shelf = library.shelve([books], vectors=False)
    assert embedder.embedded == 0
    assert shelf.search("keeper lamp", 3, "bm25")
    assert embedder.embedded == 0
    assert shelf.search("keeper lamp", 3, "vectors")
    assert rows(library, "vectors") == rows(library, "chunks")


def test_progress(tmp_path: Path, books: Path) -> None:
    events: list[Event] = []
    open_library(tmp_path / "home").shelve([books], on_event=events.append)
    stages = {event.stage for event in events}
    assert {"load", "index", "embed"} <= stages
    last = [event for event in events if event.stage == "embed"][-1]
    assert last.done == last.total


def test_list_show_delete(library: Library, books: Path) -> None:
    library.shelve([books / "story000.txt"])
    library.shelve([books / "story001.txt"])
    first, second = library.list()
    assert first.paths == (str(books / "story001.txt"),), "last used first"
    assert library.show(second.id[:10]) == second == library.show(str(books / "story000.txt"))
    with pytest.raises(InputError, match="no document"):
        library.show("nothing-like-it")
    with pytest.raises(InputError, match="2 documents fit"):
        library.show("")
    with pytest.raises(InputError):
        library.delete([first.id, "nothing-like-it"])
    assert len(library.list()) == 2, "all or nothing"
    assert library.delete([first.id]) == (first,)
    assert library.list() == (second,)
    library.delete([second.id])
    for table in ("documents", "files", "splits", "chunks", "vectors", "segments", "words_uses", "stems_uses"):
        assert rows(library, table) == 0, table
    assert list((library.home / "vectors").iterdir()) == []
    assert (books / "story000.txt").exists()


def test_prune_takes_the_longest_unused(library: Library, tmp_path: Path) -> None:
    paths = write_stories(tmp_path / "books", range(8), paragraphs=60)
    for path in paths:
        library.shelve([path])
    library.shelve([paths[0]])  # used again: now the youngest
    whole = library.size()
    gone = library.prune(limit_bytes=whole // 2)
    assert library.size() <= whole // 2
    left = {Path(holding.paths[0]) for holding in library.list()}
    assert paths[0] in left
    assert {Path(holding.paths[0]) for holding in gone} == set(paths[1 : 1 + len(gone)])
    shelf = library.shelve([paths[0]])
    assert shelf.search("keeper", 3, "vectors")
    assert library.check() == ()


def test_prune_by_age(library: Library, books: Path) -> None:
    library.shelve([books])
    assert library.prune(unused_seconds=3600) == ()
    assert len(library.prune(unused_seconds=-1)) == 3
    assert library.list() == ()


def test_the_size_limit_spares_the_present_shelf(tmp_path: Path) -> None:
    paths = write_stories(tmp_path / "books", range(6), paragraphs=60)
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(), size_limit_bytes=200_000)
    library.shelve(paths[:3])
    shelf = library.shelve(paths[3:])
    assert len(shelf.documents) == 3
    assert len(shelf.search("keeper lamp", 50, "hybrid")) == 50
    assert {holding.id for holding in library.list()} >= {entry.id for entry in shelf.documents}
    assert len(library.list()) < 6


def test_only_the_owner_may_look(library: Library, books: Path) -> None:
    library.shelve([books])
    for path in (library.home, *library.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_unknown_embedder(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="all-minilm-l6-v2"):
        Library.open(tmp_path / "home", embedder="all-minilm-l6-v3")
