"""Atomic facts: reading replies, cut ones too, and the table that keeps them beside their document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readthrough.models.structured import check_schema, parse
from readthrough.retrieval.facts import Extract, Fact, read_facts, schema
from tests.library_samples import open_library, write_stories


def reply(*passages: list[tuple[str, list[str]]]) -> str:
    forms = [[{"fact": fact, "key_elements": names} for fact, names in passage] for passage in passages]
    return json.dumps({str(number): items for number, items in enumerate(forms, 1)})


THREE = reply(
    [("Ann hid the key.", ["Ann", "key"])],
    [("It was late.", ["late"])],
    [("Bob {saw} it.", ["Bob"]), ("It rained.", ["rain"])],
)


def test_a_reply_has_a_place_for_every_passage() -> None:
    check_schema(schema(3))
    assert parse(THREE, schema(3))
    for other in (schema(2), schema(4)):
        with pytest.raises(ValueError):
            parse(THREE, other)
    with pytest.raises(ValueError):
        parse('{"1": []}', schema(1))


def test_facts_are_read_by_passage() -> None:
    assert read_facts(THREE) == [
        [("Ann hid the key.", ("Ann", "key"))],
        [("It was late.", ("late",))],
        [("Bob {saw} it.", ("Bob",)), ("It rained.", ("rain",))],
    ]


@pytest.mark.parametrize("length", range(len(THREE)))
def test_of_a_cut_reply_what_is_whole_is_read(length: int) -> None:
    whole, cut = read_facts(THREE), read_facts(THREE[:length])
    assert cut == [said[: len(mine)] for said, mine in zip(whole, cut, strict=False)]
    facts = sum(map(len, cut))
    assert facts == THREE[:length].count('"]}')


def test_text_that_no_file_can_hold_is_replaced() -> None:
    assert read_facts(r'{"1": [{"fact": "half \ud800 a", "key_elements": ["\ud800", " \n"]}]}') == [
        [("half ? a", ("?",))]
    ]


def test_facts_are_kept_by_recipe_and_go_with_their_document(tmp_path: Path) -> None:
    library = open_library(tmp_path / "home")
    shelf = library.shelve(write_stories(tmp_path / "books", range(2)))
    first, second = (entry.id for entry in shelf.documents)
    mine = Extract(0, 40, (Fact("A key.", ("key",), 3, 20), Fact("A \ud800 stair.", (), 21, 40)))
    shelf.remember_facts("model 1", [(first, Extract(40, 50, ())), (first, mine), (second, mine)])
    shelf.remember_facts("model 1", [(second, Extract(0, 40, ()))])
    assert shelf.facts("model 1") == {first: [mine, Extract(40, 50, ())], second: [Extract(0, 40, ())]}
    assert shelf.facts("model 2") == {first: [], second: []}
    library.delete([first])
    assert shelf.facts("model 1")[first] == []
    shelf.remember_facts("model 1", [(first, mine)])  # a run that was at it when the document went
    assert library.connection().execute("SELECT count(*) FROM extracts").fetchone() == (1,)
