"""Bytes in any encoding, damaged or not: the text is exact, the encoding is recorded, binaries are refused."""

from __future__ import annotations

import codecs
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough.documents.base import Chunker
from readthrough.documents.chunkers.tokens import TokenChunker
from readthrough.documents.load import load, load_bytes
from readthrough.documents.reading import decode
from readthrough.errors import ConfigError, DocumentError

RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах. "
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits. “Où êtes-vous ?” Déjà prêt — là. "
GERMAN = "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Schöne Grüße von der Straße. "


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", FRENCH),
        ("utf-8-sig", FRENCH),
        ("utf-16", JAPANESE),
        ("utf-32", JAPANESE),
        ("utf-16-le", GERMAN),
        ("utf-16-be", GERMAN),
        ("cp1252", FRENCH),
        ("cp1252", GERMAN),
        ("shift_jis", JAPANESE),
        ("gb18030", CHINESE),
        ("koi8-r", RUSSIAN),
        ("cp1251", RUSSIAN),
        ("euc-jp", JAPANESE),
    ],
)
def test_detected_and_recorded(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((text * 8).encode(encoding))
    document = load(path)
    assert document.text == text * 8
    assert document.encoding is not None
    assert codecs.lookup(document.encoding)
    assert path.read_text(document.encoding).removeprefix("\ufeff") == document.text


def test_the_question_may_stand_far_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"Plain words of English.\n" * 20_000 + (JAPANESE * 3).encode("shift_jis"))
    assert load(path).text.endswith(JAPANESE)


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Où êtes-vous".encode("cp850"))
    assert load(path, encoding="cp850").text == "Où êtes-vous"
    with pytest.raises(DocumentError, match="is not valid utf-8 at byte 1"):
        load(path, encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown text encoding 'latin-99'"):
        load(path, encoding="latin-99")
    with pytest.raises(ConfigError):
        load(path, encoding="hex")


def test_a_few_bad_bytes_do_not_change_the_encoding() -> None:
    data = (FRENCH * 20).encode() + b"\xff\xfe broken \xed\xa0\x80" + FRENCH.encode()
    text, encoding = decode(data, "a.txt")
    assert text.startswith(FRENCH * 20) and text.endswith(FRENCH)
    assert encoding == "utf-8 (5 bad bytes replaced)"


@pytest.mark.parametrize("data", [b"\x7fELF" + bytes(2000), os.urandom(5000), b"\x89PNG\r\n\x1a\n" + os.urandom(500)])
@pytest.mark.parametrize("name", ["a.txt", "a", "a.py", "a.md", "a.unknown"])
def test_binaries_are_refused(data: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match="binary file"):
        load(tmp_path / name)


def test_a_rare_nul_does_not_make_a_text_binary() -> None:
    text = "A line of a log with words.\n" * 200 + "\0"
    assert load_bytes(text.encode(), "a.log").text == text
    with pytest.raises(DocumentError, match="binary file"):
        load_bytes(b"a\0b\0c", "a.log")


text_without_nul = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)
lines = st.lists(
    text_without_nul | st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\x0b", "\f", "a b c. "]), min_size=1
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(pieces=lines, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_text_equals_universal_newlines(pieces: list[str], encoding: str, tmp_path: Path) -> None:
    text = "".join(pieces)
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    try:
        document = load(path, encoding=encoding)
    except DocumentError as error:
        assert "empty file" in error.message and not text.removeprefix("\ufeff").strip()
        return
    expected = path.read_text(encoding).removeprefix("\ufeff")
    assert document.text == expected


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.binary(max_size=3000)
    | st.lists(st.sampled_from([b"words ", b"\xff", b"\xed\xa0\x80", b"\r\n", b"\xc3\xa9"])).map(b"".join)
)
def test_any_bytes_give_a_text_that_can_be_chunked_or_a_typed_error(data: bytes) -> None:
    try:
        text, encoding = decode(data, "a.txt")
    except DocumentError:
        return
    assert encoding
    assert text.strip()
    assert "\r" not in text
    text.encode("utf-8")


@pytest.mark.slow
def test_fifty_megabytes_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_bytes(b"x" * 50_000_000)
    document = load(path)
    chunker: Chunker = TokenChunker(count_tokens=lambda texts: [len(item) // 4 for item in texts])
    chunks = chunker.split(document)
    assert max(len(chunk.text) for chunk in chunks) <= 4 * 255
    assert sum(len(chunk.text) for chunk in chunks) == 50_000_000
    assert all(before.end == after.start for before, after in itertools.pairwise(chunks))
