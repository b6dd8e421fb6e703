"""Symbols of source files in the library: made once a file, kept with it, and gone with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.documents import parsing as grammars
from readthrough.documents import symbols
from readthrough.errors import InputError, MissingExtraError, UsageError
from readthrough.memory import parsing
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval.code import records
from readthrough.types import Event
from tests.code_samples import FILES, write_repository
from tests.library_samples import count_words, open_library, write_stories

PYTHON_FILES = sum(name.endswith(".py") for name in FILES)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "repository")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were parsed for symbols."""
    texts: list[str] = []

    def symbols_of(text: str, language: str | None) -> symbols.Symbols | None:
        texts.append(text)
        return symbols.symbols_of(text, language)

    monkeypatch.setattr(parsing, "symbols_of", symbols_of)
    return texts


def shelve(library: Library, *paths: Path, events: list[Event] | None = None) -> Shelf:
    return library.shelve(paths, vectors=False, on_event=None if events is None else events.append)


def names(shelf: Shelf) -> set[str]:
    return {".".join(made.path) for made in shelf.code().definitions}


def test_a_file_is_parsed_once(library: Library, folder: Path, parsed: list[str]) -> None:
    events: list[Event] = []
    first = shelve(library, folder, events=events)
    assert len(parsed) == PYTHON_FILES
    assert [(event.done, event.total) for event in events if event.stage == "parse"][-1] == (PYTHON_FILES, PYTHON_FILES)
    assert names(first) == names(shelve(library, folder)) >= {"Tower.keep_watch", "refill_tank"}
    assert len(parsed) == PYTHON_FILES


def test_an_edit_touches_its_file_alone(library: Library, folder: Path, parsed: list[str]) -> None:
    shelve(library, folder)
    parsed.clear()
    text = FILES["coast/lamp.py"] + "\n\ndef trim_wick():\n    return 1\n"
    (folder / "coast/lamp.py").write_text(text)
    assert "trim_wick" in names(shelve(library, folder))
    assert parsed == [text]
    assert library.connection().execute("SELECT count(*) FROM symbols").fetchone()[0] == PYTHON_FILES
    (folder / "coast/lamp.py").unlink()
    assert "trim_wick" not in names(shelve(library, folder))
    assert library.connection().execute("SELECT count(*) FROM symbols").fetchone()[0] == PYTHON_FILES - 1


def test_what_was_parsed_before_a_kill_stays(
    library: Library, folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "BATCH_DOCUMENTS", 2)

    def interrupt(event: Event) -> None:
        if event.stage == "parse" and event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.shelve([folder], vectors=False, on_event=interrupt)
    assert len(parsed) == 4
    assert "Tower.keep_watch" in names(shelve(library, folder))
    assert len(parsed) == PYTHON_FILES


def test_other_rules_parse_again(
    library: Library, folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelve(library, folder)
    monkeypatch.setattr(records, "VERSION", symbols.VERSION + 1)
    assert "Tower" in names(shelve(library, folder))
    assert len(parsed) == 2 * PYTHON_FILES


def test_symbols_come_back_as_they_were(library: Library, tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "fixtures" / "code" / "tower.py"
    shelf = shelve(library, source)
    assert shelf.code().files[0].symbols == symbols.symbols_of(source.read_text(encoding="utf-8"), "python")


def test_a_damaged_text_does_not_stop_the_others(library: Library, folder: Path) -> None:
    shelve(library, folder)
    connection = library.connection()
    connection.execute("DELETE FROM symbols")
    connection.execute(
        "UPDATE documents SET text = x'00' WHERE key = (SELECT min(key) FROM documents WHERE language = 'python')"
    )
    assert len(shelve(library, folder).code().files) == PYTHON_FILES - 1


def test_map(library: Library, folder: Path) -> None:
    shelf = shelve(library, folder)
    made = shelf.map("How is the barometer read?", 60, count_words)
    assert made.files[0].path == os.path.join(folder, "coast/weather/storm.py")
    assert "read_barometer()" in made.text
    assert count_words([made.text])[0] == made.tokens <= 60
    assert shelf.map("", 10_000).files_left == 1, "the package itself, which defines nothing"
    with pytest.raises(UsageError):
        shelf.map("", 0)


def test_nothing_to_map(library: Library, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="none of 1 documents.*python"):
        shelve(library, *write_stories(tmp_path / "books", [1])).map("", 100)
    monkeypatch.setattr(grammars, "_tools", lambda language: None)
    with pytest.raises(MissingExtraError, match="python.*readthrough\\[code\\]"):
        shelve(library, folder).map("", 100)
    monkeypatch.undo()
    assert shelve(library, folder).map("", 100).files, "parsed once the grammar is there"


def test_what_chunks_rest_on(library: Library, folder: Path) -> None:
    shelf = shelve(library, folder)
    found = [hit.chunk.id for hit in shelf.search("keep watch hours", 1, "bm25")]

    def paths(tokens: int) -> list[str]:
        hits = shelf.rests_on(found, tokens, count_words)
        assert sum(count_words([hit.chunk.text for hit in hits])) <= tokens
        assert not set(found) & {hit.chunk.id for hit in hits}
        return [os.path.relpath(shelf.document(hit.chunk.document).path, folder) for hit in hits]

    assert set(paths(1000)) >= {"coast/weather/storm.py", "coast/lamp.py"}
    assert len(paths(30)) < len(paths(1000))
    assert paths(1) == []
    assert shelf.rests_on([], 100, count_words) == []


def test_counting_of_a_map_is_bounded(library: Library, folder: Path) -> None:
    shelf = shelve(library, folder)
    counted: list[str] = []

    def count(texts: Sequence[str]) -> list[int]:
        counted.extend(texts)
        return count_words(texts)

    shelf.map("", 200, count)
    assert len(counted) < 12


def test_a_part_of_a_method_is_found_by_its_names(library: Library, tmp_path: Path) -> None:
    steps = "".join(f"        self.step_{number} = climb({number})\n" for number in range(60))
    source = f"class Tower:\n    def walk_upstairs(self):\n{steps}\n    def rest(self):\n        return None\n"
    (tmp_path / "tower.py").write_text(source)
    (tmp_path / "notes.txt").write_text("The lamp.\n")
    shelf = library.shelve([tmp_path / "tower.py", tmp_path / "notes.txt"], vectors=False)
    texts = [hit.chunk.text for hit in shelf.search("walkUpstairs", 20, "bm25")]
    assert len(texts) > 2
    assert sum("walk_upstairs" in text for text in texts) == 1, "the others do not hold the name"
    headers = [shelf.header(chunk_id) for chunk_id in shelf.chunk_ids()]
    assert headers[0] == "tower.py, line 1"
    line = source[: shelf.get(shelf.chunk_ids())[2].start].count("\n") + 1
    assert headers[2] == f"tower.py, line {line}\nclass Tower\n  def walk_upstairs(self)" and line > 2
    assert headers[-1] == str(tmp_path / "notes.txt")
    (tmp_path / "tower.py").write_text("x = 1\n")
    after = library.shelve([tmp_path / "tower.py"], vectors=False)
    assert not after.search("walkUpstairs", 20, "bm25")
    assert library.check() == ()
