"""Files that a run writes into a folder: whole or not at all, and never over a file that it did not write itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from readthrough.errors import ReadthroughError, UsageError


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder to write into; it is made where it is not there.

    Attributes:
        path: where it is.
        overwrite: whether files that are there already may be overwritten.
    """

    path: Path
    overwrite: bool = False

    def check(self, names: Iterable[str], own: Mapping[str, str]) -> None:
        """Whether files of these names can be written; `own` are the hashes of those that the run wrote.

        Raises:
            UsageError: one is there that the run did not write, or that was changed since.
            ReadthroughError: the folder cannot be made or read.
        """
        with _disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        for name in names:
            found = self._hash(name)
            if not self.overwrite and found is not None and found != own.get(name):
                what = "was changed since it was written" if name in own else "is there already"
                raise UsageError(
                    f"the file {what}, and is not overwritten",
                    path=str(self.path / name),
                    hint="move it, name another folder, or give --overwrite",
                )

    def write(self, texts: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
        """Write files, and return the hashes of all that the run wrote. What is there already as it is to be stays.

        Raises:
            UsageError, ReadthroughError: as `check`; the disk may also be full.
        """
        hashes = {name: _hash_of(text.encode("utf-8", "backslashreplace")) for name, text in texts.items()}
        changed = [name for name in texts if self._hash(name) != hashes[name]]
        self.check(changed, own)
        for name in changed:
            unfinished = self.path / f".{name}.{os.getpid()}.unfinished"
            with _disk(self.path / name):
                try:
                    unfinished.write_text(texts[name], encoding="utf-8", errors="backslashreplace")
                    os.replace(unfinished, self.path / name)
                finally:
                    unfinished.unlink(missing_ok=True)
        return {**own, **hashes}

    def _hash(self, name: str) -> str | None:
        """The hash of a file, None where there is none."""
        with _disk(self.path / name):
            try:
                return _hash_of((self.path / name).read_bytes())
            except FileNotFoundError:
                return None


def _hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReadthroughError(f"cannot be written: {error.strerror or error}", path=str(path)) from error
