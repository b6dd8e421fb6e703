"""Every loader in the catalogue, unasked: places that hold, and typed errors for bad files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from readthrough import catalogue
from readthrough.documents.base import Loader, LoadLimits
from readthrough.documents.load import load
from readthrough.errors import DocumentError, InputError, MissingPathError
from readthrough.types import Document
from tests.document_samples import (
    epub_entries,
    mail,
    notebook,
    notebook_cell,
    pdf_bytes,
    save_docx,
    save_pptx,
    save_xlsx,
    zip_bytes,
)

# A loader that is new in the catalogue needs a sample here; the test below says so.
FILE_NAMES = {
    "text": "book.txt",
    "markdown": "notes.md",
    "html": "page.html",
    "pdf": "paper.pdf",
    "epub": "novel.epub",
    "docx": "report.docx",
    "pptx": "talk.pptx",
    "xlsx": "figures.xlsx",
    "csv": "keepers.csv",
    "eml": "letter.eml",
    "ipynb": "work.ipynb",
    "code": "module.py",
}
SENTENCE = "The keeper is named Ann."
SAVE = {"docx": save_docx, "pptx": save_pptx, "xlsx": save_xlsx}


def sample(loader: str, folder: Path) -> Path:
    """A file that this loader reads and that holds SENTENCE."""
    path = folder / FILE_NAMES[loader]
    if loader in SAVE:
        SAVE[loader](path)
    else:
        path.write_bytes(
            {
                "text": f"CHAPTER I\n\n{SENTENCE}\n\nCHAPTER II\n\nMore.\n".encode(),
                "markdown": f"# One\n\n{SENTENCE}\n\n## Two\n\nMore.\n".encode(),
                "html": f"<h1>One</h1><p>{SENTENCE}</p><h2>Two</h2><p>More.</p>".encode(),
                "pdf": pdf_bytes([["One", SENTENCE], ["Two", "More."]]),
                "epub": zip_bytes(
                    epub_entries({"a.xhtml": f"<h1>One</h1><p>{SENTENCE}</p>", "b.xhtml": "<p>More.</p>"})
                ),
                "csv": f"Hour;Note;Oil\nsix;{SENTENCE};2\nnine;More.;1\n".encode(),
                "eml": bytes(mail("The lamp", f"{SENTENCE}\n", {"notes.md": b"# One\n\nMore.\n"})),
                "ipynb": notebook([notebook_cell("# One"), notebook_cell(f"{SENTENCE}\n\n## Two\n\nMore.")]),
                "code": f'def one():\n    """{SENTENCE}"""\n\n\ndef two():\n    return 2\n'.encode(),
            }[loader]
        )
    return path


@pytest.fixture(params=catalogue.names("loaders"))
def loader(request: pytest.FixtureRequest) -> str:
    assert request.param in FILE_NAMES, f"add a sample of what the loader {request.param!r} reads"
    return str(request.param)


def test_is_a_loader(loader: str) -> None:
    cls = catalogue.find("loaders", loader)
    built = cls(limits=LoadLimits(), encoding=None)
    assert isinstance(built, Loader)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in cls.suffixes)


def test_places_hold(loader: str, tmp_path: Path) -> None:
    path = sample(loader, tmp_path)
    document = load(path)
    assert document.kind == loader
    assert document.path == str(path)
    assert document.id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert SENTENCE in document.text
    check_places(document)


def test_reads_the_same_twice(loader: str, tmp_path: Path) -> None:
    path = sample(loader, tmp_path)
    assert load(path) == load(path)


def check_places(document: Document) -> None:
    """Spans lie in the text, in order, without overlap; only `\\n` ends a line."""
    text = document.text
    assert "\r" not in text
    assert not text.startswith("\ufeff")
    text.encode("utf-8")
    for spans in (document.pages, document.sections):
        position = 0
        for span in spans:
            assert position <= span.start <= span.end <= len(text)
            position = span.end
    assert [page.number for page in document.pages] == list(range(1, len(document.pages) + 1))
    for section in document.sections:
        assert section.path and all(title.strip() == title and title for title in section.path)
        assert document.section_at(section.start) == section.title
    assert document.line_at(len(text)) == text.count("\n") + 1


@pytest.mark.parametrize(
    "content", [b"", b"   \n\n  ", os.urandom(4000), b"\0" * 1000], ids=["empty", "blank", "random", "nul"]
)
def test_bad_content_is_a_typed_error(loader: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAMES[loader]
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        load(path)
    assert caught.value.path == str(path)
    assert caught.value.message


def test_cut_off_at_any_place_is_a_typed_error_or_a_shorter_text(loader: str, tmp_path: Path) -> None:
    path = sample(loader, tmp_path)
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        try:
            check_places(load(path))
        except DocumentError as error:
            assert error.path == str(path)
            assert str(error.message).isprintable()


def test_missing_file_and_folder_are_typed_errors(loader: str, tmp_path: Path) -> None:
    path = sample(loader, tmp_path)
    with pytest.raises(MissingPathError) as caught:
        load(path.with_name("x" + path.name))
    assert caught.value.hint == f"did you mean {path}?"
    folder = tmp_path / ("folder" + path.suffix)
    folder.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load(folder)


def test_larger_than_allowed(loader: str, tmp_path: Path) -> None:
    path = sample(loader, tmp_path)
    with pytest.raises(DocumentError, match="larger than the limit of 10 bytes"):
        load(path, limits=LoadLimits(file_bytes=10))
