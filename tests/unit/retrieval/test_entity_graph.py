"""The graph of names and passages: its edges, where walks end, and what leads to a passage that shares no word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from readthrough.memory.shelf import Shelf
from readthrough.retrieval.facts import Extract, Fact
from readthrough.retrieval.indexes.entity_graph import EntityGraphIndex, said_of
from readthrough.retrieval.indexes.hops import HopsIndex
from readthrough.retrieval.passage_graph import PassageGraph
from tests.library_samples import open_library, shelf_of, write_stories

QUESTION = "On what island did the man whom Tilda Marsh wed keep his goats?"
TEXTS = {
    "wedding": "Tilda Marsh was wed to Ole Brandt in Vardo.",
    "goats": "Every spring Ole Brandt took the ferry to Skerry.",
    "island": "Skerry is three miles long. Nobody lives there but goats.",
    "tilda": "Tilda Marsh painted. On what island she painted, no man knows, and whom did it harm?",
    **{f"other{number}": f"A man did keep {number} goats on what island he liked." for number in range(8)},
}
PASSAGES = [[("ann", "bob")], [("bob", "cid"), ("bob", "dan", "eve")], []]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelf_of(tmp_path, TEXTS)


def edges(graph: PassageGraph) -> dict[tuple[str, str], float]:
    shown = [str(number) for number in range(graph.passages)] + list(graph.names)
    return {(shown[a], shown[b]): round(float(w), 6) for a, b, w in zip(*graph.edges, strict=True)}


def test_edges() -> None:
    graph = PassageGraph.of(PASSAGES)
    found = edges(graph)
    assert all(found[b, a] == weight for (a, b), weight in found.items()), "both ways"
    assert {pair: weight for pair, weight in found.items() if pair < pair[::-1]} == {
        **{("0", "ann"): 1, ("0", "bob"): 1},
        **{("1", "bob"): 1, ("1", "cid"): 1, ("1", "dan"): 1, ("1", "eve"): 1},
        **{("ann", "bob"): 1, ("bob", "cid"): 1, ("bob", "dan"): 0.5, ("bob", "eve"): 0.5, ("dan", "eve"): 0.5},
    }
    assert graph.holders.tolist() == [1, 2, 1, 1, 1]


def test_a_walk_begins_at_rare_names_and_stays_near() -> None:
    graph = PassageGraph.of([[("ann",)], [("bob",)], [("bob",)], [("bob", "cid")], [("zoe",)]])
    rank = graph.walk({}, ["ann", "bob"], 0.5)
    assert rank[0] > rank[1] == rank[2] > 0, "ann is in one passage, bob in three"
    assert rank[4] == 0, "nothing leads there"
    far = graph.walk({1: 1.0}, [], 0.5)
    assert far[1] > far[2] > 0 and far[3] > 0 and far[0] == 0
    with pytest.raises(ValueError, match="to begin at"):
        graph.walk({}, [], 0.5)
    assert PassageGraph.of([[], []]).walk({1: 1.0}, [], 0.5).tolist() == [0, 1], "passages without names"


def test_names_of_a_text() -> None:
    graph = PassageGraph.of([[("tilda marsh", "tilda", "marsh", "o'neill", "grand-pré")]])
    assert graph.named("Did TILDA MARSH's painter meet O'Neill in Grand-Pré? The marsh!") == [
        *("tilda", "marsh", "o'neill", "grand-pré", "tilda marsh"),
    ]
    assert graph.named("") == [] and graph.named("who is the marshal") == []


def test_synonyms_are_joined_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = PassageGraph.of(PASSAGES)
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.436], [0, 1], [-1, 0]], dtype=np.float32)
    joined = graph.with_synonyms(vectors, 0.85)
    monkeypatch.setattr("readthrough.retrieval.passage_graph._BLOCK_ROWS", 2)
    assert edges(graph.with_synonyms(vectors, 0.85)) == edges(joined)
    more = {pair: weight for pair, weight in edges(joined).items() if pair not in edges(graph)}
    assert more == {("ann", "cid"): 0.9, ("cid", "ann"): 0.9}
    assert sum(a == b for a, b in zip(*joined.edges[:2], strict=True)) == 0


def found(shelf: Shelf, index: EntityGraphIndex | HopsIndex, k: int) -> list[str]:
    names = {entry.id: Path(entry.path).stem for entry in shelf.documents}
    return [names[chunk.document] for chunk in shelf.get([chunk for chunk, _ in index.search(QUESTION, k)])]


def test_names_bring_forward_what_shares_no_word(shelf: Shelf) -> None:
    before, after = found(shelf, HopsIndex(shelf), 20), found(shelf, EntityGraphIndex(shelf), 20)
    assert sorted(before) == sorted(after) == sorted(TEXTS)
    assert before[-2:] == ["goats", "island"], "behind all that share words with the question"
    assert after[0] == "wedding" and after.index("goats") < 6 and after.index("island") < 9


def test_facts_that_a_model_wrote_take_the_place_of_names(shelf: Shelf) -> None:
    ids = {Path(entry.path).stem: entry.id for entry in shelf.documents}
    said = Extract(0, 40, (Fact("The ferry goes to the isle.", ("the Goats", "on", "isle"), 0, 40),))
    nothing = Extract(0, 40, ())
    graph = EntityGraphIndex(shelf, facts={ids["goats"]: [said], ids["island"]: [nothing]})._make_graph(
        shelf.chunk_array().tobytes()
    )
    assert {"goats", "isle", "skerry"} <= set(graph.names), "a passage of which nothing was written has its names"
    assert "ferry" not in graph.names and "on" not in graph.names
    [chunk] = shelf.chunks(ids["goats"])
    assert said_of([chunk], [said]) == [[("goats", "isle")]] and said_of([chunk], [nothing]) == [[]]


def test_synonyms_by_option(shelf: Shelf) -> None:
    chunk_ids = shelf.chunk_array().tobytes()
    plain = EntityGraphIndex(shelf)._make_graph(chunk_ids)
    joined = EntityGraphIndex(shelf, synonyms_above=0.7)._make_graph(chunk_ids)
    assert ("tilda", "tilda marsh") in edges(joined) and len(joined.edges[0]) > len(plain.edges[0])


def test_a_graph_is_made_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = PassageGraph.of
    monkeypatch.setattr(PassageGraph, "of", lambda passages: made.append(len(passages)) or real(passages))
    index = EntityGraphIndex(shelf)
    some = [entry.id for entry in shelf.documents[:3]]
    for among in (None, some, None, some):
        index.search(QUESTION, 3, among)
    assert made == [len(TEXTS), 3]


def test_without_names_it_is_the_search_in_hops(tmp_path: Path) -> None:
    shelf = open_library(tmp_path / "home").shelve(write_stories(tmp_path / "books", range(3)))
    index = EntityGraphIndex(shelf)
    index._make_graph = lambda chunk_ids: PassageGraph.of([[]] * len(shelf.chunk_ids()))  # type: ignore[method-assign]
    index._graph = index._make_graph  # type: ignore[assignment]
    query = "keeper of the lamp"
    assert [c for c, _ in index.search(query, 9)] == [c for c, _ in HopsIndex(shelf).search(query, 9)]


def test_nonsense_settings() -> None:
    for wrong in ({"damping": 1.0}, {"damping": -0.1}, {"passage_weight": 0}):
        with pytest.raises(ValueError, match="damping"):
            EntityGraphIndex(None, **wrong)  # type: ignore[arg-type]
