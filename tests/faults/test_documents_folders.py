"""Folders with links, loops, pipes and files that may not be read: nothing outside is read, all of it is told."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from readthrough.documents.load import load, load_all
from readthrough.errors import DocumentError, InputError, MissingPathError
from readthrough.types import Document, SkippedFile

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, with a short path (a socket's may have 107 bytes)."""
    made = Path(tempfile.mkdtemp(prefix="rt-"))
    made.chmod(0o755)
    yield made
    for path in made.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(made)


def read(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Texts and reasons by path from `root`."""
    texts: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for item in load_all([root]):
        name = os.path.relpath(item.path, root)
        if isinstance(item, Document):
            texts[name] = item.text
        else:
            reasons[name] = item.reason
    return texts, reasons


def test_links_never_lead_out_and_never_loop(folder: Path) -> None:
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.txt").write_text("SECRET")
    (root / "a.txt").write_text("inside")
    (root / "sub" / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "gone.txt").symlink_to("nowhere")
    (root / "out.txt").symlink_to(folder / "outside" / "secret.txt")
    (root / "out").symlink_to(folder / "outside")
    (root / "again.txt").symlink_to("a.txt")
    texts, reasons = read(root)
    assert texts == {"a.txt": "inside"}
    assert reasons == {
        "again.txt": "symbolic link: its target is read under its own name",
        "gone.txt": "broken symbolic link",
        "out": "symbolic link out of the folder",
        "out.txt": "symbolic link out of the folder",
        "self": "broken symbolic link",
        "sub/loop": "symbolic link: its target is read under its own name",
    }


def test_a_link_that_is_named_is_followed(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "a.txt").write_text("words")
    (folder / "link").symlink_to("real")
    (folder / "link.txt").symlink_to("real/a.txt")
    assert load(folder / "link.txt").text == "words"
    assert read(folder / "link") == ({"a.txt": "words"}, {})


def test_pipes_sockets_and_devices_are_passed_over(folder: Path) -> None:
    (folder / "a.txt").write_text("words")
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        expected = {"pipe.txt": "named pipe", "socket": "socket"}
        if os.geteuid() == 0:
            try:
                os.mknod(folder / "zero.txt", 0o20666, os.makedev(1, 5))
                expected["zero.txt"] = "device"
            except PermissionError:
                pass  # a container without the right to make devices
        assert read(folder) == ({"a.txt": "words"}, expected)
    with pytest.raises(DocumentError, match="not a regular file"):
        load(folder / "pipe.txt")
    with pytest.raises(DocumentError, match="not a regular file"):
        load("/dev/zero")


def test_what_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "a.txt").write_text("words")
    (folder / "secret.txt").write_text("secret")
    (folder / "secret.txt").chmod(0)
    (folder / "closed").mkdir()
    (folder / "closed" / "b.txt").write_text("secret")
    (folder / "closed").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)  # to the superuser no file is closed
    try:
        texts, reasons = read(folder)
        assert texts == {"a.txt": "words"}
        assert reasons == {
            "closed": "cannot be listed: Permission denied",
            "secret.txt": "may not be read: permission denied",
        }
        with pytest.raises(MissingPathError, match="permission denied"):
            load(folder / "secret.txt")
        with pytest.raises(InputError):
            list(load_all([folder / "closed" / "b.txt"]))
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_vanishes_while_the_folder_is_read_costs_only_itself(folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.txt").write_text(name)
    results = []
    for item in load_all([folder]):
        results.append(item)
        (folder / "b.txt").unlink(missing_ok=True)
    assert [type(item) for item in results] == [Document, SkippedFile, Document]


def test_a_deep_folder(folder: Path) -> None:
    deep = folder.joinpath(*["d"] * 400)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("deep")
    assert [item.text for item in load_all([folder]) if isinstance(item, Document)] == ["deep"]
