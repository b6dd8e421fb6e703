"""EPUB books: the chapters in reading order, with their headings as sections."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.loaders.html import decode_markup
from readthrough.documents.markup import html_to_text, repair_xhtml
from readthrough.documents.reading import FileLoader, Heading, fingerprint, read_source, sections_from
from readthrough.errors import DocumentError
from readthrough.types import Document

if TYPE_CHECKING:
    from lxml.etree import _Element

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
BETWEEN_CHAPTERS = "\n\n"
MARKUP_TYPES = ("application/xhtml+xml", "text/html", "application/xml", "text/xml")


class EpubLoader(FileLoader):
    """Reads EPUB 2 and 3 without digital rights management."""

    suffixes = (".epub",)
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        archive = Archive(data, name, self.limits)
        book = _Package(archive, name)
        parts: list[str] = []
        headings: list[Heading] = []
        position = 0
        for entry, media_type in book.chapters():
            source, _ = decode_markup(archive.read(entry), f"{name}: {entry}", self.encoding)
            text, found = html_to_text(source if media_type == "text/html" else repair_xhtml(source))
            if not text.strip():
                continue
            if not found and entry in book.labels:
                found = [Heading(0, 1, book.labels[entry])]
            headings += [Heading(position + item.start, item.level, item.title) for item in found]
            parts.append(text)
            position += len(text) + len(BETWEEN_CHAPTERS)
        text = BETWEEN_CHAPTERS.join(parts)
        if not text.strip():
            raise DocumentError("no text in it", path=name, hint="a book of page images needs OCR first")
        return Document(fingerprint(data), name, text, "epub", sections=sections_from(headings, len(text)))


class _Package:
    """The package file of a book: its reading order, and the titles that its table of contents gives."""

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive = archive
        self._name = name
        if CONTAINER not in archive:
            raise DocumentError(f"not an EPUB: {CONTAINER} is missing", path=name)
        rootfile = parse_xml(archive.read(CONTAINER), name).find(".//{*}rootfile")
        package_path = rootfile.get("full-path") if rootfile is not None else None
        if not package_path:
            raise DocumentError(f"broken EPUB: {CONTAINER} names no package", path=name)
        self._folder = posixpath.dirname(package_path)
        self._package = parse_xml(archive.read(package_path), name)
        self._items = {item.get("id", ""): item for item in self._package.iterfind(".//{*}manifest/{*}item")}
        self.labels = self._contents()

    def chapters(self) -> Iterator[tuple[str, str]]:
        """The entries of the spine in order, with their media types.

        Raises:
            DocumentError: there are none, one is encrypted, or one is missing from the archive.
        """
        spine = self._package.findall(".//{*}spine/{*}itemref")
        if not spine:
            raise DocumentError("broken EPUB: its spine is empty", path=self._name)
        encrypted = self._encrypted()
        for reference in spine:
            item = self._items.get(reference.get("idref", ""))
            if item is None:
                raise DocumentError(
                    f"broken EPUB: the spine names {reference.get('idref')!r}, which is not in the manifest",
                    path=self._name,
                )
            entry = self._resolve(item.get("href", ""), self._folder)
            if entry in encrypted:
                raise DocumentError("encrypted: it is under digital rights management", path=self._name)
            media_type = item.get("media-type", "application/xhtml+xml")
            if media_type in MARKUP_TYPES:
                yield entry, media_type

    def _encrypted(self) -> set[str]:
        """Entries that are encrypted; fonts often are, in books that can be read."""
        if ENCRYPTION not in self._archive:
            return set()
        root = parse_xml(self._archive.read(ENCRYPTION), self._name)
        return {unquote(item.get("URI", "")) for item in root.iterfind(".//{*}CipherReference")}

    def _resolve(self, href: str, folder: str) -> str:
        return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))

    def _contents(self) -> dict[str, str]:
        """Titles by entry, the first where there are several: from the contents of EPUB 2 or EPUB 3."""
        labels: dict[str, str] = {}
        for item in self._items.values():
            entry = self._resolve(item.get("href", ""), self._folder)
            if entry not in self._archive:
                continue
            if item.get("media-type") == "application/x-dtbncx+xml":
                found = _ncx_labels(parse_xml(self._archive.read(entry), self._name))
            elif "nav" in item.get("properties", "").split():
                found = _nav_labels(decode_markup(self._archive.read(entry), self._name, None)[0])
            else:
                continue
            for target, label in found:
                if label:
                    labels.setdefault(self._resolve(target, posixpath.dirname(entry)), label)
        return labels


def _ncx_labels(root: _Element) -> Iterator[tuple[str, str]]:
    """(target, title) of the contents of an EPUB 2."""
    for point in root.iterfind(".//{*}navPoint"):
        content = point.find("{*}content")
        if content is not None:
            yield content.get("src", ""), " ".join((point.findtext("{*}navLabel/{*}text") or "").split())


def _nav_labels(source: str) -> Iterator[tuple[str, str]]:
    """(target, title) of the contents of an EPUB 3."""
    from selectolax.lexbor import LexborHTMLParser

    for link in LexborHTMLParser(repair_xhtml(source)).css("nav a[href]"):
        yield link.attributes.get("href") or "", " ".join(link.text().split())
