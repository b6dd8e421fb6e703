"""EPUB and Office files are zip archives of XML: bombs, escapes and entities are refused, cheaply."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.base import DEFAULT_LIMITS, LoadLimits
from readthrough.documents.load import load
from readthrough.errors import DocumentError
from tests.document_samples import (
    docx_entries,
    docx_paragraph,
    epub_entries,
    many_entries_zip,
    pptx_entries,
    relation_entry,
    xlsx_entries,
    zip_bytes,
)

LOADERS = {
    ".docx": "readthrough.documents.loaders.docx:DocxLoader",
    ".epub": "readthrough.documents.loaders.epub:EpubLoader",
    ".pptx": "readthrough.documents.loaders.pptx:PptxLoader",
    ".xlsx": "readthrough.documents.loaders.xlsx:XlsxLoader",
}
PEAK_BYTES = 300_000_000


def ask_worker(path: Path) -> dict[str, Any]:
    """What a worker answers for this file, with the most memory that it had."""
    request = {"loader": LOADERS[path.suffix], "path": str(path), "name": path.name, "encoding": None}
    request["limits"] = asdict(DEFAULT_LIMITS)
    command = [sys.executable, "-m", "readthrough.documents.worker"]
    finished = subprocess.run(command, input=json.dumps(request).encode() + b"\n", capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(finished.stdout[8:])
    return answer


def overlapping_zip() -> bytes:
    """Two central entries of one local file: the trick of the better zip bombs."""
    data = zip_bytes({"word/document.xml": "x" * 1000, "word/b.xml": "y" * 1000}, zipfile.ZIP_STORED)
    start = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    return data[: start + 42] + struct.pack("<L", 0) + data[start + 46 :]


def lying_zip() -> bytes:
    """An entry that says it is ten bytes long and unpacks to a hundred million."""
    data = zip_bytes(docx_entries("x" * 100_000_000))
    return data.replace(
        struct.pack("<L", len(docx_entries("")["word/document.xml"]) + 100_000_000), struct.pack("<L", 10)
    )


def bombs() -> dict[str, tuple[str, bytes, str]]:
    paragraphs = docx_paragraph("a" * 50) * 3_000_000
    return {
        "dense": ("a.docx", zip_bytes(docx_entries("a" * 150_000_000)), "zip bomb: unpacks to more than 100 times"),
        "large": ("b.docx", zip_bytes(docx_entries(paragraphs)), "zip bomb: unpacks to more than"),
        "entries": ("c.docx", many_entries_zip(1_000_000), "zip bomb: more than 20,000 entries"),
        "overlap": ("d.docx", overlapping_zip(), "zip bomb: .* overlaps"),
        "lying": ("e.docx", lying_zip(), "broken"),
        "epub": ("f.epub", zip_bytes(epub_entries({"a.xhtml": "a" * 150_000_000})), "zip bomb: unpacks"),
        "slides": ("g.pptx", zip_bytes(pptx_entries("a" * 150_000_000)), "zip bomb: unpacks"),
        "rows": ("h.xlsx", zip_bytes(xlsx_entries("<row><c><v>1</v></c></row>" * 6_000_000)), "zip bomb: unpacks"),
        "strings": ("i.xlsx", zip_bytes(xlsx_entries("", strings=("a" * 150_000_000,))), "zip bomb: unpacks"),
    }


def test_bombs_are_refused_with_little_memory_in_little_time(tmp_path: Path) -> None:
    for file_name, data, reason in bombs().values():
        path = tmp_path / file_name
        path.write_bytes(data)
        started = time.monotonic()
        answer = ask_worker(path)
        assert answer["error"]["type"] == "DocumentError", file_name
        with pytest.raises(DocumentError, match=reason):
            raise DocumentError(answer["error"]["message"])
        assert answer["peak_bytes"] < PEAK_BYTES, f"{file_name}: {answer['peak_bytes']:,}"
        assert time.monotonic() - started < 10


def test_unpacking_is_counted_over_all_entries() -> None:
    data = zip_bytes({"a": os.urandom(600), "b": os.urandom(600)})
    archive = Archive(data, "x.zip", LoadLimits(archive_bytes=1200))
    assert len(archive.read("a") + archive.read("b")) == 1200
    with pytest.raises(DocumentError, match="zip bomb"):
        archive.read("a")


ESCAPES = ["../../outside.xhtml", "/etc/passwd", "a/../../b", "..\\b", "C:/b"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("suffix", [".epub", ".docx", ".pptx", ".xlsx"])
def test_entries_that_point_outside_are_refused(name: str, suffix: str, tmp_path: Path) -> None:
    entries = {
        ".epub": epub_entries({"a.xhtml": "<p>Text</p>"}),
        ".docx": docx_entries(docx_paragraph("Text")),
        ".pptx": pptx_entries("Text"),
        ".xlsx": xlsx_entries("<row><c><v>1</v></c></row>"),
    }[suffix]
    path = tmp_path / f"escape{suffix}"
    path.write_bytes(zip_bytes({**entries, name: "outside"}))
    with pytest.raises(DocumentError, match="unsafe: the entry"):
        load(path)


def test_symbolic_links_in_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.epub"
    path.write_bytes(zip_bytes(epub_entries({"a.xhtml": "<p>Text</p>"})))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("OPS/link.xhtml")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DocumentError, match="symbolic link"):
        load(path)


@pytest.mark.parametrize("href", ["../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd"])
def test_a_spine_that_points_outside_reads_nothing(href: str, tmp_path: Path) -> None:
    entries = epub_entries({"a.xhtml": "<p>Text</p>"})
    entries["OPS/package.opf"] = entries["OPS/package.opf"].replace("a.xhtml", href)
    (tmp_path / "spine.epub").write_bytes(zip_bytes(entries))
    with pytest.raises(DocumentError, match="missing"):
        load(tmp_path / "spine.epub")


@pytest.mark.parametrize(
    "target", ["../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x"]
)
def test_relations_that_point_outside_read_nothing(target: str, tmp_path: Path) -> None:
    slides = {**pptx_entries("Text"), "ppt/_rels/presentation.xml.rels": relation_entry({target: "slide"})}
    sheets = {**xlsx_entries("<row/>"), "xl/_rels/workbook.xml.rels": relation_entry({target: "worksheet"})}
    for name, entries in (("a.pptx", slides), ("a.xlsx", sheets)):
        (tmp_path / name).write_bytes(zip_bytes(entries))
        with pytest.raises(DocumentError, match="is missing"):
            load(tmp_path / name)


@pytest.fixture
def listener() -> Any:
    """A server on this machine that remembers whether anyone connected."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    connections: list[Any] = []
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            try:
                connections.append(server.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1], connections
    stop.set()
    thread.join()
    server.close()


