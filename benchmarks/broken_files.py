"""Files that cannot be read, each broken in another way."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.mixed_files import html, pdf
from tests.document_samples import docx_entries, docx_paragraph, epub_entries, pdf_from, zip_bytes

_TEXT = ["The lamp was lit at six, and nobody came.", "In the morning the boat was gone."] * 30
_BOMB_BYTES = 64_000_000


def _truncated() -> bytes:
    whole = pdf("Cut off", _TEXT)
    return whole[: len(whole) // 2]


def _images_only() -> bytes:
    """A scan: pages with a picture and no text."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    for shade in (90, 160):
        canvas.drawImage(ImageReader(Image.new("L", (200, 280), shade)), 50, 50, 400, 560)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _bomb() -> bytes:
    return zip_bytes(docx_entries(docx_paragraph("a" * _BOMB_BYTES)))


def _without_spine() -> bytes:
    entries = epub_entries({"one.xhtml": "<p>The only chapter.</p>"})
    package = entries["OPS/package.opf"]
    head, _, rest = package.partition("<spine>")
    return zip_bytes({**entries, "OPS/package.opf": head + rest.partition("</spine>")[2]})


def _without_document() -> bytes:
    entries = docx_entries(docx_paragraph("Nobody reads this."))
    del entries["word/document.xml"]
    return zip_bytes({**entries, "word/styles.xml": "<styles/>"})


def _page_tree_loop() -> bytes:
    return pdf_from([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"])


BROKEN: Mapping[str, Callable[[], bytes]] = {
    "truncated.pdf": _truncated,
    "encrypted.pdf": lambda: pdf("Secret", _TEXT, password="secret"),
    "images-only.pdf": _images_only,
    "empty.docx": lambda: b"",
    "bomb.docx": _bomb,
    "no-spine.epub": _without_spine,
    "a-web-page.pdf": lambda: html("A page", _TEXT),
    "noise.txt": lambda: random.Random(0).randbytes(20_000),
    "locked": lambda: b"",
    "page-tree-loop.pdf": _page_tree_loop,
}
"""What makes each file, by its name. `locked` is a file that may not be read; where we may read all, half a DOCX."""


def write_broken(folder: Path, number: int) -> str:
    """Write the broken file of this number, from 0, into `folder`; returns its name."""
    name = list(BROKEN)[number % len(BROKEN)]
    data = BROKEN[name]()
    locked = name == "locked" and os.geteuid() != 0
    if name == "locked":
        name, data = ("locked.txt", b"Nobody may read this.") if locked else ("no-document.docx", _without_document())
    path = folder / (name if number < len(BROKEN) else f"{number // len(BROKEN) + 1}-{name}")
    path.write_bytes(data)
    if locked:
        path.chmod(0)
    return path.name
