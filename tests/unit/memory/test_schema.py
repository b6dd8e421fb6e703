"""Libraries of older versions are brought up to date, all or nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from readthrough.memory import library as library_module
from readthrough.memory import schema, store
from readthrough.retrieval import keywords, tongues
from tests.code_samples import write_repository
from tests.library_samples import open_library, write_stories


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_an_empty_file_is_version_0(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "library.sqlite"
    sqlite3.connect(path).execute("PRAGMA user_version = 0").connection.close()
    library = open_library(tmp_path / "home")
    assert len(library.shelve(write_stories(tmp_path / "books", [1])).documents) == 1
    assert version(path) == len(schema.MIGRATIONS)


def test_an_older_library_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, paths = tmp_path / "home", write_stories(tmp_path / "books", range(2))
    library = open_library(home)
    ids = library.shelve(paths).chunk_ids()
    library.close()

    def add_notes(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE documents ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_notes))
    library = open_library(home)
    assert library.shelve(paths).chunk_ids() == ids
    assert library.connection().execute("SELECT DISTINCT note FROM documents").fetchall() == [("none",)]
    assert version(home / "library.sqlite") == len(schema.MIGRATIONS)


def knowing_no_cuts(old: pytest.MonkeyPatch) -> None:
    """The code as it was before a document's beginning could be a document of its own."""
    old.setattr(store, "delete_documents", lambda *arguments: None)


def knowing_no_languages(old: pytest.MonkeyPatch) -> None:
    """The code as it was before documents were stemmed in their languages."""
    old.setattr(keywords, "note_language", lambda *arguments: None)
    old.setattr(keywords, "language", lambda *arguments: None)
    old.setattr(keywords, "languages", lambda *arguments: [])


def test_a_library_without_symbols_gets_them_and_other_keywords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", write_repository(tmp_path / "repository")
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._add_symbols)])
        knowing_no_cuts(old)
        old.setattr(library_module, "parse_missing", lambda *arguments: None)
        old.setattr(keywords, "prepare", lambda text: text)
        knowing_no_languages(old)
        library = open_library(home)
        shelf = library.shelve([folder], vectors=False)
        ids = shelf.chunk_ids()
        assert not shelf.search("keepwatch", 5, "bm25")
        library.close()
    library = open_library(home)
    shelf = library.shelve([folder], vectors=False)
    assert shelf.chunk_ids() == ids
    assert "def keep_watch" in shelf.search("keepwatch", 5, "bm25")[0].chunk.text
    assert shelf.code().definitions
    assert library.check() == ()
    for name in ("tower", "main"):
        (folder / f"coast/{name}.py").write_text("x = 1\n")
    assert not library.shelve([folder], vectors=False).search("keepwatch", 5, "bm25")
    assert library.check() == (), "what was indexed again can be taken out"


def test_a_library_of_english_stems_gets_those_of_its_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, texts = tmp_path / "home", tmp_path / "texts"
    texts.mkdir()
    (texts / "german.txt").write_text("Die alten Häuser am Hafen waren seit dem Sturm unbewohnt, und man sah es.")
    (texts / "english.txt").write_text("The old houses of the harbour had not been lived in since the storm.")
    (texts / "code.py").write_text("def die(der, das, und, ist):\n    return der\n")
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._add_stems)])
        knowing_no_cuts(old)
        knowing_no_languages(old)
        library = open_library(home)
        ids = library.shelve([texts], vectors=False).chunk_ids()
        library.close()
    library = open_library(home)
    shelf = library.shelve([texts], vectors=False)
    assert shelf.chunk_ids() == ids
    assert library.check() == ()
    (hit,) = shelf.search("Haus", 5, "bm25")
    assert "Häuser" in hit.chunk.text
    assert "houses" in shelf.search("house", 5, "bm25")[0].chunk.text
    library.delete([entry.path for entry in shelf.documents])
    assert library.check() == (), "what was indexed again can be taken out"
    for table in ("stemmed", "snowball", "snowball_uses", "words_uses", "stems_uses"):
        assert library.connection().execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_turkish_words_that_were_two_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, texts = tmp_path / "home", tmp_path / "texts"
    texts.mkdir()
    (texts / "turkish.txt").write_text("Fener bekçisi İZMİR için bir gemi daha gördü, ama o çok küçük ve eski.")
    (texts / "german.txt").write_text("Die alten Häuser am Hafen waren seit dem Sturm unbewohnt, und man sah es.")
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._stem_turkish_again)])
        knowing_no_cuts(old)
        old.setattr(tongues, "_lower", str.lower)
        library = open_library(home)
        library.shelve([texts], vectors=False)
        before = dict(
            library.connection().execute(
                "SELECT language, text FROM snowball JOIN chunks ON chunks.id = "
                "snowball.rowid JOIN splits ON splits.key = split JOIN stemmed USING (document)"
            )
        )
        library.close()
    assert set(before) == {"tr", "de"} and "trizmir" not in before["tr"]
    library = open_library(home)
    after = [text for (text,) in library.connection().execute("SELECT text FROM snowball ORDER BY rowid")]
    assert len(after) == 2 and before["de"] in after
    assert any("trizmir" in text.split() for text in after)
    shelf = library.shelve([texts], vectors=False)
    assert library.check() == () and shelf.search("izmir", 5, "bm25")
    library.delete([entry.path for entry in shelf.documents])
    assert library.connection().execute("SELECT count(*) FROM snowball").fetchone() == (0,)


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    open_library(home).close()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE vectors")
        raise RuntimeError("half done")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, fail))
        with pytest.raises(RuntimeError):
            open_library(home)
    assert open_library(home).shelve(write_stories(tmp_path / "books", [1])).search("lamp", 1)