def hostile_prologs(secret: Path, port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/x.dtd"
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return {
        "file": f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>',
        "network": f'<!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]>',
        "external DTD": f'<!DOCTYPE x SYSTEM "{url}">',
        "parameter entity": f'<!DOCTYPE x [<!ENTITY % p SYSTEM "{url}"> %p;<!ENTITY e "x">]>',
        "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}<!ENTITY e "&l9;">]>',
    }


@pytest.mark.parametrize("case", ["file", "network", "external DTD", "parameter entity", "billion laughs"])
def test_entities_read_no_file_and_open_no_socket(case: str, listener: Any, tmp_path: Path) -> None:
    port, connections = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    prolog = hostile_prologs(secret, port)[case]
    entity = "" if case == "external DTD" else "&e;"
    book = epub_entries({"a.xhtml": f"<p>Text {entity}</p>"})
    book["OPS/a.xhtml"] = '<?xml version="1.0"?>' + prolog + book["OPS/a.xhtml"]
    package = dict(book)
    package["OPS/package.opf"] = prolog + package["OPS/package.opf"].replace("<spine>", f"<spine>{entity}")
    files = {
        "a.docx": zip_bytes(docx_entries(docx_paragraph(f"Text {entity}"), prolog)),
        "a.pptx": zip_bytes(pptx_entries(f"Text {entity}", prolog)),
        "a.xlsx": zip_bytes(xlsx_entries(f"<row><c t='str'><v>Text {entity}</v></c></row>", prolog)),
        "a.epub": zip_bytes(book),
        "b.epub": zip_bytes(package),
        "a.xml": f"{prolog}<x>Text {entity}</x>".encode(),
        "a.svg": f"{prolog}<svg><text>Text {entity}</text></svg>".encode(),
        "a.html": f"{prolog}<html><body>Text {entity}</body></html>".encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        started = time.monotonic()
        try:
            text = load(tmp_path / name).text
        except DocumentError as error:
            text = error.message
        assert "SECRET" not in text, name
        assert text.count("ha") < 30, name
        assert time.monotonic() - started < 5, name
    assert connections == []


def test_billion_laughs_take_no_time() -> None:
    prolog = hostile_prologs(Path("/none"), 1)["billion laughs"]
    started = time.monotonic()
    try:
        root = parse_xml(f"{prolog}<x>&e;</x>".encode(), "x.xml")
    except DocumentError as error:
        assert "broken XML" in error.message
    else:
        assert len("".join(root.itertext())) < 1000
    assert time.monotonic() - started < 1
