"""The extension points of `documents`: a Loader reads one kind of file, a Chunker splits a Document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from readthrough.types import Chunk, Document

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How far the reading of one file goes: bounds, so that no file can exhaust the machine, and recognition of images.

    Attributes:
        ocr: the languages in which the pages of a PDF that have no text are recognised, as tesseract names them
            (`eng+deu`); None where they are not.
        ocr_page_seconds: the most that one such page may take.
        ocr_seconds: what a file may take in place of `seconds` where `ocr` is given.
    """

    file_bytes: int = 512 * 1024 * 1024
    archive_bytes: int = 200 * 1024 * 1024
    archive_ratio: float = 100.0
    archive_entries: int = 20_000
    seconds: float = 120.0
    memory_bytes: int = 2 * 1024 * 1024 * 1024
    ocr: str | None = None
    ocr_page_seconds: float = 60.0
    ocr_seconds: float = 3600.0

    @property
    def most_seconds(self) -> float:
        """The most that a file may take."""
        return self.seconds if self.ocr is None else max(self.seconds, self.ocr_seconds)


DEFAULT_LIMITS = LoadLimits()


@dataclass(frozen=True, slots=True)
class Loading:
    """How bytes become text, where that is a question.

    Attributes:
        encoding: the text encoding; detected when left out.
        ocr: the languages in which pages of PDFs without text are recognised, see `LoadLimits`.
    """

    encoding: str | None = None
    ocr: str | None = None


AS_DETECTED = Loading()


@runtime_checkable
class Loader(Protocol):
    """Reads one kind of file into a Document with exact places.

    Built as `Loader(limits=LoadLimits, encoding=None or the name of the encoding that the user gave)`.
    """

    suffixes: tuple[str, ...]
    """File endings that this loader reads, lower case with the dot."""

    isolated: bool
    """Whether the file must be parsed in a process of its own, under limits of memory and time."""

    def load(self, path: Path, name: str) -> Document:
        """Read the file at `path`; `name` is the path to show to people.

        Raises:
            DocumentError: the file cannot be read; the message is the reason.
        """
        ...


@runtime_checkable
class Chunker(Protocol):
    """Splits a Document into chunks that cover it: joined in order they are the whole text."""

    @property
    def fingerprint(self) -> str:
        """Names everything that the chunks depend on: the library splits again when it changes."""
        ...

    def split(self, document: Document) -> list[Chunk]:
        """The chunks of `document` in order, `id` -1, each within the token limit.

        Holds: `document.text[c.start:c.end] == c.text`, the first starts at 0, each starts where the one
        before ends, the last ends with the text.
        """
        ...
