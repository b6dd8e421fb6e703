"""Writes a text as a file of any kind that a folder of documents holds: PDF, DOCX, EPUB, HTML, Markdown, plain text."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from tests.document_samples import epub_entries, zip_bytes

CHAPTER_PARAGRAPHS = 12
_FONT, _FONT_SIZE, _LINE_POINTS = "Vera", 10, 14
_LEFT, _TOP, _BOTTOM = 72, 770, 60

Write = Callable[[str, Sequence[str]], bytes]


def pdf(title: str, paragraphs: Sequence[str], password: str | None = None) -> bytes:
    """A PDF with a text layer, lines broken at words and pages filled; `password` encrypts it."""
    from reportlab.pdfgen.canvas import Canvas

    _register_font()
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=password, invariant=1)
    canvas.setTitle(title)
    height = 0
    for line in _lines([title, *paragraphs]):
        if height < _BOTTOM:
            if height:
                canvas.showPage()
            canvas.setFont(_FONT, _FONT_SIZE)
            height = _TOP
        canvas.drawString(_LEFT, height, line)
        height -= _LINE_POINTS
    canvas.save()
    return buffer.getvalue()


def docx(title: str, paragraphs: Sequence[str]) -> bytes:
    """A DOCX with a title, and a heading before every few paragraphs."""
    import docx as python_docx

    document = python_docx.Document()
    document.add_heading(title, 0)
    for number, chapter in enumerate(_chapters(paragraphs), 1):
        document.add_heading(f"Section {number}", 1)
        for paragraph in chapter:
            document.add_paragraph(paragraph)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def epub(title: str, paragraphs: Sequence[str]) -> bytes:
    """An EPUB 3 of chapters."""
    chapters = {
        f"chapter{number}.xhtml": f"<h1>{escape(title)}: {number}</h1>" + _marked_up(chapter)
        for number, chapter in enumerate(_chapters(paragraphs), 1)
    }
    return zip_bytes(epub_entries(chapters))


def html(title: str, paragraphs: Sequence[str]) -> bytes:
    """A page in UTF-8, with a script that nobody reads."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><script>var read = false;</script>'
    body = f"<h1>{escape(title)}</h1>{_marked_up(paragraphs)}"
    return f"<!DOCTYPE html>\n<html><head>{head}</head><body>{body}</body></html>\n".encode()


def markdown(title: str, paragraphs: Sequence[str]) -> bytes:
    """Markdown with headings."""
    parts = [f"# {title}"]
    for number, chapter in enumerate(_chapters(paragraphs), 1):
        parts += [f"## Section {number}", *chapter]
    return "\n\n".join(parts).encode()


def plain(title: str, paragraphs: Sequence[str]) -> bytes:
    """Plain text in UTF-8."""
    return "\n\n".join([title, *paragraphs]).encode()


WRITERS: Mapping[str, Write] = {
    "pdf": pdf,
    "docx": docx,
    "epub": epub,
    "html": html,
    "md": markdown,
    "txt": plain,
}
"""By the suffix of the file."""


def fits_pdf(text: str) -> bool:
    """Whether the PDFs' font has every character of a text."""
    return all(ord(letter) in _characters() for letter in text if not letter.isspace())


@cache
def _characters() -> frozenset[int]:
    return frozenset(_register_font().face.charToGlyph)


@cache
def _register_font():  # type: ignore[no-untyped-def]
    """The font of the PDFs: it comes with reportlab, and has the characters of Western Europe."""
    import reportlab
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = TTFont(_FONT, str(Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"))
    pdfmetrics.registerFont(font)
    return font


def _lines(paragraphs: Sequence[str]) -> Iterator[str]:
    from reportlab.lib.utils import simpleSplit

    for paragraph in paragraphs:
        yield from simpleSplit(" ".join(paragraph.split()), _FONT, _FONT_SIZE, 595 - 2 * _LEFT)
        yield ""


def _chapters(paragraphs: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paragraphs), CHAPTER_PARAGRAPHS):
        yield paragraphs[start : start + CHAPTER_PARAGRAPHS]


def _marked_up(paragraphs: Sequence[str]) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in paragraphs)
