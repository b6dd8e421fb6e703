"""The files of a batch: those of its folder that its patterns take, each with a hash of what is in it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from readthrough.batch.job import Job
from readthrough.documents.folder import display_name, walk
from readthrough.errors import MissingPathError, UsageError
from readthrough.memory.store import RACY_NS
from readthrough.types import SkippedFile

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

HEAD_BYTES = 256
"""So much of a file says which others begin alike: these are read one after another, over the same kept KV."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file.

    Attributes:
        path: below the folder, with `/`.
        content: what it says: SHA-256 of its bytes, with its suffix, by which they are read; empty where it cannot be
            read at all.
        size_bytes: its size.
        changed_ns: the time of its last change, of its inode too; 0 where it may change again within the same tick.
        head: its first bytes.
    """

    path: str
    content: str
    size_bytes: int
    changed_ns: int
    head: bytes = b""


Known = Callable[[str, int, int], str | None]
"""The content of a file that is as it was, by path, size and time of its last change; None where it must be read."""


def files_of(
    job: Job, known: Known = lambda path, size, changed: None, home: Path | None = None
) -> Iterator[Found | SkippedFile]:
    """The files of the job's folder, and those that cannot be read at all; paths are relative to the folder.

    What lies in the `home` folder is no document: to open and close a file of SQLite's would drop the locks on it.

    Raises:
        MissingPathError: there is no such folder, or it cannot be listed.
        UsageError: a pattern is none.
    """
    root = job.folder
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "there is no such folder"
        raise MissingPathError(what, path=str(root), hint="readthrough batch run FOLDER ...")
    include, exclude = _spec(job.include), _spec(job.exclude)
    for item in walk(root):
        path = _relative(root, item.path if isinstance(item, SkippedFile) else item)
        if not path and isinstance(item, SkippedFile):
            raise MissingPathError(item.reason, path=str(root))
        if not _taken(path, job.recursive, include, exclude):
            continue
        if isinstance(item, SkippedFile):
            yield Found(path, "", 0, 0) if item.failed else SkippedFile(path, item.reason, failed=False)
        elif not _is_result(item, job.out) and not (home is not None and _is_below(item, home)):
            yield _found(item, path, known)


def unfinished(out: Path) -> Path:
    """Where the file of results is written before it takes its place; one is left there by a kill."""
    return out.with_name(f".{out.name}.unfinished")


def _is_result(file: Path, out: Path) -> bool:
    mine = file.name in (out.name, unfinished(out).name)
    return mine and os.path.realpath(file.parent) == os.path.realpath(out.parent)


def _is_below(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _found(file: Path, path: str, known: Known) -> Found:
    try:
        stat = file.stat()
        racy = time.time_ns() - stat.st_ctime_ns < RACY_NS
        content = known(path, stat.st_size, stat.st_ctime_ns)
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
            opened.seek(0)
            content = content or hashlib.file_digest(opened, "sha256").hexdigest() + file.suffix.lower()
    except OSError:
        return Found(path, "", 0, 0)  # the loader says what is wrong with it
    return Found(path, content, stat.st_size, 0 if racy else stat.st_ctime_ns, head)


def _taken(path: str, recursive: bool, include: GitIgnoreSpec | None, exclude: GitIgnoreSpec | None) -> bool:
    if not recursive and "/" in path:
        return False
    if exclude is not None and exclude.match_file(path):
        return False
    return include is None or bool(include.match_file(path))


def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec | None:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns) if patterns else None
    except ValueError as error:
        raise UsageError(f"a pattern of files is wrong: {error}", hint="patterns are as in .gitignore") from error


def _relative(root: Path, path: Path | str) -> str:
    found = PurePath(display_name(path)).relative_to(display_name(root)).as_posix()
    return "" if found == "." else found
