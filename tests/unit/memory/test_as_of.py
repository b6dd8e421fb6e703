"""A shelf as of a position: nothing after it can be read or found, and the library keeps house."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.errors import InputError, UsageError
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.facts import Extract, Fact
from tests.library_samples import HashingEmbedder, open_library, story

LATE = "The murderer was the gardener."


def write(folder: Path, name: str = "book.txt", ending: str = LATE) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"CHAPTER I\n\n{story(1)}\n\nCHAPTER II\n\n{story(2)}\n\n{ending}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("index", ["hybrid", "bm25", "vectors", "hops", "entity-graph"])
def test_nothing_behind_the_position_is_found(tmp_path: Path, index: str) -> None:
    shelf = (library := open_library(tmp_path / "home")).shelve([write(tmp_path / "texts")])
    assert any(LATE in hit.chunk.text for hit in shelf.search(LATE, 50, index))
    cut = library.as_of(shelf, "chapter 1")
    end = cut.cut.end.end
    hits = cut.search(LATE, 50, index)
    assert hits and all(hit.chunk.end <= end and LATE not in hit.chunk.text for hit in hits)


def test_nothing_behind_the_position_is_read(tmp_path: Path) -> None:
    shelf = (library := open_library(tmp_path / "home")).shelve([write(tmp_path / "texts")])
    [whole] = shelf.documents
    shelf.remember_facts("recipe", [(whole.id, Extract(0, 9_000, (Fact("He did it.", ("he",), 8_000, 8_010),)))])
    cut = library.as_of(shelf, "line 12")
    [entry] = cut.documents
    text = shelf.document(whole.id).text
    assert text.startswith(cut.document(entry.id).text) and len(cut.document(entry.id).text) == entry.characters
    assert "".join(chunk.text for chunk in cut.chunks(entry.id)) == cut.document(entry.id).text
    assert cut.sections() == ["CHAPTER I"] and cut.facts("recipe") == {entry.id: []}
    model = ScriptedModel()
    after = cut.cut.as_of(model).unread_tokens
    assert after == model.count_tokens([text[entry.characters :]])[0] > 0
    assert library.as_of(shelf, "100%").cut.as_of(model).unread_tokens == 0


def test_a_place_inside_of_a_chunk_cuts_it(tmp_path: Path) -> None:
    shelf = (library := open_library(tmp_path / "home")).shelve([write(tmp_path / "texts")])
    first = shelf.get(shelf.chunk_ids()[:1])[0]
    cut = library.as_of(shelf, f"character {first.end - 7}")
    assert cut.get(cut.chunk_ids())[-1].end == first.end - 7


def test_vectors_of_the_whole_serve_the_beginning(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    shelf = (library := open_library(tmp_path / "home", embedder)).shelve([write(tmp_path / "texts")])
    before = embedder.embedded
    cut = library.as_of(shelf, "chapter 1")
    vectors = cut.vectors(cut.chunk_ids())
    assert embedder.embedded == before and len(vectors) == len(cut.chunk_ids())
    same = shelf.vectors([chunk for chunk, start, end in shelf.places() if (start, end) == cut.places()[0][1:]])
    assert (same[0] == vectors[0]).all()


def test_of_several_documents_one_is_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / "texts", name, f"This is {name}.") for name in ("one.txt", "two.txt")]
    shelf = (library := open_library(tmp_path / "home")).shelve(paths)
    with pytest.raises(UsageError, match=r"in which document\? There are 2: 'one.txt', 'two.txt'"):
        library.as_of(shelf, "chapter 1")
    for name in ("two.txt", "two", str(paths[1])):
        cut = library.as_of(shelf, f"{name}: chapter 1")
        assert [entry.path for entry in cut.documents] == [entry.path for entry in shelf.documents]
        assert cut.documents[0] == shelf.documents[0] and cut.documents[1].characters < shelf.documents[1].characters
    with pytest.raises(InputError, match="no section"):
        library.as_of(shelf, "two.txt: chapter 9")


def test_the_library_shows_wholes_only_and_beginnings_go_with_them(tmp_path: Path) -> None:
    path = write(tmp_path / "texts")
    library = open_library(tmp_path / "home")
    shelf = library.shelve([path])
    cut = library.as_of(shelf, "chapter 1")
    assert [holding.id for holding in library.list()] == [shelf.documents[0].id]
    assert library.show(cut.documents[0].id).characters == cut.documents[0].characters
    assert library.check() == ()
    again = library.as_of(shelf, "chapter 1")
    assert again.chunk_ids() == cut.chunk_ids(), "it is made once"
    library.delete([str(path)])
    assert library.connection().execute("SELECT count(*) FROM documents").fetchone() == (0,)
    assert library.check() == ()


def test_an_edit_behind_the_position_leaves_the_beginning_as_it_is(tmp_path: Path) -> None:
    library = open_library(tmp_path / "home")
    cut = library.as_of(library.shelve([write(tmp_path / "texts")]), "chapter 1")
    edited = library.shelve([write(tmp_path / "texts", ending="The butler, after all.")])
    again = library.as_of(edited, "chapter 1")
    assert again.chunk_ids() == cut.chunk_ids() and again.documents == cut.documents
    assert len(library.list()) == 1


def test_places_in_two_versions_of_a_file_do_not_compare(tmp_path: Path) -> None:
    library = open_library(tmp_path / "home")
    shelf = library.shelve([write(tmp_path / "texts")])
    first, second = (library.as_of(shelf, f"chapter {number}").cut.end for number in (1, 2))
    assert second.reaches(first) and not first.reaches(second)
    later = library.as_of(library.shelve([write(tmp_path / "texts", ending="Another ending.")]), "chapter 2").cut.end
    assert later.document == first.document and not later.reaches(first)
    unknown = replace(first, document_id="")  # an answer of an earlier version
    assert not unknown.reaches(unknown)


def test_a_heading_that_is_cut_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(f"CHAPTER I\n\n{story(1)}\n\nCHAPTER II\nThe Murder of Tom\n\n{story(2)}\n", encoding="utf-8")
    shelf = (library := open_library(tmp_path / "home")).shelve([path])
    line = shelf.document(shelf.documents[0].id).text[: path.read_text().index("The Murder")].count("\n")
    cut = library.as_of(shelf, f"line {line}")
    assert cut.sections() == ["CHAPTER I"] and cut.cut.end.section is None
    whole = library.as_of(shelf, f"line {line + 1}")
    assert whole.sections() == ["CHAPTER I", "CHAPTER II The Murder of Tom"]
    assert whole.cut.end.section == "CHAPTER II The Murder of Tom"
