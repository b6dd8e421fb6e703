"""The benchmark of recall: what it counts, and where it finds a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.passages_recall import Asked, holding, measure, ndcg, questions, recall, spread, wooded
from readthrough.memory.library import Library
from readthrough.models.scripted import ScriptedModel
from tests.library_samples import open_library, write_stories

A, B = frozenset({1, 2}), frozenset({3})


def test_recall_and_ndcg_by_hand() -> None:
    assert recall([A, B], [9, 2, 1]) == 0.5 and recall([A, B], [3, 1]) == 1 and recall([A], []) == 0
    assert ndcg([A, B], [1, 3]) == pytest.approx(1)
    assert ndcg([A, B], [1, 2, 3]) == pytest.approx((1 + 0.5) / (1 + 0.63093), abs=1e-4), "2 holds what 1 held"
    assert ndcg([A], [9, 1]) == pytest.approx(0.63093, abs=1e-4)
    assert ndcg([A, B], [1]) == pytest.approx(1 / 1.63093, abs=1e-4), "what was not returned is missed"
    assert ndcg([A, B], [9, 8]) == ndcg([A], []) == 0


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


def test_a_text_is_found_whatever_its_spaces_and_marks(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    filler = "\n\n".join(f"Paragraph {number} is about the weather {'and so on ' * 12}." for number in range(6))
    path.write_text(f"{filler}\n\nThe  lamp was lit on June 17,\n1885 by Ann.\n\n{filler}", encoding="utf-8")
    shelf = library.shelve([path])
    [found] = shelf.get(list(holding(shelf, "the lamp was lit on June 17 , 1885")))
    assert "1885 by Ann" in found.text
    assert list(holding(shelf, "the lamp was lit on June 18")) == [] and list(holding(shelf, "1885")) == []


def test_a_letter_that_becomes_two_in_small_is_found(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("Die Lampe stand an der Straße zum Leuchtturm.", encoding="utf-8")
    shelf = library.shelve([path])
    assert list(holding(shelf, "an der Straße zum"))


def test_sets_of_rows(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "wiki"
    folder.mkdir(parents=True)
    for name in ("one", "two", "three"):
        (folder / f"{name}.txt").write_text(f"This is text number {name}, about {name}s.", encoding="utf-8")
    rows = [
        {"doc": "wiki/", "question": "Which two?", "answers": ["x"], "evidence": ["wiki/one.txt", "wiki/two.txt"]},
        {"doc": "wiki/", "question": "Which none?", "answers": ["unanswerable"]},
    ]
    (tmp_path / "musique_folder.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    row = {"doc": "wiki/one.txt", "question": "Which?", "answers": ["This is text number one"]}
    (tmp_path / "contracts.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [asked] = questions(library, tmp_path, "musique")
    assert len(asked.places) == 2
    first = measure([asked], lambda shelf, question: [min(asked.places[0])])
    assert (first["recall_at_5"], first["all_found_at_10"]) == (0.5, 0.0)
    [clause] = questions(library, tmp_path, "contracts")
    assert clause.places == [frozenset(clause.shelf.chunk_ids())]
    assert measure([clause], lambda shelf, question: [])["all_found_at_10"] is None


def test_spread() -> None:
    many = [Asked(str(number), None, []) for number in range(10)]  # type: ignore[arg-type]
    assert [each.question for each in spread(many, 3)] == ["0", "3", "6"]
    assert spread(many, None) == spread(many, 99) == many


def test_trees_are_grown_once_a_shelf(library: Library, tmp_path: Path) -> None:
    shelves = [library.shelve(write_stories(tmp_path / str(seed), [seed], paragraphs=12)) for seed in range(2)]
    asked = [Asked(f"What did the keeper of lamp {number} do?", shelves[number % 2], []) for number in range(4)]
    model = ScriptedModel(replies=lambda request: "The keeper kept the lamp.")
    rankers = wooded(asked, model)
    written = sum(call.kind == "complete" for call in model.calls)
    assert set(rankers) == {"tree", "walk"} and written > 2
    for each in asked:
        for ranker in rankers.values():
            found = ranker(each.shelf, each.question)
            assert found and set(found) <= set(each.shelf.chunk_ids())
    assert sum(call.kind == "complete" for call in model.calls) == written
