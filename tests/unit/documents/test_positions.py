"""Positions as readers name them, and the document up to one."""

from __future__ import annotations

import pytest

from readthrough.documents.loaders.text import find_headings
from readthrough.documents.positions import end_of, split_name, up_to
from readthrough.documents.reading import sections_from
from readthrough.errors import InputError, UsageError
from readthrough.types import Document, Page, Section

PARTS = {
    "PART ONE": "",
    "CHAPTER I": "The lamp was lit.",
    "CHAPTER II. The Storm": "The storm came.",
    "PART TWO": "",
    "CHAPTER I. Ashore": "They went ashore.",
    "CHAPTER TWENTY-ONE": "Nobody knew.",
    "LETTER 4": "Dear Ann.",
}
TEXT = "".join(f"{heading}\n\n{text}\n\n" if text else f"{heading}\n\n" for heading, text in PARTS.items())


@pytest.fixture
def book() -> Document:
    pages = tuple(Page(number, start, start + 40) for number, start in enumerate(range(0, len(TEXT), 40), 5))
    return Document("whole", "book.txt", TEXT, "text", pages, sections_from(find_headings(TEXT), len(TEXT)))


@pytest.mark.parametrize(
    ("position", "last"),
    [
        ("Chapter 2", "The storm came."),
        ("chapter ii", "The storm came."),
        ("the storm", "The storm came."),
        ("Part Two > Chapter 1", "They went ashore."),
        ("part 1", "The storm came."),  # with its chapters
        ("chapter 21", "Nobody knew."),
        ("letter four", "Dear Ann."),
        ("100%", "Dear Ann."),
        ("line 3", "PART ONE\n\nCHAPTER I"),
        ("character 8", "PART ONE"),
    ],
)
def test_a_position_ends_where_what_it_names_ends(book: Document, position: str, last: str) -> None:
    assert TEXT[: end_of(book, position)].strip().endswith(last)


def test_pages_and_percentages(book: Document) -> None:
    assert end_of(book, "p. 5") == 40 and end_of(book, "Page 6") == 80
    assert end_of(book, "25%") == len(TEXT) // 4


def test_a_numeral_alone_is_a_chapter() -> None:
    text = "".join(f"{numeral}\n\nText {numeral}.\n\n" for numeral in ("I", "II", "III", "IV"))
    book = Document("whole", "book.txt", text, "text", sections=sections_from(find_headings(text), len(text)))
    assert text[: end_of(book, "chapter 3")].strip().endswith("Text III.")


@pytest.mark.parametrize(
    ("position", "said", "hint"),
    [
        ("chapter 22", "no section 'chapter 22'", "CHAPTER TWENTY-ONE"),
        ("epilogue", "no section", "'PART ONE' to"),
        ("chapter 1", "names 2 sections", "Part II > Chapter 3"),
        ("page 99", "no page 99", "5 to"),
        ("line 999", "no line 999", "lines"),
        ("character 99999", "no character", ""),
    ],
)
def test_an_unknown_place_names_what_there_is(book: Document, position: str, said: str, hint: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        end_of(book, position)
    assert hint in (caught.value.hint or "") and caught.value.path == "book.txt"


def test_what_is_no_position_is_refused(book: Document) -> None:
    for position in ("", ">", "0%", "101%"):
        with pytest.raises(UsageError):
            end_of(book, position)
    plain = Document("plain", "plain.txt", "  \nText.", "text")
    with pytest.raises(UsageError, match="of what"):
        end_of(plain, "12")
    with pytest.raises(InputError, match="no text up to"):
        end_of(plain, "line 1")
    with pytest.raises(InputError, match="no pages"):
        end_of(plain, "p. 1")
    with pytest.raises(InputError, match="no section 'chapter 1'"):
        end_of(plain, "chapter 1")


def test_the_document_up_to_a_place_holds_nothing_behind_it(book: Document) -> None:
    end = end_of(book, "Chapter 2")
    cut = up_to(book, end)
    assert cut.text == TEXT[:end] and cut.id != book.id and cut.path == book.path
    assert all(each.end <= end for each in (*cut.pages, *cut.sections))
    assert [section.title for section in cut.sections][-1] == "PART ONE > CHAPTER II. The Storm"
    edited = Document("edited", "book.txt", TEXT + "More.", "text", book.pages, book.sections)
    assert up_to(edited, end).id == cut.id, "what comes after does not matter"
    assert up_to(book, end - 1).id != cut.id


def test_a_name_before_a_colon_is_a_document() -> None:
    names = ["a.txt", "b: c.txt"]
    assert split_name("a.txt: chapter 3: home", names) == ("a.txt", "chapter 3: home")
    assert split_name("b: c.txt: 40%", names) == ("b: c.txt", "40%")
    assert split_name("chapter 3: home", names) == (None, "chapter 3: home")


def test_a_number_is_not_joined_with_the_title_behind_it() -> None:
    headings = ("CHAPTER XX One Night", "CHAPTER TWENTY. Two Ships", "CHAPTER THIRTY-THREE", "CHAPTER FORTY FOUR")
    text = "".join(f"{heading}\n\nText of {heading}.\n\n" for heading in headings)
    starts = [*(text.index(heading) for heading in headings), len(text)]
    spans = zip(headings, starts, starts[1:], strict=False)
    book = Document("whole", "book.txt", text, "text", sections=tuple(Section((name,), *span) for name, *span in spans))
    assert text[: end_of(book, "chapter XX one night")].strip().endswith("One Night.")
    assert text[: end_of(book, "chapter twenty, two ships")].strip().endswith("Two Ships.")
    assert [text[: end_of(book, f"chapter {n}")].strip()[-5:] for n in (33, 44)] == ["HREE.", "FOUR."]
    for wanted in ("chapter 21", "chapter 22"):
        with pytest.raises(InputError, match="no section"):
            end_of(book, wanted)
