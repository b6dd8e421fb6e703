"""Filters against their definition, character by character."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readthrough.errors import InputError, UsageError
from readthrough.filters import Filter
from readthrough.memory.filtering import is_named, passing
from readthrough.memory.shelf import Entry
from readthrough.types import Chunk, Document, Page, Section
from tests.library_samples import open_library

TEXT = "".join(f"line {number}\n" for number in range(40))
HEADINGS = [("Part I",), ("Part I", "Chapter 3: Home"), ("Part I", "Chapter 30"), ("Part II",), ("Part II", "home")]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    cuts = sorted(draw(st.lists(st.integers(0, len(TEXT)), min_size=6, max_size=6, unique=True)))
    sections = tuple(Section(path, *span) for path, span in zip(HEADINGS, pairwise(cuts), strict=True))
    middle = draw(st.integers(1, len(TEXT) - 1))
    pages = draw(st.sampled_from([(), (Page(1, 0, middle), Page(2, middle, len(TEXT)))]))
    return Document("d", "d.txt", TEXT, "text", pages, sections)


def chunks_of(cuts: list[int]) -> list[Chunk]:
    edges = [0, *sorted(set(cuts)), len(TEXT)]
    spans = [(a, b) for a, b in pairwise(edges) if a < b]
    return [Chunk(100 + n, "d", n, a, b, "") for n, (a, b) in enumerate(spans)]


def ranges(most: int) -> st.SearchStrategy[tuple[int, int] | None]:
    pairs = st.tuples(st.integers(1, most), st.integers(1, most))
    return st.none() | pairs.map(lambda pair: (min(pair), max(pair)))


@given(
    documents(),
    st.lists(st.integers(1, len(TEXT) - 1), max_size=8),
    st.sampled_from([None, "home", "CHAPTER 3", "part i", "Chapter 30", "nowhere"]),
    ranges(3),
    ranges(50),
    st.integers(0, 300),
    st.none() | st.integers(301, 500),
)
def test_a_chunk_passes_with_any_character_that_does(document, cuts, section, pages, lines, start, end) -> None:  # type: ignore[no-untyped-def]
    wanted = Filter(None, section, pages, lines, start, end)
    words = {"home": ("Home", "home"), "CHAPTER 3": ("Chapter 3:",), "part i": ("Part I ",), "Chapter 30": ("30",)}

    def passes(offset: int) -> bool:
        if not start <= offset < (len(TEXT) if end is None else end):
            return False
        page = document.page_at(offset)
        if pages and (page is None or not pages[0] <= page <= pages[1]):
            return False
        if lines and not lines[0] <= document.line_at(offset) <= lines[1]:
            return False
        title = document.section_at(offset)
        return section is None or (title is not None and any(word in title + " " for word in words.get(section, ())))

    chunks = chunks_of(cuts)
    expected = [chunk.id for chunk in chunks if any(passes(offset) for offset in range(chunk.start, chunk.end))]
    assert passing(chunks, wanted, (document.pages, document.sections), document) == expected


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("d" * 64, True),
        ("notes/sea/storm.md", True),
        ("notes/sea", True),
        ("notes/", True),
        ("*.md", True),
        ("notes/*/st*.md", True),
        ("storm.md", True),
        ("notes/se", False),
        ("*.txt", False),
        ("STORM.md", False),
        ("", False),
    ],
)
def test_names_of_documents(name: str, fits: bool) -> None:
    entry = Entry("d" * 64, "notes/sea/storm.md", "markdown", 10, 1)
    assert is_named(entry, ["other.md", name]) == fits


@pytest.mark.parametrize(
    "wrong", [{"pages": (3, 2)}, {"lines": (0, 4)}, {"start": -1}, {"start": 5, "end": 5}, {"section": " "}]
)
def test_a_filter_that_means_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Filter(**wrong)  # type: ignore[arg-type]


def test_nothing_passes(tmp_path: Path) -> None:
    path = tmp_path / "book.md"
    path.write_text("# The Harbour\n\nBoats.\n\n# The Storm\n\nWaves.\n", encoding="utf-8")
    shelf = open_library(tmp_path / "home").shelve([path], vectors=False)
    assert [hit.chunk.text for hit in shelf.search("waves boats", 5, "bm25", Filter(section="storm"))]
    assert not shelf.search("waves", 5, "bm25", Filter(section="stork"))
    with pytest.raises(InputError, match="'the stork'.*did you mean 'The Storm'"):
        shelf.require(Filter(section="the stork"))
    with pytest.raises(InputError, match=r"nothing .* in bok\.md.*book\.md"):
        shelf.require(Filter(documents=("bok.md",)))
