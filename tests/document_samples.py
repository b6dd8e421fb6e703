"""Small real files for the tests of documents: made here, byte by byte where a library would refuse."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OPS/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
XHTML = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf_bytes(pages: Sequence[Sequence[str]], extra: Mapping[str, bytes] | None = None) -> bytes:
    """A PDF with a text layer: `pages` are lists of lines; `extra` are entries of the trailer, with objects' text."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, lines in enumerate(pages):
        shown = "".join(f"({_escaped(line)}) Tj T* " for line in lines)
        resources = "/MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * index} 0 R {resources} >>".encode())
        objects.append(pdf_stream(f"BT /F1 12 Tf 14 TL 72 720 Td {shown}ET".encode()))
    entries = b""
    for key, body in (extra or {}).items():
        objects.append(body)
        entries += f" /{key} {len(objects)} 0 R".encode()
    return pdf_from(objects, entries)


def pdf_stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object's body."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def pdf_from(objects: Iterable[bytes], trailer_entries: bytes = b"") -> bytes:
    """A PDF file of these objects; the first is the catalogue."""
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (len(offsets) + 1, trailer_entries, table)
    return bytes(out)


def scanned_pdf_bytes(pages: Sequence[Sequence[str]], dots_per_inch: int = 200) -> bytes:
    """A PDF of pages that are images of these lines of text."""
    import pypdfium2

    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    with pypdfium2.PdfDocument(pdf_bytes(pages)) as source:
        for page in source:
            bitmap = page.render(scale=dots_per_inch / 72, grayscale=True)
            number, size = len(objects) + 1, (bitmap.width, bitmap.height)
            pixels = bytes(bitmap.buffer)
            rows = (pixels[row * bitmap.stride : row * bitmap.stride + size[0]] for row in range(size[1]))
            entries = b"/Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8" % size
            objects += [
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
                b" /Resources << /XObject << /I %d 0 R >> >> >>" % (number + 1, number + 2),
                pdf_stream(b"612 0 0 792 0 0 cm /I Do"),
                pdf_stream(zlib.compress(b"".join(rows)), b"/Type /XObject /Filter /FlateDecode " + entries),
            ]
    kids = b" ".join(b"%d 0 R" % (3 + 3 * index) for index in range(len(pages)))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages))
    return pdf_from(objects)


def encrypted_pdf_bytes() -> bytes:
    """A PDF whose key the empty password does not give."""
    key = b"<" + b"41" * 32 + b">"
    encryption = b"<< /Filter /Standard /V 1 /R 2 /O %s /U %s /P -4 >>" % (key, key)
    return pdf_bytes([["secret"]], {"Encrypt": encryption}).replace(
        b" >>\nstartxref", b" /ID [<00> <00>] >>\nstartxref"
    )


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def zip_bytes(entries: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of these entries, in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def epub_entries(chapters: Mapping[str, str], **more: str) -> dict[str, str]:
    """The entries of an EPUB: `chapters` maps file names in OPS/ to the content of their bodies."""
    items = "".join(
        f'<item id="c{index}" href="{name}" media-type="application/xhtml+xml"/>' for index, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{index}"/>' for index in range(len(chapters)))
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>{items}{more.get("manifest", "")}'
        f"</manifest><spine>{spine}</spine></package>"
    )
    pages = {f"OPS/{name}": XHTML.format(body) for name, body in chapters.items()}
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/package.opf": package,
        **pages,
    }


def docx_entries(body: str, prolog: str = "") -> dict[str, str]:
    """The entries of a minimal DOCX with this XML in its body."""
    return {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": f'{prolog}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
    }


