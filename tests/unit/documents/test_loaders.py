"""What each loader makes of its format."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough.documents.load import load
from readthrough.documents.loaders import markdown, text
from readthrough.documents.markup import html_to_text
from readthrough.documents.symbols import definition_sections
from readthrough.errors import DocumentError
from readthrough.types import Document
from tests.document_samples import WORD, docx_entries, docx_paragraph, epub_entries, pdf_bytes, save_docx, zip_bytes

BOOK = """The Project of the Lighthouse

CONTENTS

CHAPTER I. The Tower
CHAPTER II. The Lamp

PART ONE

CHAPTER I.
The Tower

Chapter 2 of this book is not a heading, and
Chapter 3 is none either.

Chapter II: The Lamp

It burned.

ARTICLE IV   GRANT OF LICENCE

Text.

ACT III

SCENE 2. A room

Enter Ann.
"""


def titles(document: Document) -> list[tuple[str, str]]:
    """(heading path, first line) of each section."""
    return [(item.title, document.text[item.start : item.end].split("\n")[0]) for item in document.sections]


def test_text_headings_stand_alone() -> None:
    found = [(item.level, item.title) for item in text.find_headings(BOOK)]
    assert found == [
        (2, "PART ONE"),
        (3, "CHAPTER I. The Tower"),
        (3, "Chapter II: The Lamp"),
        (3, "ARTICLE IV   GRANT OF LICENCE"),
        (2, "ACT III"),
        (3, "SCENE 2. A room"),
    ]
    assert all(BOOK.startswith(item.title[:6], item.start) for item in text.find_headings(BOOK))


@pytest.mark.parametrize(
    "line", ["Part did not come.", "Letter by letter", "Book of Kells", "chapters 1", "Act now!", "Part a"]
)
def test_text_prose_is_no_heading(line: str) -> None:
    headings = text.find_headings(f"One.\n\n{line}\n\nTwo.\n")
    assert [item.title for item in headings] == ([line] if line == "Part a" else [])


def test_wiki_headings_and_numerals_that_count_up() -> None:
    wiki = "Intro\n== History ==\nText\n=== Early ===\nText\na == b == c\n"
    assert [(item.level, item.title) for item in text.find_headings(wiki)] == [(2, "History"), (3, "Early")]
    numerals = ["I", "II.", "III", "IV", "I", "II", "VII"]
    book = "".join(f"{numeral}\n\nWe went.\n\n" for numeral in numerals)
    assert [item.title for item in text.find_headings(book)] == numerals[:-1]
    assert text.find_headings("One\n\nI\n\nTwo\n\nV\n\n") == []
    assert [text._roman(numeral) for numeral in ("XIV", "XL", "XCIX", "LXXXVIII")] == [14, 40, 99, 88]


def test_markdown_headings() -> None:
    source = "---\ntitle: x\n---\n# One #\n\n```sh\n# no\n```\n\nTwo *b*\n-----\n\n- item\n---\n\n    # code\n"
    source += "~~~\n```\n# no\n~~~\n### Four\n#none\n"
    found = [(item.level, item.title) for item in markdown.find_headings(source)]
    assert found == [(1, "One"), (2, "Two *b*"), (3, "Four")]


def test_html_text_is_what_a_reader_sees() -> None:
    source = """<!doctype html><html><head><title>T</title><style>p {}</style></head><body>
    <h1>Chapter <b>a</b></h1><p>One   two<br>three&nbsp;&lt;four</p><script>alert(1)</script>
    <div>Five</div><div>Six</div><ul><li>a<li>b</ul><pre>x
  y</pre><table><tr><th>Hour</th><th><p>Oil</p></th></tr><tr><td></td><td>2</td></tr></table>end<h2></h2></body></html>"""
    read, headings = html_to_text(source)
    assert read == ("Chapter a\n\nOne two\nthree\xa0<four\n\nFive\nSix\n\na\nb\n\nx\n  y\n\nHour | Oil\n | 2\n\nend")
    assert [(item.start, item.level, item.title) for item in headings] == [(0, 1, "Chapter a")]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.lists(
        st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8), min_size=1, max_size=20
    ),
    data=st.data(),
)
def test_html_loses_no_word(words: list[str], data: st.DataObject) -> None:
    tags = st.sampled_from(["p", "b", "div", "li", "td", "h2", "span", "section", "pre"])
    source = "".join(f"<{(tag := data.draw(tags))}>{html.escape(word)} </{tag}>" for word in words)
    read, headings = html_to_text(f"<body>{source}")
    assert read.split() == " ".join(words).split()
    assert all(read.startswith(item.title, item.start) for item in headings)


def test_deep_html_does_not_overflow(tmp_path: Path) -> None:
    path = tmp_path / "deep.html"
    path.write_text("<div>" * 20_000 + "deep" + "</div>" * 20_000)
    assert load(path).text.strip() == "deep"


def test_html_declares_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes('<meta charset="iso-8859-2"><p>žluťoučký kůň'.encode("iso-8859-2"))
    assert load(path).text == "žluťoučký kůň"


def test_epub_in_reading_order(tmp_path: Path) -> None:
    path = tmp_path / "book.epub"
    nav = '<nav><ol><li><a href="c%20c.xhtml">The Third</a></li></ol></nav>'
    chapters = {
        "b.xhtml": "<h1>First</h1><p>One &amp; &nbsp; two<![CDATA[ <3]]></p>",
        "a.xhtml": "<h2>Second</h2><p>Three</p>",
        "c c.xhtml": "<p>Four</p>",
    }
    item = '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    entries = epub_entries(chapters, manifest=item)
    path.write_bytes(zip_bytes({**entries, "OPS/nav.xhtml": nav}))
    document = load(path)
    assert document.text == "First\n\nOne & \xa0 two <3\n\nSecond\n\nThree\n\nFour"
    assert titles(document) == [("First", "First"), ("First > Second", "Second"), ("The Third", "Four")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"META-INF/container.xml": ""}, "broken XML"),
        ({"META-INF/container.xml": "<container/>"}, "names no package"),
        ({"OPS/package.opf": "<package/>"}, "spine is empty"),
        ({"OPS/package.opf": '<package><spine><itemref idref="x"/></spine></package>'}, "not in the manifest"),
        ({"OPS/a.xhtml": None}, "missing"),
        ({"OPS/a.xhtml": "<html><body><img src='page.png'/></body></html>"}, "no text in it"),
        (
            {"META-INF/encryption.xml": '<e><CipherReference URI="OPS/a.xhtml"/></e>'},
            "encrypted: it is under digital rights management",
        ),
    ],
)
def test_broken_epub(change: dict[str, str | None], reason: str, tmp_path: Path) -> None:
    entries = {**epub_entries({"a.xhtml": "<p>Text</p>"}), **change}
    path = tmp_path / "bad.epub"
    path.write_bytes(zip_bytes({name: data for name, data in entries.items() if data is not None}))
    with pytest.raises(DocumentError, match=reason):
        load(path)


def test_epub_with_encrypted_fonts_is_read(tmp_path: Path) -> None:
    fonts = {"META-INF/encryption.xml": '<e><CipherReference URI="OPS/font.otf"/></e>', "OPS/font.otf": "x"}
    (tmp_path / "a.epub").write_bytes(zip_bytes({**epub_entries({"a.xhtml": "<p>Text</p>"}), **fonts}))
    assert load(tmp_path / "a.epub").text == "Text"


def test_docx_written_by_python_docx(tmp_path: Path) -> None:
    save_docx(tmp_path / "a.docx")
    document = load(tmp_path / "a.docx")
    assert document.text.split("\n\n") == [
        "The Lighthouse",
        "Part One",
        "The keeper is named Ann.",
        "The Lamp",
        "Hour | Oil\nSix | Two pints",
        "She lit it at six.\n",
    ]
    assert titles(document) == [
        ("The Lighthouse", "The Lighthouse"),
        ("Part One", "Part One"),
        ("Part One > The Lamp", "The Lamp"),
    ]


def test_docx_loses_nothing_that_python_docx_passes_over(tmp_path: Path) -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = (
        f"<w:sdt><w:sdtContent>{docx_paragraph('control')}</w:sdtContent></w:sdt>"
        f"<w:p><w:ins>{run.format('inserted')}</w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        f"<w:hyperlink>{run.format(' link')}</w:hyperlink><w:r><w:tab/><w:t>tab</w:t><w:br/><w:t>line</w:t></w:r></w:p>"
        f"<w:p>{run.format('around')}<w:r><w:txbxContent>{docx_paragraph('box')}</w:txbxContent></w:r></w:p>"
    )
    notes = f'<w:footnotes xmlns:w="{WORD}"><w:footnote w:type="separator">{docx_paragraph("no")}</w:footnote>'
    notes += f"<w:footnote>{docx_paragraph('note')}</w:footnote></w:footnotes>"
    (tmp_path / "a.docx").write_bytes(zip_bytes({**docx_entries(body), "word/footnotes.xml": notes}))
    document = load(tmp_path / "a.docx")
    lines = [line for line in document.text.split("\n") if line]
    assert lines == ["control", "inserted link\ttab", "line", "around", "box", "Footnotes", "note"]
    assert document.section_at(document.text.index("note", document.text.index("Footnotes"))) == "Footnotes"


def test_old_and_encrypted_word_files(tmp_path: Path) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    (tmp_path / "a.docx").write_bytes(ole + "EncryptedPackage".encode("utf-16-le") + bytes(100))
    with pytest.raises(DocumentError, match="encrypted"):
        load(tmp_path / "a.docx")
    (tmp_path / "a.doc").write_bytes(ole + "WordDocument".encode("utf-16-le") + bytes(100))
    with pytest.raises(DocumentError, match="old Word document"):
        load(tmp_path / "a.doc")


def test_encrypted_zip_entry(tmp_path: Path) -> None:
    data = bytearray(zip_bytes(docx_entries(docx_paragraph("x"))))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(mark), bytes(data)):
            data[match.start() + offset] |= 1
    (tmp_path / "a.docx").write_bytes(data)
    with pytest.raises(DocumentError, match="encrypted"):
        load(tmp_path / "a.docx")


def test_pdf_pages_and_outline(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes([["First page", "of two (2)"], [], ["Last \\ page"]]))
    document = load(path)
    assert document.text == "First page\nof two (2)\f\fLast \\ page"
    assert [document.text[page.start : page.end] for page in document.pages] == [
        "First page\nof two (2)",
        "",
        "Last \\ page",
    ]
    assert document.page_at(document.text.index("Last")) == 3
    assert document.line_at(document.text.index("of two")) == 2


PYTHON = """import os

