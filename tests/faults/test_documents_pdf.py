"""PDF files that are broken, hostile or huge cost one document, with a reason, and never the process."""

from __future__ import annotations

import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from readthrough.documents.base import LoadLimits
from readthrough.documents.load import load, load_all
from readthrough.errors import DocumentError
from readthrough.types import Document, SkippedFile
from tests.document_samples import encrypted_pdf_bytes, pdf_bytes, pdf_from, pdf_stream

CATALOGUE = b"<< /Type /Catalog /Pages 2 0 R >>"


def stream_bomb(unpacked_bytes: int) -> bytes:
    """A page whose content stream unpacks to `unpacked_bytes` of text operators."""
    block = b"(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj\n" * 30_000
    packer = zlib.compressobj(9)
    parts = [packer.compress(b"BT /F1 12 Tf ")]
    parts += [packer.compress(block) for _ in range(unpacked_bytes // len(block))]
    parts += [packer.compress(b" ET"), packer.flush()]
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
    page += b" /Resources << /Font << /F1 5 0 R >> >> >>"
    return pdf_from(
        [
            CATALOGUE,
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            page,
            pdf_stream(b"".join(parts), b"/Filter /FlateDecode"),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


GOOD = pdf_bytes([["Good"]])
BAD = {
    "garbage": (b"garbage" * 100, "not a PDF"),
    "garbage after the header": (b"%PDF-1.7\n" + b"\x93garbage" * 100, "broken or truncated PDF"),
    "cut off": (GOOD[: len(GOOD) // 2], "broken or truncated PDF"),
    "encrypted": (encrypted_pdf_bytes(), "encrypted"),
    "no pages": (pdf_bytes([]), "no pages"),
    "images only": (pdf_bytes([[], []]), "no text layer"),
    "page tree loop": (pdf_from([CATALOGUE, b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"]), "broken PDF"),
    "pages that are not there": (pdf_from([CATALOGUE, b"<< /Type /Pages /Kids [] /Count 100000 >>"]), r"PDF|page"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pdf_fails_with_its_reason(case: str, tmp_path: Path) -> None:
    data, reason = BAD[case]
    path = tmp_path / "bad.pdf"
    path.write_bytes(data)
    with pytest.raises(DocumentError, match=reason) as caught:
        load(path)
    assert caught.value.path == str(path)


def test_page_tree_whose_nodes_name_each_other_ends(tmp_path: Path) -> None:
    tree = [CATALOGUE] + [b"<< /Type /Pages /Kids [%d 0 R %d 0 R] /Count 2000000 >>" % (3, 2)] * 2
    (tmp_path / "loop.pdf").write_bytes(pdf_from(tree))
    started = time.monotonic()
    with pytest.raises(DocumentError):
        load(tmp_path / "loop.pdf", limits=LoadLimits(seconds=3))
    assert time.monotonic() - started < 6


def test_stream_bomb_is_stopped_by_the_limit_of_memory_or_time(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pdf"
    path.write_bytes(stream_bomb(600_000_000))
    with pytest.raises(DocumentError, match=r"crashed|memory|longer|broken"):
        load(path, limits=LoadLimits(memory_bytes=400_000_000, seconds=20))


@pytest.mark.slow
def test_very_many_pages(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    path.write_bytes(pdf_bytes([[f"Page {number}"] for number in range(1, 100_001)]))
    try:
        document = load(path, limits=LoadLimits(seconds=60))
    except DocumentError as error:  # a slow machine
        assert "longer than 60 seconds" in error.message
    else:
        assert len(document.pages) == 100_000
        last = document.pages[-1]
        assert document.text[last.start : last.end] == "Page 100000"


def test_a_parse_that_hangs_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "slow.pdf"
    path.write_bytes(pdf_bytes([[f"Page {number}"] for number in range(30_000)]))
    started = time.monotonic()
    with pytest.raises(DocumentError, match=r"longer than 0\.5 seconds"):
        load(path, limits=LoadLimits(seconds=0.5))
    assert time.monotonic() - started < 5


def test_the_rest_of_a_folder_is_read(tmp_path: Path) -> None:
    for index, (data, _) in enumerate(BAD.values()):
        (tmp_path / f"{index}-bad.pdf").write_bytes(data)
        (tmp_path / f"{index}-good.pdf").write_bytes(pdf_bytes([[f"Good {index}"]]))
    (tmp_path / "3-bomb.pdf").write_bytes(stream_bomb(400_000_000))
    results = list(load_all([tmp_path], limits=LoadLimits(memory_bytes=400_000_000, seconds=20)))
    texts = [item.text for item in results if isinstance(item, Document)]
    skipped = [item for item in results if isinstance(item, SkippedFile)]
    assert texts == [f"Good {index}" for index in range(len(BAD))]
    assert len(skipped) == len(BAD) + 1
    assert all(item.reason for item in skipped)


def test_fifty_files_by_eight_workers_give_what_one_gives(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pdf" for number in range(50)]
    for number, path in enumerate(paths):
        path.write_bytes(pdf_bytes([[f"File {number}, page {page}", "of words"] for page in range(40)]))
    one_by_one = list(load_all(paths))
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(load, paths))
    assert at_once == one_by_one
    assert len({item.text for item in at_once}) == 50
