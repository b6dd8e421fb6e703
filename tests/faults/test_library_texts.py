"""Texts of any bytes and any characters through the whole library: offsets hold, and everything can be searched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough import catalogue
from readthrough.documents.base import Loading
from readthrough.errors import InputError
from tests.library_samples import open_library

SCRIPTS = st.sampled_from(
    [
        "👩‍👩‍👧",
        "e\u0301",
        "שלום עולם",
        "مرحبا",
        "\u202e",
        "猫である",
        "Straße",
        "loadPages",
        "\x00",
        "\ufeff",
        "\r\n",
        "\u2028",
    ]
)
TEXTS = st.lists(st.text(max_size=40) | SCRIPTS, min_size=1, max_size=30).map(" ".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.tuples(TEXTS, st.sampled_from(["utf-8", "utf-16", "utf-8-sig"])).map(
        lambda made: made[0].encode(made[1], "surrogatepass" if made[1] == "utf-8" else "replace")
    )
    | st.binary(max_size=400)
)
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    library = open_library(tmp_path / "home")
    try:
        try:
            shelf = library.shelve(["-"], stdin=content)
        except InputError:
            return  # refused with a reason: no text
        (entry,) = shelf.documents
        document = shelf.document(entry.id)
        chunks = shelf.chunks(entry.id)
        assert "".join(chunk.text for chunk in chunks) == document.text
        for index in catalogue.PARTS["indexes"]:
            for chunk in chunks[:3]:
                for hit in shelf.search(chunk.text, 5, index):
                    assert document.text[hit.chunk.start : hit.chunk.end] == hit.chunk.text
        assert library.check() == ()
    finally:
        library.close()


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "gb18030", "koi8-r", "utf-16-le"])
def test_a_text_in_another_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    words = {
        "cp1252": "Größe der Straße",
        "shift_jis": "吾輩は猫である",
        "gb18030": "鲁迅的书",
        "koi8-r": "хранитель маяка",
    }
    wanted = words.get(encoding, "keeper lamp")
    path = tmp_path / "text.txt"
    path.write_bytes((f"{wanted}.\r\n\r\n" + "Other words here.\r\n\r\n" * 30).encode(encoding))
    shelf = open_library(tmp_path / "home").shelve([path], loading=Loading(encoding))
    hits = shelf.search(wanted, 1, "bm25")
    assert wanted in hits[0].chunk.text
    assert hits[0].chunk.start == 0
