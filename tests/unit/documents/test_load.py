"""Choosing a loader, folders, standard input, and the process for risky formats."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import readthrough
from readthrough.documents.folder import walk
from readthrough.documents.load import load, load_all, load_bytes
from readthrough.documents.sandbox import Sandbox
from readthrough.errors import DocumentError, EmptyShelfError, MissingPathError
from readthrough.types import Document, Event, SkippedFile
from tests.document_samples import (
    docx_entries,
    docx_paragraph,
    epub_entries,
    pdf_bytes,
    pptx_entries,
    xlsx_entries,
    zip_bytes,
)

SAMPLES = {
    "pdf": pdf_bytes([["words"]]),
    "epub": zip_bytes(epub_entries({"a.xhtml": "<p>words</p>"}), 0),
    "docx": zip_bytes(docx_entries(docx_paragraph("words"))),
    "pptx": zip_bytes(pptx_entries("words")),
    "xlsx": zip_bytes(xlsx_entries('<row><c t="str"><v>words</v></c></row>')),
    "html": b"<!DOCTYPE html><p>words",
    "text": b"words",
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("name", ["file", "file.unknown", "-"])
def test_content_decides_without_a_suffix(kind: str, name: str) -> None:
    document = load_bytes(SAMPLES[kind], name)
    assert (document.kind, document.path) == (kind, name)
    assert document.text.split()[-1] == "words"


def test_an_archive_is_known_by_names_far_from_its_start() -> None:
    padding = {"[Content_Types].xml": "<Types/>", "docProps/a.bin": os.urandom(100_000)}
    assert load_bytes(zip_bytes({**padding, **xlsx_entries("<row><c><v>1</v></c></row>")}), "file").kind == "xlsx"


def test_content_overrules_a_text_suffix_and_not_the_other_way(tmp_path: Path) -> None:
    assert load_bytes(SAMPLES["pdf"], "a.txt").kind == "pdf"
    assert load_bytes(b"<html> is a tag", "a.txt").kind == "text"
    with pytest.raises(DocumentError, match="not a PDF"):
        load_bytes(b"words", "a.pdf")
    with pytest.raises(DocumentError, match="a zip archive"):
        load_bytes(zip_bytes({"a.txt": "x"}), "a.zip")
    assert load_bytes(b"FROM x", "Dockerfile").kind == "text"  # the name of standard input is not a file's
    (tmp_path / "Dockerfile").write_text("FROM x")
    assert load(tmp_path / "Dockerfile").language == "dockerfile"


def test_missing_paths_name_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "lighthouse.txt").write_text("x")
    with pytest.raises(MissingPathError, match=r"did you mean .*chapters/lighthouse\.txt\?"):
        load(tmp_path / "chapters" / "lighthose.txt")
    with pytest.raises(MissingPathError, match=r"did you mean .*chapters\?"):
        load(tmp_path / "chapter" / "lighthouse.txt")
    with pytest.raises(MissingPathError):
        load("a\0b")
    with pytest.raises(MissingPathError):
        load_all([tmp_path, tmp_path / "gone"])  # before anything is read


def test_named_files_raise_and_files_of_folders_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.pdf").write_bytes(b"broken")
    results = list(load_all([tmp_path]))
    assert isinstance(results[0], Document)
    assert results[1] == SkippedFile(str(tmp_path / "b.pdf"), "not a PDF: it does not begin with %PDF")
    with pytest.raises(DocumentError, match="not a PDF"):
        list(load_all([tmp_path / "b.pdf", tmp_path]))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"\0" * 100)
    with pytest.raises(EmptyShelfError, match=r"b\.bin: binary file"):
        list(load_all([tmp_path]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyShelfError, match="nothing to read"):
        list(load_all([tmp_path / "empty"]))


def test_standard_input_and_events(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    events: list[Event] = []
    paths = ["-", tmp_path, tmp_path / "a.txt"]
    results = list(load_all(paths, stdin=io.BytesIO(b"piped"), on_event=events.append))
    assert [item.path for item in results] == ["-", str(tmp_path / "a.txt")], "read once"
    assert [(event.done, event.total) for event in events] == [(0, 2), (1, 2), (2, 2)]
    with pytest.raises(DocumentError, match="empty"):
        list(load_all(["-"], stdin=io.BytesIO(b"")))


def test_known_files_are_not_read_again(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name)
    first, second = load_all([tmp_path], known=lambda path: path.name == "a.txt")
    assert first == tmp_path / "a.txt"
    assert isinstance(second, Document) and second.text == "b"


def test_a_folder_is_read_one_file_at_a_time(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    results = load_all([tmp_path])
    first = next(results)
    (tmp_path / "c.txt").write_text("changed")
    assert isinstance(first, Document) and first.text == "a"
    assert [item.text for item in results if isinstance(item, Document)] == ["b", "changed"]


def test_names_that_are_not_utf8_can_be_printed(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/a\xff.txt"
    try:
        with open(path, "wb") as file:
            file.write(b"words")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (document,) = load_all([tmp_path])
    assert document.path == f"{tmp_path}/a\\xff.txt"


IGNORE = {
    ".gitignore": "*.log\n/build/\n!keep.log\nsub/deep/\n**/tmp\nfoo/*.txt\n\\#hash\ntrailing \n[ab].md\n",
    "sub/.gitignore": "!b.log\n*.txt\n!/c.txt\n",
    "vendor/.gitignore": "*\n",
    ".git/info/exclude": "*.secret\n",
}
FILES = ["a.log", "keep.log", "build/x.txt", "sub/build/y.txt", "sub/a.log", "sub/b.log", "sub/c.txt", "sub/d.txt"]
FILES += ["sub/e/c.txt", "sub/deep/f.py", "x/tmp/y.txt", "tmp", "foo/a.txt", "foo/b/a.txt", "#hash", "a.md", "c.md"]
FILES += ["vendor/lib.py", "a.secret", "z.txt", "sub/e/keep.log", "foo/tmp/z.py"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name, content in IGNORE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("below", ["", "sub", "foo"])
def test_ignores_what_git_ignores(below: str, repository: Path) -> None:
    kept = {os.path.relpath(path, repository) for path in walk(repository / below) if isinstance(path, Path)}
    everything = {*FILES, *(name for name in IGNORE if not name.startswith(".git/"))}
    everything = {name for name in everything if name.startswith(below)}
    asked = subprocess.run(
        ["git", "-c", "core.excludesFile=", "check-ignore", "--stdin"],
        input="\n".join(everything),
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert asked.returncode in (0, 1)
    ignored = set(asked.stdout.splitlines())
    assert kept == everything - ignored
    assert below or (ignored and kept)


def test_an_ignored_folder_that_is_named_is_read(repository: Path) -> None:
    assert list(walk(repository / "build")) == [repository / "build" / "x.txt"]


def test_order_is_stable_and_version_control_is_left_out(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/10.txt", "a.txt", ".hg/x.txt", ".hidden/y.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [os.path.relpath(path, tmp_path) for path in walk(tmp_path) if isinstance(path, Path)]
    assert found == [".hidden/y.txt", "a.txt", "b/10.txt", "b/2.txt", "c.txt"]


def test_the_sandbox_outlives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(SAMPLES["pdf"])
    with Sandbox() as sandbox:
        for _ in range(3):
            assert sandbox.load(Good, path, "a.pdf").text == "good"
            with pytest.raises(DocumentError, match=r"crashed \(SIGSEGV\)"):
                sandbox.load(Crashing, path, "a.pdf")
            with pytest.raises(DocumentError, match=r"crashed \(SIGKILL\)|memory"):
                sandbox.load(Greedy, path, "a.pdf")
            with pytest.raises(DocumentError, match=r"cannot be parsed: ZeroDivisionError"):
                sandbox.load(Failing, path, "a.pdf")


class Good:
    """Stands for a parser that works, and prints."""

    suffixes = (".good",)
    isolated = True

    def __init__(self, **_: object) -> None:
        print("noise on standard output")
        os.write(1, b"and below Python")

    def load(self, path: Path, name: str) -> Document:
        return Document("id", name, "good", "good")


class Crashing(Good):
    def load(self, path: Path, name: str) -> Document:
        os.kill(os.getpid(), 11)
        raise AssertionError


class Greedy(Good):
    def load(self, path: Path, name: str) -> Document:
        return Document("id", name, "x" * (3 << 30), "good")


class Failing(Good):
    def load(self, path: Path, name: str) -> Document:
        return Document("id", name, str(1 // 0), "good")


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import readthrough.documents.load as load
print(load.load({path!r}).text)
"""