@decorated
def größe(x):  # 你好
    def inner():
        return 1
    return inner

X = 1

class Tower(Base):
    height = 3

    async def light(self):
        return "👩‍👧"

    width = 2
"""


def test_code_definitions_are_sections() -> None:
    sections = definition_sections(PYTHON, "python")
    found = [(item.title, PYTHON[item.start : item.end].strip().split("\n")[0]) for item in sections]
    assert found == [
        ("größe", "@decorated"),
        ("größe > inner", "def inner():"),
        ("größe", "return inner"),
        ("Tower", "class Tower(Base):"),
        ("Tower > light", "async def light(self):"),
        ("Tower", "width = 2"),
    ]
    document = Document("id", "a.py", PYTHON, "code", sections=sections)
    assert document.section_at(PYTHON.index("X = 1")) is None


SOURCES = {
    "javascript": ("export class A { m() { return 1 } }\nfunction f() {}\n", ["A", "A > m", "A", "f"]),
    "typescript": ("interface I { a: number }\nexport enum E { X }\n", ["I", "E"]),
    "tsx": ("export function C(): X { return <p/> }\n", ["C"]),
    "go": ("package p\ntype T struct { a int }\nfunc (t T) M() {}\nfunc F() {}\n", ["T", "T > M", "F"]),
    "rust": ("struct S;\nimpl S { fn m(&self) {} }\nfn f() {}\n", ["S", "S", "S > m", "S", "f"]),
    "java": ("class A { int x; A() {} void m() {} }\n", ["A", "A > A", "A", "A > m", "A"]),
    "c": ("struct s { int a; };\nint f(struct s *x) { return 0; }\nchar *g(void) { return 0; }\n", ["s", "f", "g"]),
    "cpp": ("namespace n { class A { void m() {} }; }\n", ["n", "n > A", "n > A > m", "n > A", "n"]),
}


@pytest.mark.parametrize("language", SOURCES)
def test_definitions_of_each_language(language: str) -> None:
    source, expected = SOURCES[language]
    assert [item.title for item in definition_sections(source, language)] == expected


def test_broken_and_unknown_code_has_no_error() -> None:
    assert definition_sections("def (((\n\0class", "python") is not None
    assert definition_sections("fn main() {}", "brainfuck") == ()
    assert definition_sections("((" * 20_000, "python") is not None


def test_code_keeps_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(PYTHON.replace("\n", "\r\n").encode("utf-8-sig"))
    document = load(path)
    assert document.text == PYTHON
    assert (document.kind, document.language, document.encoding) == ("code", "python", "utf-8-sig")
