"""HTML pages: the text a reader sees, with h1 to h6 as sections."""

from __future__ import annotations

import re
from pathlib import Path

from readthrough.documents.markup import html_to_text, repair_xhtml
from readthrough.documents.reading import FileLoader, decode, fingerprint, read_source, sections_from
from readthrough.errors import DocumentError
from readthrough.types import Document

_CHARSET = re.compile(rb"<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
HEAD_BYTES = 4096


class HtmlLoader(FileLoader):
    """Reads HTML and XHTML; scripts and styles are left out, table cells are separated by ` | `."""

    suffixes = (".html", ".htm", ".xhtml")
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        source, encoding = decode_markup(data, name, self.encoding)
        text, headings = html_to_text(repair_xhtml(source) if is_xhtml(source) else source)
        if not text.strip():
            raise DocumentError("no text in it", path=name, hint="save a page that scripts fill after they ran")
        sections = sections_from(headings, len(text))
        return Document(fingerprint(data), name, text, "html", sections=sections, encoding=encoding)


def is_xhtml(source: str) -> bool:
    """Whether the page says that it is XML, so that `<title/>` is an empty element."""
    return source.lstrip()[:5].lower() == "<?xml" or "http://www.w3.org/1999/xhtml" in source[:HEAD_BYTES]


def decode_markup(data: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """`reading.decode`, with the encoding that the page itself declares."""
    declared = _CHARSET.search(data, 0, HEAD_BYTES)
    return decode(data, name, encoding, declared[1].decode("ascii") if declared else None)