def docx_paragraph(text: str) -> str:
    """A paragraph of a DOCX as XML."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def relation_entry(targets: Mapping[str, str]) -> str:
    """The relations of a part: r1, r2, ... by the target of each, with the last word of its type."""
    nodes = "".join(
        f'<Relationship Id="r{number}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for number, (target, kind) in enumerate(targets.items(), 1)
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{nodes}</Relationships>'


def pptx_entries(text: str, prolog: str = "") -> dict[str, str]:
    """The entries of a minimal PPTX of one slide with this text, which may be XML."""
    slide = f"<sld><cSld><spTree><sp><txBody><p><r><t>{text}</t></r></p></txBody></sp></spTree></cSld></sld>"
    return {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "ppt/presentation.xml": f'<presentation xmlns:r="{RELATIONS}"><sldIdLst><sldId r:id="r1"/></sldIdLst>'
        "</presentation>",
        "ppt/_rels/presentation.xml.rels": relation_entry({"slides/slide1.xml": "slide"}),
        "ppt/slides/slide1.xml": prolog + slide,
    }


def xlsx_entries(rows: str, prolog: str = "", strings: Sequence[str] = ()) -> dict[str, str]:
    """The entries of a minimal XLSX of one sheet with these rows as XML, and of the strings that they name."""
    items = "".join(f"<si><t>{string}</t></si>" for string in strings)
    return {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "xl/workbook.xml": f'<workbook xmlns:r="{RELATIONS}"><sheets><sheet name="One" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relation_entry(
            {"worksheets/sheet1.xml": "worksheet", "sharedStrings.xml": "sharedStrings"}
        ),
        "xl/worksheets/sheet1.xml": f"{prolog}<worksheet><sheetData>{rows}</sheetData></worksheet>",
        "xl/sharedStrings.xml": f"<sst>{items}</sst>",
    }


def save_docx(path: Path) -> None:
    """A document with headings, paragraphs and a table, written by python-docx."""
    import docx

    document = docx.Document()
    document.add_heading("The Lighthouse", 0)
    document.add_heading("Part One", 1)
    document.add_paragraph("The keeper is named Ann.")
    document.add_heading("The Lamp", 2)
    table = document.add_table(2, 2)
    for index, text in enumerate(("Hour", "Oil", "Six", "Two pints")):
        table.cell(index // 2, index % 2).text = text
    document.add_paragraph("She lit it at six.")
    document.save(str(path))


def save_pptx(path: Path) -> None:
    """Two slides, written by python-pptx: a title with a list and notes; a table, and a text box in a group."""
    import pptx

    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "The Lighthouse"
    slide.placeholders[1].text = "The keeper is named Ann.\nShe lit it at six."
    slide.notes_slide.notes_text_frame.text = "Speak slowly."
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = slide.shapes.add_table(2, 2, 0, 0, 10**6, 10**6).table
    for index, text in enumerate(("Hour", "Oil", "Six", "Two pints")):
        table.cell(index // 2, index % 2).text = text
    slide.shapes.add_group_shape().shapes.add_textbox(0, 0, 10**6, 10**6).text_frame.text = "In a group"
    presentation.save(str(path))


def save_xlsx(path: Path) -> None:
    """Two sheets, written by openpyxl: a table below a title, and a hidden sheet."""
    import openpyxl

    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.title = "Oil"
    for row in (["The Lighthouse"], [], ["Hour", "Keeper", "Pints"], ["six", "The keeper is named Ann.", 2]):
        sheet.append(row)
    sheet.append(["nine", "Bob", 1.5])
    hidden = workbook.create_sheet("Geheim")
    hidden.sheet_state = "hidden"
    hidden["B3"] = "Schlüssel"
    workbook.save(path)


def mail(subject: str, body: str, attachments: Mapping[str, bytes] | None = None) -> EmailMessage:
    """A message with these files attached."""
    message = EmailMessage()
    message["From"], message["To"] = "Ann <ann@example.org>", "tom@example.org"
    message["Date"], message["Subject"] = "Mon, 23 Nov 2026 13:07:16 +0000", subject
    message.set_content(body)
    for name, data in (attachments or {}).items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message


def notebook_cell(source: str, kind: str = "markdown", **more: Any) -> dict[str, Any]:
    """A cell of a notebook."""
    return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **more}


def notebook(cells: Sequence[Mapping[str, Any]]) -> bytes:
    """A notebook of format 4 in Python."""
    metadata = {"language_info": {"name": "python"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}).encode()


def many_entries_zip(count: int) -> bytes:
    """A zip archive of `count` empty entries, built by hand: zipfile would take minutes and gigabytes."""
    names = [b"word/%07d" % index for index in range(count)]
    local = b"".join(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 12, 0) + name for name in names)
    central = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 42 * index) + name
        for index, name in enumerate(names)
    )
    # 16 bits do not hold the count: a reader that trusts it sees fewer entries than there are.
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count % 65536, count % 65536, len(central), len(local), 0)
    return local + central + end


@cache
def long_text() -> str:
    """Half a megabyte of English prose with lists, tables and code: the help topics of Python."""
    from pydoc_data.topics import topics

    return "\n\n".join(f"{name}\n\n{body}" for name, body in topics.items())
