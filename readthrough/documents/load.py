"""Load one file, or many: the loader is chosen by suffix and content, risky formats go to the sandbox."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from readthrough import catalogue
from readthrough.documents.base import DEFAULT_LIMITS, Loader, LoadLimits
from readthrough.documents.folder import display_name, walk
from readthrough.documents.languages import language_of
from readthrough.documents.office import OLE_MAGIC
from readthrough.documents.reading import read_stream
from readthrough.documents.sandbox import Sandbox
from readthrough.errors import (
    ConfigError,
    DocumentError,
    EmptyShelfError,
    InputError,
    MissingPathError,
    NotTextError,
)
from readthrough.types import Document, Event, SkippedFile

STDIN = "-"
HEAD_BYTES = 4096
# The end of a zip archive, where the names of all its entries stand.
TAIL_BYTES = 64 * 1024
# The entry by which the archive of each format is known.
ZIP_ENTRIES = (
    (b"application/epub+zip", ".epub"),
    (b"word/document.xml", ".docx"),
    (b"ppt/presentation.xml", ".pptx"),
    (b"xl/workbook.xml", ".xlsx"),
)
ZIP_MAGIC = b"PK\x03\x04"
OnEvent = Callable[[Event], None]


def load(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    limits: LoadLimits = DEFAULT_LIMITS,
    encoding: str | None = None,
    sandbox: Sandbox | None = None,
) -> Document:
    """Read one file.

    Args:
        path: the file.
        name: the path to show to people; `path` itself when left out.
        limits: bounds on size, memory and time.
        encoding: the text encoding, when detecting it is not wanted.
        sandbox: the process for risky formats; one is made for this call when left out.

    Raises:
        MissingPathError: there is no such file, or it may not be read.
        DocumentError: it cannot be read as a document; the message is the reason.
        ConfigError: `encoding` is not the name of a text encoding.
    """
    file = Path(path)
    name = name if name is not None else display_name(file)
    head = _head(file, name)
    loader = _choose(file.name, head, name)
    try:
        if not loader.isolated:
            return build(loader, limits, encoding).load(file, name)
        if sandbox is not None:
            return sandbox.load(loader, file, name, encoding)
        with Sandbox(limits) as own:
            return own.load(loader, file, name, encoding)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}", path=name) from error


def load_within(path: Path, name: str, limits: LoadLimits) -> Document:
    """Read one file in this process, whatever its format: for a loader that meets a file in its own, under its limits.

    Raises:
        DocumentError: as `load`.
    """
    return build(_choose(path.name, _head(path, name), name), limits, None).load(path, name)


def load_bytes(
    data: bytes, name: str = STDIN, *, limits: LoadLimits = DEFAULT_LIMITS, encoding: str | None = None
) -> Document:
    """Read a document from memory, such as standard input; the loader is chosen by `name` and content.

    Raises:
        DocumentError: as `load`.
    """
    with tempfile.TemporaryDirectory(prefix="readthrough-") as folder:
        file = Path(folder) / ("input" + Path(name).suffix)
        file.write_bytes(data)
        return load(file, name=name, limits=limits, encoding=encoding)


def load_all(
    paths: Sequence[str | os.PathLike[str]],
    *,
    limits: LoadLimits = DEFAULT_LIMITS,
    encoding: str | None = None,
    stdin: BinaryIO | None = None,
    known: Callable[[Path], bool] | None = None,
    on_event: OnEvent | None = None,
) -> Iterator[Document | SkippedFile | Path]:
    """Read files and whole folders, one document after the other; `-` is standard input.

    A file that is named must be readable. In a folder what cannot be read comes as a SkippedFile, and the
    rest is read. A file that is reached twice is read once. A file of which `known` says True is not read: its
    path comes in the document's place.

    Raises:
        MissingPathError: at once, before anything is read: a path does not exist.
        InputError: while reading: a named file cannot be read, or (EmptyShelfError) nothing could be.
    """
    for path in paths:
        if str(path) != STDIN:
            _require(Path(path), display_name(path))
    return _load_each([Path(path) for path in paths], _Reader(limits, encoding, stdin, known), on_event)


class _Reader:
    """How to read one path: the settings of `load_all`."""

    def __init__(
        self,
        limits: LoadLimits,
        encoding: str | None,
        stdin: BinaryIO | None,
        known: Callable[[Path], bool] | None,
    ) -> None:
        self.limits = limits
        self._encoding = encoding
        self._stdin = stdin
        self._known = known

    def read(self, path: Path, sandbox: Sandbox, named: bool) -> Document | SkippedFile | Path:
        """The document at `path`; when it was not `named`, what cannot be read comes as a SkippedFile."""
        if str(path) == STDIN:
            return self._read_stdin()
        if self._known is not None and self._known(path):
            return path
        try:
            return load(path, limits=self.limits, encoding=self._encoding, sandbox=sandbox)
        except InputError as error:
            if named:
                raise
            return SkippedFile(display_name(path), error.message, failed=not isinstance(error, NotTextError))

    def _read_stdin(self) -> Document:
        stream = self._stdin or sys.stdin.buffer
        data = read_stream(stream, STDIN, self.limits)
        return load_bytes(data, limits=self.limits, encoding=self._encoding)


def _load_each(paths: list[Path], reader: _Reader, on_event: OnEvent | None) -> Iterator[Document | SkippedFile | Path]:
    named = {path for path in paths if not path.is_dir()}
    items = list(_distinct(paths))
    skipped: list[SkippedFile] = []
    with Sandbox(reader.limits) as sandbox:
        for index, item in enumerate(items):
            if on_event is not None:
                shown = item.path if isinstance(item, SkippedFile) else display_name(item)
                on_event(Event("load", index, len(items), "files", shown))
            result = item if isinstance(item, SkippedFile) else reader.read(item, sandbox, item in named)
            if isinstance(result, SkippedFile):
                skipped.append(result)
            yield result
    if on_event is not None:
        on_event(Event("load", len(items), len(items), "files"))
    if len(skipped) == len(items):
        raise _empty_shelf(paths, skipped)


def _distinct(paths: list[Path]) -> Iterator[Path | SkippedFile]:
    """The files of all paths in the order given, each once."""
    seen: set[str] = set()
    for path in paths:
        for item in walk(path) if path.is_dir() else (path,):
            if isinstance(item, Path):
                real = os.path.realpath(item)
                if real in seen:
                    continue
                seen.add(real)
            yield item


def _empty_shelf(paths: list[Path], skipped: list[SkippedFile]) -> EmptyShelfError:
    given = ", ".join(display_name(path) for path in paths) or "no path"
    reasons = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    hint = f"skipped: {reasons}{more}" if skipped else "is everything in it ignored by .gitignore?"
    return EmptyShelfError(f"nothing to read in {given}", hint=hint)


def build(loader: type[Loader], limits: LoadLimits, encoding: str | None) -> Loader:
    """An instance of a loader class; see `documents.base.Loader`."""
    instance: Loader = loader(limits=limits, encoding=encoding)  # type: ignore[call-arg]
    return instance


def _require(path: Path, name: str) -> os.stat_result:
    """The status of a path that must exist."""
    try:
        return path.stat()
    except PermissionError as error:
        raise MissingPathError("may not be read: permission denied", path=name) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise MissingPathError("no such file or folder", path=name, hint=_nearest_hint(path)) from error


def _nearest_hint(path: Path) -> str | None:
    """What there is instead: the nearest name in the deepest folder that exists."""
    folder, missing = path.parent, path.name
    while not folder.is_dir() and folder != folder.parent:
        folder, missing = folder.parent, folder.name
    try:
        near = catalogue.nearest(missing, os.listdir(folder))
    except OSError:
        return None
    return f"did you mean {display_name(folder / near)}?" if near else f"nothing like it in {display_name(folder)}"


def _head(path: Path, name: str) -> bytes:
    """The first bytes of a file, of a zip archive also the last."""
    status = _require(path, name)
    if stat.S_ISDIR(status.st_mode):
        raise DocumentError("is a folder, not a file", path=name)
    if not stat.S_ISREG(status.st_mode):
        hint = "to read a pipe, give - and let it be standard input"
        raise DocumentError("not a regular file but a pipe, socket or device", path=name, hint=hint)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if head.startswith(ZIP_MAGIC) and status.st_size > HEAD_BYTES:
                file.seek(max(HEAD_BYTES, status.st_size - TAIL_BYTES))
                head += file.read(TAIL_BYTES)
            return head
    except PermissionError as error:
        raise MissingPathError("may not be read: permission denied", path=name) from error
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}", path=name) from error


@lru_cache(maxsize=1)
def _by_suffix() -> dict[str, type[Loader]]:
    """Loader classes by suffix.

    Raises:
        ConfigError: two loaders claim one suffix.
    """
    table: dict[str, type[Loader]] = {}
    for loader_name in catalogue.names("loaders"):
        loader = catalogue.find("loaders", loader_name)
        for suffix in loader.suffixes:
            if suffix in table:
                raise ConfigError(f"the loaders {table[suffix].__name__} and {loader.__name__} both read {suffix}")
            table[suffix] = loader
    return table


def is_document(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is a document, and not source code or anything else."""
    loader = _by_suffix().get(os.path.splitext(path)[1].lower())
    return loader is not None and language_of(os.path.basename(path)) is None


def _choose(file_name: str, head: bytes, name: str) -> type[Loader]:
    """The loader for a file: by its suffix, unless its content says that a text suffix is wrong."""
    by_suffix = _by_suffix()
    known = by_suffix.get(os.path.splitext(file_name)[1].lower())
    if known is not None and known.isolated:
        return known
    suffix = _sniff(head, name)
    if suffix is not None and (known is None or suffix != ".html"):
        return by_suffix[suffix]
    return known or by_suffix[".py" if language_of(file_name) else ".txt"]


def _sniff(head: bytes, name: str) -> str | None:
    """The suffix that the first bytes speak for, or None."""
    if head.startswith(b"%PDF-"):
        return ".pdf"
    if head.startswith(OLE_MAGIC):
        return ".docx"
    if head.startswith(ZIP_MAGIC):
        for entry, suffix in ZIP_ENTRIES:
            if entry in head:
                return suffix
        raise NotTextError("a zip archive", path=name, hint="unpack it and give the folder")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower()
    return ".html" if start.startswith((b"<!doctype html", b"<html")) else None
