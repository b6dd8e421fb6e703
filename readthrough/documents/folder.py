"""Walk a folder: its files in a stable order, without what .gitignore names and without leaving the folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.types import SkippedFile

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

VERSION_CONTROL = frozenset((".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs", ".sl"))


@dataclass(frozen=True, slots=True)
class _Rules:
    """The patterns of one ignore file, which hold below `folder`."""

    folder: str
    spec: GitIgnoreSpec


def walk(root: Path) -> Iterator[Path | SkippedFile]:
    """Yield the regular files below `root`, sorted by name folder by folder, and what was passed over and why.

    Left out without a word: what .gitignore files name (those above `root` up to the repository's root
    too), and folders of version control. Links are never followed: what they point to within the folder is
    read under its own name.
    """
    top = os.path.abspath(root)
    rules = _rules_above(top)
    if _ignored(top, True, rules):
        rules = []  # the user asked for this very folder
    yield from _walk(root, os.path.realpath(top), top, rules)


def _walk(folder: Path, real_root: str, absolute: str, rules: list[_Rules]) -> Iterator[Path | SkippedFile]:
    rules = [*rules, *_read_rules(absolute, ".gitignore")]
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        yield SkippedFile(display_name(folder), f"cannot be listed: {error.strerror}")
        return
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        path = os.path.join(absolute, entry.name)
        if _ignored(path, is_folder, rules) or (is_folder and entry.name in VERSION_CONTROL):
            continue
        if is_folder:
            yield from _walk(folder / entry.name, real_root, path, rules)
        elif entry.is_symlink():
            yield SkippedFile(display_name(folder / entry.name), _link_reason(path, real_root), failed=False)
        elif entry.is_file(follow_symlinks=False):
            yield folder / entry.name
        else:
            yield SkippedFile(display_name(folder / entry.name), _special_reason(entry), failed=False)


def _link_reason(path: str, real_root: str) -> str:
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return "broken symbolic link"
    inside = os.path.commonpath((real_root, target)) == real_root
    return "symbolic link: its target is read under its own name" if inside else "symbolic link out of the folder"


def _special_reason(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    kinds = ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
    return next((kind for check, kind in kinds if check(mode)), "device")


def display_name(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def path_named(name: str) -> Path:
    """The path that `display_name` shows as `name`: where there is none of these letters, escapes are bytes."""
    as_bytes = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name))
    escaped = os.fsdecode(as_bytes)
    return Path(escaped if not os.path.lexists(name) and os.path.lexists(escaped) else name)


def _rules_above(top: str) -> list[_Rules]:
    """The ignore files between the root of the repository that holds `top` and `top` itself, outermost first."""
    folder = top
    found: list[_Rules] = []
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return []
        folder = parent
        found = [*_read_rules(folder, ".gitignore"), *found]
    return [*_read_rules(folder, os.path.join(".git", "info", "exclude")), *found]


def _read_rules(folder: str, name: str) -> list[_Rules]:
    from pathspec import GitIgnoreSpec

    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [_Rules(folder, GitIgnoreSpec.from_lines(file))]
    except OSError:
        return []  # git does the same: an ignore file that cannot be read ignores nothing


def _ignored(path: str, is_folder: bool, rules: list[_Rules]) -> bool:
    """Whether the innermost rule that speaks of `path` ignores it."""
    for rule in reversed(rules):
        relative = os.path.relpath(path, rule.folder) + ("/" if is_folder else "")
        include = rule.spec.check_file(relative).include
        if include is not None:
            return include
    return False
