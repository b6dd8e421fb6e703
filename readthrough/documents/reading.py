"""What loaders share: bytes to normalised text with its encoding, and headings to sections."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from readthrough.documents.base import DEFAULT_LIMITS, LoadLimits
from readthrough.errors import ConfigError, DocumentError, NotTextError
from readthrough.types import Section

# Longest first: the UTF-32 mark begins with the UTF-16 one.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BLOCK_BYTES = 1 << 20
SAMPLE_BYTES = 200_000
# Below this chardet's guess is no better than chance, and Windows-1252 is the commonest legacy encoding.
LEAST_CONFIDENCE = 0.11
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class FileLoader:
    """The common part of the built-in loaders: what they are built with."""

    suffixes: tuple[str, ...] = ()
    isolated: bool = False

    def __init__(self, limits: LoadLimits = DEFAULT_LIMITS, encoding: str | None = None) -> None:
        self.limits = limits
        self.encoding = encoding


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in the normalised text: where its line starts, its level (1 is outermost), its words."""

    start: int
    level: int
    title: str


def fingerprint(data: bytes) -> str:
    """The id of a document: the SHA-256 of its source bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def read_source(path: Path, name: str, limits: LoadLimits) -> bytes:
    """The bytes of a file, once, so that what is hashed is what is parsed.

    Raises:
        DocumentError: the file is empty or longer than `limits.file_bytes`.
    """
    with path.open("rb") as file:
        return read_stream(file, name, limits)


def read_stream(stream: BinaryIO, name: str, limits: LoadLimits) -> bytes:
    """All bytes of a stream.

    Raises:
        DocumentError: it is empty or longer than `limits.file_bytes`.
    """
    blocks: list[bytes] = []
    size_bytes = 0
    while block := stream.read(BLOCK_BYTES):
        size_bytes += len(block)
        if size_bytes > limits.file_bytes:
            reason = f"larger than the limit of {limits.file_bytes:,} bytes"
            raise DocumentError(reason, path=name, hint="split it, or raise file_bytes")
        blocks.append(block)
    if not blocks:
        raise NotTextError("empty file", path=name)
    return b"".join(blocks)


def normalise_newlines(text: str) -> str:
    """The text with `\\r\\n` and `\\r` as `\\n`: what Python's universal newlines give."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate as U+FFFD, so that it can be encoded; offsets stay as they are."""
    return _SURROGATE.sub("\ufffd", text)


def decode(data: bytes, name: str, encoding: str | None = None, declared: str | None = None) -> tuple[str, str]:
    """Bytes as normalised text, and the encoding they were read with.

    Order: `encoding` where it is given, a byte-order mark, strict UTF-8, what the file itself declares,
    UTF-8 with a few bad bytes (the returned name tells how many were replaced), chardet's guess, Windows-1252.

    Raises:
        ConfigError: `encoding` is not the name of a text encoding.
        DocumentError: the bytes are not text, or not text in the given encoding.
    """
    if encoding is not None:
        text, used = _decode_as(data, name, encoding), encoding
    else:
        text, used = _detect(data, name, declared)
        _refuse_binary(text, name)
    text = without_surrogates(normalise_newlines(text.removeprefix("\ufeff")))
    if not text.strip():
        raise NotTextError("empty file: nothing but white space", path=name)
    return text, used


def _decode_as(data: bytes, name: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"unknown text encoding {encoding!r}", hint="Python's names, such as utf-8, cp1252 or shift_jis"
        ) from error
    except UnicodeError as error:
        reason = getattr(error, "reason", str(error))
        place = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise DocumentError(
            f"is not valid {encoding}{place}: {reason}", path=name, hint="leave the encoding out to have it detected"
        ) from error


def _detect(data: bytes, name: str, declared: str | None) -> tuple[str, str]:
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_as(data, name, encoding), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        first_bad = error.start
    if declared is not None:
        try:
            return data.decode(declared), declared.lower()
        except (LookupError, UnicodeError):
            declared = None  # a page that is wrong about itself is read like one that says nothing
    text = data.decode("utf-8", "replace")
    replaced = text.count("\ufffd")
    foreign = len(text) - sum(map(str.isascii, text)) - replaced if replaced < len(text) // 100 else 0
    if foreign > 10 * replaced:
        return text, f"utf-8 ({replaced} bad bytes replaced)"
    return _guess(data, first_bad, name)


def _guess(data: bytes, first_bad: int, name: str) -> tuple[str, str]:
    import chardet
    from chardet import EncodingEra

    # The sample starts at a line that shows the question; a head of plain ASCII would answer "ascii".
    start = data.rfind(b"\n", 0, first_bad) + 1
    guess = chardet.detect(data[max(start, first_bad - 1000) :][:SAMPLE_BYTES], encoding_era=EncodingEra.MODERN_WEB)
    encoding = guess["encoding"]
    if encoding is None:
        raise NotTextError("binary file", path=name, hint="give a text, PDF, EPUB, DOCX or HTML file")
    candidates = ("windows-1252", encoding) if guess["confidence"] < LEAST_CONFIDENCE else (encoding, "windows-1252")
    for candidate in candidates:
        try:
            return data.decode(candidate), candidate.lower()
        except UnicodeDecodeError:
            continue
    text = data.decode(encoding, "replace")
    replaced = text.count("\ufffd")
    if replaced > len(text) // 100:
        raise NotTextError("binary file, or text of an unknown encoding", path=name, hint="name the encoding")
    return text, f"{encoding.lower()} ({replaced} bad bytes replaced)"


def _refuse_binary(text: str, name: str) -> None:
    nul_count = text.count("\0")
    control_count = len(_CONTROL.findall(text, 0, SAMPLE_BYTES))
    if nul_count > len(text) // 1000 or control_count > min(len(text), SAMPLE_BYTES) // 20:
        raise NotTextError("binary file", path=name, hint="give a text, PDF, EPUB, DOCX or HTML file")


def sections_from(headings: Sequence[Heading], text_chars: int) -> tuple[Section, ...]:
    """Sections with heading paths: each runs from its heading to the next one, the last to the end.

    Headings must be in order of `start`; of two at one place the later one counts.
    """
    sections: list[Section] = []
    path: list[Heading] = []
    for index, heading in enumerate(headings):
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
        end = headings[index + 1].start if index + 1 < len(headings) else text_chars
        if end > heading.start:
            sections.append(Section(tuple(item.title for item in path), heading.start, end))
    return tuple(sections)