@pytest.mark.parametrize("how", ["stdin", "command", "thread"])
def test_works_where_the_main_module_cannot_be_imported(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(SAMPLES["pdf"])
    (tmp_path / "json.py").write_text("raise SystemExit('a file in the current folder was imported')")
    root = str(Path(readthrough.__file__).parent.parent)
    script = SCRIPT.format(root=root, path=str(path))
    if how == "thread":
        script = f"import threading\nt = threading.Thread(target=exec, args=({script!r}, {{}}))\nt.start()\nt.join()\n"
    command = [sys.executable, "-P", "-"] if how == "stdin" else [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, input=script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("words\n", "")


def test_the_worker_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Sandbox() as sandbox:
        environment = json.loads(sandbox.load(Revealing, tmp_path, "x").text)
    assert "OPENAI_API_KEY" not in environment
    assert "PATH" in environment


class Revealing(Good):
    def load(self, path: Path, name: str) -> Document:
        return Document("id", name, json.dumps(dict(os.environ)), "good")


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# words")
    heavy = "torch numpy transformers pypdfium2 lxml selectolax docx chardet tokenizers"
    script = f"""
        import sys
        from readthrough.documents.load import load
        from readthrough.documents.chunkers.tokens import TokenChunker
        load({str(path)!r})
        print([name for name in {heavy.split()!r} if name in sys.modules])
    """
    root = str(Path(readthrough.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=root, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
