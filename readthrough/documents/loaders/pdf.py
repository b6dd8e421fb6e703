"""PDF: the text layer page by page, pages joined by a form feed, the outline as sections.

Pages without a text layer are recognised where the limits name languages for it; see `documents.ocr`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.documents.ocr import Tesseract
from readthrough.documents.reading import (
    FileLoader,
    Heading,
    fingerprint,
    normalise_newlines,
    read_source,
    sections_from,
    without_surrogates,
)
from readthrough.errors import DocumentError
from readthrough.types import Document, Page

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

BETWEEN_PAGES = "\f"
HEAD_BYTES = 1024
OUTLINE_ENTRIES = 20_000
# PDFium marks a hyphen at the end of a line, where a word was divided, with this non-character.
DIVIDED = "\ufffe"


class PdfLoader(FileLoader):
    """Reads PDF files that have a text layer, and scanned ones with `ocr`."""

    suffixes = (".pdf",)
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        import pypdfium2

        data = read_source(path, name, self.limits)
        if b"%PDF-" not in data[:HEAD_BYTES]:
            raise DocumentError("not a PDF: it does not begin with %PDF", path=name)
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            raise _open_error(error, name) from error
        try:
            texts = self._page_texts(document, name)
            pages, position = [], 0
            for number, text in enumerate(texts, 1):
                pages.append(Page(number, position, position + len(text)))
                position += len(text) + len(BETWEEN_PAGES)
            sections = sections_from(_outline(document, pages, texts), max(position - len(BETWEEN_PAGES), 0))
        finally:
            document.close()
        return Document(fingerprint(data), name, BETWEEN_PAGES.join(texts), "pdf", tuple(pages), sections)

    def _page_texts(self, document: PdfDocument, name: str) -> list[str]:
        import pypdfium2

        recogniser = Tesseract(self.limits.ocr, self.limits.ocr_page_seconds, name) if self.limits.ocr else None
        texts: list[str] = []
        chars = 0
        for index in range(len(document)):
            try:
                page = document[index]
                text_page = page.get_textpage()
                text = text_page.get_text_range()
                text_page.close()
                if recogniser is not None and not text.strip():
                    text = recogniser.read(page, index + 1)
                page.close()
            except pypdfium2.PdfiumError as error:
                raise DocumentError(f"broken PDF: page {index + 1} cannot be read: {error}", path=name) from error
            texts.append(without_surrogates(normalise_newlines(text)).replace(DIVIDED, "-"))
            chars += len(text)
            if chars > self.limits.archive_bytes:
                raise DocumentError(f"unpacks to more than {self.limits.archive_bytes:,} characters", path=name)
        if not texts:
            raise DocumentError("no pages in it", path=name)
        if not any(text.strip() for text in texts):
            raise _no_text_error(self.limits.ocr, name)
        return texts


def _no_text_error(ocr: str | None, name: str) -> DocumentError:
    if ocr is None:
        hint = "its pages are images: `--ocr eng` recognises them, with pip install 'readthrough[ocr]'"
        return DocumentError("no text layer", path=name, hint=hint)
    return DocumentError(f"no text layer, and no text was recognised in {ocr}", path=name)


def _open_error(error: Exception, name: str) -> DocumentError:
    if "password" in str(error).lower():
        return DocumentError("encrypted: it needs a password", path=name, hint="save it without a password")
    if "Success" in str(error):  # PDFium's only word on a page tree without pages
        return DocumentError("no pages in it", path=name)
    return DocumentError(f"broken or truncated PDF: {error}", path=name)


def _outline(document: PdfDocument, pages: list[Page], texts: list[str]) -> list[Heading]:
    """The bookmarks as headings: at their title's words on the page, else at the start of the page."""
    headings: list[Heading] = []
    for bookmark in document.get_toc():
        destination = bookmark.get_dest()
        index = destination.get_index() if destination is not None else None
        title = " ".join(without_surrogates(bookmark.get_title()).split())
        if index is None or not 0 <= index < len(pages) or not title:
            continue
        start = pages[index].start + max(texts[index].find(title), 0)
        if headings and start < headings[-1].start:
            continue  # it points back: sections run forward
        headings.append(Heading(start, bookmark.level + 1, title))
        if len(headings) == OUTLINE_ENTRIES:
            break
    return headings
