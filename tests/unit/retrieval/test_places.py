"""The places of passages of source code: which definitions, which lines, which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.memory.shelf import Shelf
from readthrough.retrieval.code.places import Place, places
from tests.library_samples import open_library

TOWER = '''"""A tower."""

from coast.light import Light


class Tower:
    """Where the keeper lives."""

    lamp = Light()

    @property
    def height(self):
        return measure_height(self.lamp) + len(self.steps)

    def signal(self, ship):
        self.lamp.flash_towards(ship)
'''
LIGHT = "class Light:\n    def flash_towards(self, ship):\n        return ship\n"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    for name, text in {"coast/tower.py": TOWER, "coast/light.py": LIGHT, "notes.txt": "The lamp is lit."}.items():
        path = tmp_path / "repo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return open_library(tmp_path / "home").shelve([tmp_path / "repo"])


def found(shelf: Shelf, known: str = "", uses: int = 3) -> list[Place]:
    return list(places(shelf.code(), shelf.get(shelf.chunk_ids()), known, uses))


def test_the_innermost_definitions_with_the_lines_of_their_names(shelf: Shelf) -> None:
    told = [(Path(place.path).name, place.line, place.name) for place in found(shelf)]
    assert ("tower.py", 12, "Tower.height") in told, "the line of the name, not of what is around it"
    assert ("light.py", 2, "Light.flash_towards") in told
    assert len(told) == len(set(told))
    lines = {name: (shelf.document(place.document), place.line) for place in found(shelf) for name in [place.name]}
    for name, (document, line) in lines.items():
        start, end = document.span_of_lines(line, line)
        assert name.rpartition(".")[2] in document.text[start:end]


def test_names_that_are_used_without_those_that_are_known(shelf: Shelf) -> None:
    height = next(place for place in found(shelf) if place.name == "Tower.height")
    assert "measure_height" in height.uses and "height" not in height.uses and "len" not in height.uses
    height = next(place for place in found(shelf, "What does measure_height do?") if place.name == "Tower.height")
    assert "measure_height" not in height.uses
    assert all(len(place.uses) <= 1 for place in found(shelf, uses=1))


def test_texts_that_are_no_code_have_no_places(shelf: Shelf) -> None:
    notes = next(entry.id for entry in shelf.documents if entry.kind != "code")
    assert list(places(shelf.code(), shelf.get(shelf.chunk_ids(notes)))) == []
