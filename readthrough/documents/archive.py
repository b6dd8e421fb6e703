"""Zip archives and XML from strangers: nothing is extracted to disk, and nothing larger than allowed is unpacked."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from readthrough.documents.base import LoadLimits
from readthrough.errors import DocumentError

if TYPE_CHECKING:
    from lxml.etree import _Element

BLOCK_BYTES = 64 * 1024
# A small file may well shrink a hundredfold; a bomb is both dense and large.
RATIO_FREE_BYTES = 1024 * 1024
DIRECTORY_BYTES_PER_ENTRY = 512
LOCAL_HEADER_BYTES = 30
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, NotImplementedError)


class Archive:
    """A zip archive that was checked before anything in it was read.

    Raises:
        DocumentError: it is broken, encrypted, a bomb (too many entries, too large or too dense, overlapping
            entries), or names files outside of itself.
    """

    def __init__(self, data: bytes, name: str, limits: LoadLimits) -> None:
        self._name = name
        self._limits = limits
        self._read_bytes = 0
        _check_directory_size(data, name, limits)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN as error:
            raise DocumentError(f"broken or truncated zip archive: {error}", path=name) from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        self._check_entries(len(data))

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def names(self) -> list[str]:
        """The names of all entries, in the order of the central directory."""
        return list(self._entries)

    def read(self, entry: str) -> bytes:
        """One entry unpacked, counted against the limit of the whole archive while it is read.

        Raises:
            DocumentError: there is no such entry, it is broken, or the archive unpacks to more than allowed.
        """
        if entry not in self._entries:
            raise self._error(f"broken: the entry {entry!r} is missing")
        blocks: list[bytes] = []
        try:
            with self._zip.open(self._entries[entry]) as file:
                while block := file.read(BLOCK_BYTES):
                    self._read_bytes += len(block)
                    if self._read_bytes > self._limits.archive_bytes:
                        raise self._too_large()
                    blocks.append(block)
        except _BROKEN as error:
            raise self._error(f"broken: the entry {entry!r} cannot be unpacked: {error}") from error
        return b"".join(blocks)

    def _error(self, message: str, hint: str | None = None) -> DocumentError:
        return DocumentError(message, path=self._name, hint=hint)

    def _too_large(self) -> DocumentError:
        return self._error(f"zip bomb: unpacks to more than {self._limits.archive_bytes:,} bytes")

    def _check_entries(self, archive_bytes: int) -> None:
        entries = self._zip.infolist()
        if len(entries) > self._limits.archive_entries:
            raise _too_many(self._name, self._limits)
        unpacked_bytes = 0
        for entry in entries:
            self._check_entry(entry)
            unpacked_bytes += entry.file_size
        if unpacked_bytes > self._limits.archive_bytes:
            raise self._too_large()
        if unpacked_bytes > max(RATIO_FREE_BYTES, self._limits.archive_ratio * archive_bytes):
            raise self._error(f"zip bomb: unpacks to more than {self._limits.archive_ratio:g} times its size")
        end = 0
        for entry in sorted(entries, key=lambda item: item.header_offset):
            if entry.header_offset < end:
                raise self._error(f"zip bomb: the entry {entry.filename!r} overlaps another")
            end = entry.header_offset + LOCAL_HEADER_BYTES + len(entry.orig_filename) + entry.compress_size

    def _check_entry(self, entry: zipfile.ZipInfo) -> None:
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":"):
            raise self._error(f"unsafe: the entry {entry.filename!r} points outside of the archive")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise self._error(f"unsafe: the entry {entry.filename!r} is a symbolic link")
        if entry.flag_bits & 1:
            raise self._error("encrypted: it needs a password", hint="save it without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._error(f"the entry {entry.filename!r} uses a compression that is not allowed here")


def _too_many(name: str, limits: LoadLimits) -> DocumentError:
    return DocumentError(f"zip bomb: more than {limits.archive_entries:,} entries", path=name)


def _check_directory_size(data: bytes, name: str, limits: LoadLimits) -> None:
    """Refuse a huge central directory before the zipfile module makes an object of each of its entries."""
    start = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - 0xFFFF))
    if start == -1 or start + _END.size > len(data):
        raise DocumentError("broken or truncated zip archive: it has no end record", path=name)
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(data, start)
    locator = start - _END64_LOCATOR.size
    if locator >= 0 and data.startswith(b"PK\x06\x07", locator):
        offset = _END64_LOCATOR.unpack_from(data, locator)[2]
        if offset + _END64.size <= len(data):
            _, _, _, _, _, _, _, entries, directory_bytes, _ = _END64.unpack_from(data, offset)
    if entries > limits.archive_entries or directory_bytes > limits.archive_entries * DIRECTORY_BYTES_PER_ENTRY:
        raise _too_many(name, limits)


def parse_xml(data: bytes, name: str) -> _Element:
    """XML without entities, DTD or network, and without nodes of absurd size.

    Raises:
        DocumentError: it is not well-formed, or it tries one of these.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DocumentError(f"broken XML: {error}", path=name) from error
    return root
