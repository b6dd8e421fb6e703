"""The graph of key elements: names, joins, search."""

from __future__ import annotations

import json

import numpy as np
import pytest

from readthrough.retrieval.entities import EntityGraph, near_names, normalise
from readthrough.retrieval.facts import Fact

FACTS = [
    (0, Fact("Ann Weller hid the brass keys.", ("Ann Weller", "the brass keys"), 0, 30)),
    (0, Fact("A brass key opens the lamp room.", ("brass key", "Lamp room"), 31, 60)),
    (1, Fact("Moses saw the lamp rooms.", ("Moses", "lamp rooms", "LAMP ROOM"), 5, 25)),
    (1, Fact("It was late.", ("--", ""), 26, 30)),
]
GRAPH = EntityGraph.of(FACTS)


@pytest.mark.parametrize(
    ("element", "name"),
    [
        *(
            ("The Brass Key", "brass key"),
            ("  an\nold  ﬁle. ", "old file"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
        ),
        *(("the", ""), ("Theo", "theo"), ("of his", ""), ("“Babel”", "babel"), ("--", ""), ("バベル", "バベル")),
    ],
)
def test_key_elements_become_names(element: str, name: str) -> None:
    assert normalise(element) == name


def test_names_are_merged_to_the_last_of_them() -> None:
    names = ("weller", "ann weller", "ann weller smith", "bob", "rob")
    facts = [(0, Fact(f"{name} slept.", (name,), 0, 9)) for name in names]
    chain = {"weller": "ann weller", "ann weller": "ann weller smith", "bob": "rob", "rob": "bob"}
    assert EntityGraph.of(facts, chain).nodes == {"ann weller smith": [0, 1, 2], "bob": [3, 4]}


def test_equal_names_and_plurals_of_known_names_are_one_node() -> None:
    assert GRAPH.nodes == {"ann weller": [0], "brass key": [0, 1], "lamp room": [1, 2], "moses": [2]}
    assert GRAPH.shown["moses"] == "Moses" and GRAPH.shown["ann weller"] == "Ann Weller"
    assert GRAPH.facts[2].names == ("moses", "lamp room") and GRAPH.facts[3].names == ()


def test_neighbours_share_facts() -> None:
    assert GRAPH.neighbours("brass key") == {"ann weller": 1, "lamp room": 1}
    assert GRAPH.neighbours("moses") == {"lamp room": 1}


def test_search_ranks_facts_by_their_words_and_names() -> None:
    assert GRAPH.search("brass") == [0, 1]
    assert GRAPH.search("Did Ann open the lamp?")[:2] == [0, 1]
    assert GRAPH.search("Moses") == [2]
    assert GRAPH.search('"; NOT (') == [] == EntityGraph.of([]).search("key")


def test_it_travels_as_json() -> None:
    assert EntityGraph.from_json(json.loads(json.dumps(GRAPH.to_json()))) == GRAPH


def test_names_with_near_vectors_are_merged_into_the_first() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.96, 0.28], [0.6, 0.8]], dtype=np.float32)
    merged = near_names(["lamp room", "moses", "brass key", "ann weller"], vectors, 0.9)
    assert merged == {"brass key": "lamp room"}
    graph = EntityGraph.of(FACTS, merged)
    assert graph.nodes["lamp room"] == [0, 1, 2] and "brass key" not in graph.nodes
    assert graph.neighbours("lamp room") == {"ann weller": 1, "moses": 1}
