"""The files of a batch: which of a folder are taken, and when one counts as changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from readthrough.batch.files import Found, files_of, unfinished
from readthrough.batch.job import Job
from readthrough.documents.folder import path_named
from readthrough.errors import MissingPathError, UsageError
from readthrough.types import SkippedFile
from tests.batch_samples import asking, write_folder

OLD_NS = 1_700_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = {"a.txt": "a", "b.md": "b", "sub/c.TXT": "c", "sub/deep/d.md": "d", "sub/e.log": "e"}
    return write_folder(tmp_path / "docs", texts)


def taken(job: Job) -> list[str]:
    return [item.path for item in files_of(job) if isinstance(item, Found)]


def found(job: Job, path: str) -> Found:
    return next(item for item in files_of(job) if isinstance(item, Found) and item.path == path)


@pytest.mark.parametrize(
    ("more", "paths"),
    [
        ({}, ["a.txt", "b.md", "sub/c.TXT", "sub/deep/d.md", "sub/e.log"]),
        ({"recursive": False}, ["a.txt", "b.md"]),
        ({"include": ("*.md",)}, ["b.md", "sub/deep/d.md"]),
        ({"include": ("/*.md", "sub/*")}, ["b.md", "sub/c.TXT", "sub/deep/d.md", "sub/e.log"]),
        ({"exclude": ("*.md", "*.log")}, ["a.txt", "sub/c.TXT"]),
        ({"include": ("sub/",), "exclude": ("deep/",)}, ["sub/c.TXT", "sub/e.log"]),
        ({"include": ("*", "!*.md")}, ["a.txt", "sub/c.TXT", "sub/e.log"]),
        ({"include": ("nothing",)}, []),
    ],
)
def test_patterns(folder: Path, tmp_path: Path, more: dict[str, object], paths: list[str]) -> None:
    assert taken(asking(folder, tmp_path / "out.jsonl", **more)) == paths


def test_a_pattern_that_is_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pattern"):
        taken(asking(folder, tmp_path / "out.jsonl", include=("!",)))


def test_no_folder(folder: Path, tmp_path: Path) -> None:
    for path, match in ((folder / "nowhere", "no such folder"), (folder / "a.txt", "not a folder")):
        with pytest.raises(MissingPathError, match=match):
            taken(asking(path, tmp_path / "out.jsonl"))


def test_a_folder_that_cannot_be_listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name in ("docs", "deep"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MissingPathError, match="cannot be listed"):
        taken(asking(folder, tmp_path / "out.jsonl"))
    within = found(asking(folder / "sub", tmp_path / "out.jsonl"), "deep")
    assert within.content == "", "one within it is a document that fails"


def test_what_is_ignored_and_links(folder: Path, tmp_path: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "out.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "elsewhere.txt").write_text("not in the folder")
    job = asking(folder, tmp_path / "out.jsonl")
    assert taken(job) == [".gitignore", "a.txt", "b.md", "sub/c.TXT", "sub/deep/d.md"]
    skipped = {item.path: item for item in files_of(job) if isinstance(item, SkippedFile)}
    assert set(skipped) == {"link.txt", "out.txt"}
    assert not any(item.failed for item in skipped.values())


def test_the_results_are_no_documents(folder: Path, tmp_path: Path) -> None:
    out = folder / "sub" / "results.jsonl"
    (tmp_path / "link").symlink_to(folder)
    for path in (out, unfinished(out), folder / "results.jsonl"):
        path.write_text("{}")
    for root in (folder, tmp_path / "link", tmp_path / "docs" / ".." / "docs"):
        paths = taken(asking(root, out))
        assert "results.jsonl" in paths, "one of the same name elsewhere is a document"
        assert not {"sub/results.jsonl", "sub/.results.jsonl.unfinished"} & set(paths)


def test_the_home_folder_holds_no_documents(folder: Path, tmp_path: Path) -> None:
    home = write_folder(folder / "home", {"batch.sqlite": "x", "readings/a": "y"})
    (folder / "home.txt").write_text("not in it")
    paths = [item.path for item in files_of(asking(folder, tmp_path / "o.csv"), home=home) if isinstance(item, Found)]
    assert "home.txt" in paths
    assert not any(path.startswith("home/") for path in paths)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9p\xf4t")
    folder.mkdir()
    for name in (b"caf\xe9.txt", "café.txt".encode(), rb"plain\x41.txt"):
        (folder / os.fsdecode(name)).write_bytes(name)
    (folder / "link").symlink_to(folder / os.fsdecode(b"caf\xe9.txt"))
    paths = taken(asking(folder, tmp_path / "out.jsonl"))
    assert sorted(paths) == sorted([r"caf\xe9.txt", "café.txt", r"plain\x41.txt"])
    for path, data in (
        (r"caf\xe9.txt", b"caf\xe9.txt"),
        ("café.txt", "café.txt".encode()),
        (r"plain\x41.txt", rb"plain\x41.txt"),
    ):
        assert path_named(str(folder / path)).read_bytes() == data


def test_content_is_the_bytes_and_the_suffix(folder: Path, tmp_path: Path) -> None:
    job = asking(folder, tmp_path / "out.jsonl")
    assert found(job, "sub/c.TXT").content == hashlib.sha256(b"c").hexdigest() + ".txt"
    assert found(job, "a.txt").head == b"a"
    assert found(job, "a.txt").size_bytes == 1


def test_a_file_that_cannot_be_opened(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert found(asking(folder, tmp_path / "out.jsonl"), "a.txt") == Found("a.txt", "", 0, 0)


def test_what_is_known_is_not_read_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = asking(folder, tmp_path / "out.jsonl")
    seen: list[tuple[str, int, int]] = []

    def known(path: str, size: int, changed: int) -> str:
        seen.append((path, size, changed))
        return "known"

    assert {item.content for item in files_of(job, known) if isinstance(item, Found)} == {"known"}
    assert seen[0] == ("a.txt", 1, (folder / "a.txt").stat().st_ctime_ns)


def test_an_edit_within_the_same_tick_and_of_the_same_size_is_seen(folder: Path, tmp_path: Path) -> None:
    """A file that was changed just now is noted without a time, so that it is read again."""
    job = asking(folder, tmp_path / "out.jsonl")
    assert found(job, "a.txt").changed_ns == 0


def test_an_edit_that_keeps_size_and_time_is_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("readthrough.batch.files.RACY_NS", 0)
    job, path = asking(folder, tmp_path / "out.jsonl"), folder / "a.txt"
    os.utime(path, ns=(OLD_NS, OLD_NS))
    before = found(job, "a.txt")
    while path.stat().st_ctime_ns == before.changed_ns:  # the next tick of the file system's clock
        path.write_text("z")
        os.utime(path, ns=(OLD_NS, OLD_NS))
    assert found(job, "a.txt").changed_ns != before.changed_ns
