"""Keyword search in German, French and Chinese over a library: forms of a word, accents, and what must not be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from tests.library_samples import open_library

GERMAN = {
    "hafen": "Die alten Häuser am Hafen standen seit dem Sturm leer, und niemand wollte in ihnen wohnen.",
    "haut": "Die Haut des Fisches war rau und dunkel, und der Koch wollte sie nicht mit den Händen berühren.",
    "strasse": "Auf den Straßen der kleinen Stadt fuhr an diesem Morgen kein Wagen, denn es hatte geschneit.",
    "strauss": "Der Strauß auf dem Tisch war schon verwelkt, als die Gäste aus der Kirche nach Hause kamen.",
    "buecher": "Der Händler hatte die Bücher des Pfarrers gekauft, und er verkaufte sie im Winter wieder.",
    "buche": "Unter der großen Buche im Garten hatte der Großvater eine Bank gebaut, auf der er am Abend saß.",
}
FRENCH = {
    "chevaux": "Les chevaux du roi étaient dans la cour, et les gardes ne les laissaient pas sortir avant midi.",
    "cheveux": "Les cheveux de la reine étaient noirs, et elle les portait longs comme les femmes de son pays.",
    "ecole": "À l'école du village, les élèves étudiaient la géographie avec un maître qui venait de Paris.",
    "arrivee": "Elles étaient arrivées trop tard pour le train, et il n'y avait plus une chambre dans la ville.",
    "rivage": "Sur le rivage, la mer avait laissé des planches et des cordes que personne ne voulait prendre.",
}
CHINESE = {
    "dongjing": "我住在东京都附近，每天坐电车去上班。",
    "beijing": "北京的冬天很冷，常常下雪。",
    "jingdong": "京城以东有一座古老的寺庙，游客很多。",
    "luxun": "这本书的作者是鲁迅，他写了很多短篇小说。",
    "shu": "树上有很多鸟，迅速地飞走了。",
}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


def shelve(library: Library, folder: Path, texts: dict[str, str]) -> Shelf:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return library.shelve([folder], vectors=False)


def found(shelf: Shelf, query: str, index: str = "bm25") -> list[str]:
    paths = {entry.id: Path(entry.path).stem for entry in shelf.documents}
    return [paths[hit.chunk.document] for hit in shelf.search(query, 10, index)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Haus", ["hafen"]),
        ("Strasse", ["strasse"]),
        ("Straße", ["strasse"]),
        ("Buch", ["buecher"]),
        ("Sturmes", ["hafen"]),
        ("verkaufter", ["buecher"]),
        ("Haeuser", ["hafen"]),
    ],
)
def test_german(library: Library, tmp_path: Path, query: str, expected: list[str]) -> None:
    assert found(shelve(library, tmp_path / "texts", GERMAN), query)[:1] == expected


def test_german_words_that_only_look_alike_are_not_found(library: Library, tmp_path: Path) -> None:
    shelf = shelve(library, tmp_path / "texts", GERMAN)
    assert found(shelf, "Straßen") == ["strasse"]
    assert found(shelf, "Bücher") == ["buecher", "buche"], "one stem, but the word as it stands comes first"
    assert found(shelf, "Häute") == ["haut"]
    assert sorted(found(shelf, "Häuser")) == ["hafen", "strauss"], "`nach Hause` holds a form of Haus"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cheval", ["chevaux"]),
        ("chevaux", ["chevaux"]),
        ("ecole", ["ecole"]),
        ("écoles", ["ecole"]),
        ("étudier", ["ecole"]),
        ("arrivé", ["arrivee"]),
        ("arriver", ["arrivee"]),
        ("rivages", ["rivage"]),
    ],
)
def test_french(library: Library, tmp_path: Path, query: str, expected: list[str]) -> None:
    assert found(shelve(library, tmp_path / "texts", FRENCH), query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [("东京", "dongjing"), ("北京", "beijing"), ("鲁迅", "luxun"), ("小说", "luxun"), ("寺庙", "jingdong")],
)
def test_chinese_by_words_of_two_characters(library: Library, tmp_path: Path, query: str, expected: str) -> None:
    shelf = shelve(library, tmp_path / "texts", CHINESE)
    hits = shelf.search(query, 10, "bm25")
    assert found(shelf, query)[0] == expected
    if len(hits) > 1:  # single characters may be shared: 京, 迅
        assert hits[0].score > 1.5 * hits[1].score


@pytest.mark.parametrize("index", ["bm25", "bm25-feedback"])
def test_one_shelf_in_several_languages(library: Library, tmp_path: Path, index: str) -> None:
    english = {
        "houses": "The old houses of the harbour had not been lived in since the storm, and they were for sale.",
        "chat": "They had a chat about the main road and the gift that had come with the post from Paris.",
    }
    shelf = shelve(library, tmp_path / "texts", {**GERMAN, **FRENCH, **CHINESE, **english})
    assert found(shelf, "Haus", index)[0] == "hafen"
    assert found(shelf, "cheval", index)[0] == "chevaux"
    assert found(shelf, "house", index)[0] == "houses"
    assert found(shelf, "鲁迅", index)[0] == "luxun"
    assert found(shelf, "which houses were for sale", index)[0] == "houses"


def test_scores_do_not_depend_on_other_languages_in_the_library(library: Library, tmp_path: Path) -> None:
    shelf = shelve(library, tmp_path / "texts", GERMAN)
    query = "die Häuser der Händler und das Buch"
    before = [(hit.chunk.id, hit.score) for hit in shelf.search(query, 10, "bm25")]
    assert len(before) > 3
    shelve(library, tmp_path / "more", FRENCH)
    assert [(hit.chunk.id, hit.score) for hit in shelf.search(query, 10, "bm25")] == before


def test_a_changed_file_changes_its_language(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(GERMAN["hafen"], encoding="utf-8")
    assert library.shelve([path], vectors=False).search("Haus", 1, "bm25")
    path.write_text(FRENCH["chevaux"], encoding="utf-8")
    shelf = library.shelve([path], vectors=False)
    assert shelf.search("cheval", 1, "bm25")
    assert not shelf.search("Häuser", 1, "bm25")
    assert library.check() == ()
    library.delete([str(path)])
    assert library.connection().execute("SELECT count(*) FROM snowball").fetchone() == (0,)
