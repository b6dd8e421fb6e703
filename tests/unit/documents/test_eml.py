"""E-mail: headers, the message in its simplest form, and what is attached."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from readthrough.documents.base import LoadLimits
from readthrough.documents.load import load
from readthrough.errors import DocumentError
from readthrough.types import Document
from tests.contracts.test_loaders import check_places
from tests.document_samples import docx_entries, docx_paragraph, encrypted_pdf_bytes, mail, pdf_bytes, zip_bytes


def read(data: bytes | EmailMessage, folder: Path) -> Document:
    (folder / "a.eml").write_bytes(bytes(data))
    document = load(folder / "a.eml")
    check_places(document)
    return document


def test_headers_body_and_attachments(tmp_path: Path) -> None:
    notes = "# Öl\n\nZwei.\n\n## Docht\n\nNeu.\n".encode()
    word = zip_bytes(docx_entries(docx_paragraph("Der Turm")))
    document = read(mail("Größe der Lampe", "Schöne Grüße,\nAnn\n", {"notizen.md": notes, "turm.docx": word}), tmp_path)
    assert document.text == (
        "From: Ann <ann@example.org>\nTo: tom@example.org\nDate: Mon, 23 Nov 2026 13:07:16 +0000\n"
        "Subject: Größe der Lampe\n\nSchöne Grüße,\nAnn\n\n"
        "Attachment: notizen.md (application/octet-stream, 29 bytes)\n\n# Öl\n\nZwei.\n\n## Docht\n\nNeu.\n\n\n"
        f"Attachment: turm.docx (application/octet-stream, {len(word)} bytes)\n\nDer Turm"
    )
    assert [section.title for section in document.sections] == [
        "Größe der Lampe",
        "Größe der Lampe > notizen.md",
        "Größe der Lampe > notizen.md > Öl",
        "Größe der Lampe > notizen.md > Öl > Docht",
        "Größe der Lampe > turm.docx",
    ]
    assert document.section_at(document.text.index("Zwei")) == "Größe der Lampe > notizen.md > Öl"


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    files = {
        "leuchtturm.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "geheim.pdf": encrypted_pdf_bytes(),
        "bomb.docx": zip_bytes(docx_entries("a" * 150_000_000)),
        "leer.txt": b"",
        "../../etc/passwd.pdf": pdf_bytes([["A real page"]]),
        "other.eml": b"Subject: x\n\nbody",
    }
    text = read(mail("Files", "See below.", files), tmp_path).text
    assert "leuchtturm.png (application/octet-stream, 48 bytes)\n[not read: binary file]" in text
    assert "[not read: encrypted: it needs a password]" in text
    assert "[not read: zip bomb: unpacks to more than 100 times its size]" in text
    assert "leer.txt (application/octet-stream, 0 bytes)\n[not read: empty file]" in text
    assert "A real page" in text
    assert "other.eml" in text and "[not read: a message in a file of its own]" in text


def test_plain_text_is_preferred_and_html_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    both = mail("Both", "plain words")
    both.add_alternative("<p>marked <b>words</b></p>", subtype="html")
    assert read(both, tmp_path).text.endswith("\n\nplain words")
    html = EmailMessage()
    html["Subject"] = "HTML"
    html.set_content("<h1>Eins</h1><p>größer &amp; <script>x</script>besser</p>", subtype="html", charset="iso-8859-1")
    assert read(html, tmp_path).text == "Subject: HTML\n\nEins\n\ngrößer & besser"


def test_a_file_attached_to_the_html_form_is_not_lost(tmp_path: Path) -> None:
    source = (
        b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=A\n\n"
        b"--A\nContent-Type: text/plain\n\nplain\n--A\nContent-Type: multipart/mixed; boundary=B\n\n"
        b"--B\nContent-Type: text/html\n\n<p>marked</p>\n--B\nContent-Type: text/plain; name=log.txt\n"
        b"Content-Disposition: attachment\n\nthe log\n--B--\n--A--\n"
    )
    text = read(source, tmp_path).text
    assert "plain" in text and "marked" not in text
    assert "Attachment: log.txt (text/plain, 7 bytes)\n\nthe log" in text


def test_messages_within_messages(tmp_path: Path) -> None:
    message = mail("1", "innermost")
    for number in range(2, 6):
        around = mail(str(number), f"body {number}")
        around.add_attachment(message)
        message = around
    document = read(message, tmp_path)
    assert document.section_at(document.text.index("body 3")) == "5 > 4 > 3"
    assert "innermost" not in document.text
    assert document.text.endswith("[not read: messages are nested too deeply]")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"Subject: =?utf-8?Q?Gr=C3=B6=C3=9Fe?=\n =?iso-2022-jp?B?GyRCRWw1fhsoQg==?=\n\nx", "Subject: Größe東京\n\nx"),
        ("Subject: Größe\n\nKöln".encode(), "Subject: Größe\n\nKöln"),
        ("From: jörg\n\nKöln".encode("latin-1"), "From: j\ufffdrg\n\nKöln"),
        (
            b"Subject: q\nContent-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n68nOxdTMxdo=",
            "Subject: q\n\n",
        ),
        (
            b"Subject: q\nContent-Transfer-Encoding: quoted-printable\n\nK=C3=B6ln=\n am Rhein",
            "Subject: q\n\nKöln am Rhein",
        ),
        (b"Subject: q\nContent-Type: text/plain; charset=x-none\n\nwords", "Subject: q\n\nwords"),
        (b"To: <a@b>, (\nFrom: @@,;<\nSubject:\n folded\n\nx", "From: @@,;<\nTo: <a@b>, (\nSubject: folded\n\nx"),
        (b"Subject: q\nContent-Type: multipart/mixed; boundary=none\n\nno parts", "no parts"),
        (b"Message-ID: <1@x>\n\nonly words", "only words"),
    ],
)
def test_encodings_and_broken_headers(source: bytes, expected: str, tmp_path: Path) -> None:
    assert expected in read(source, tmp_path).text


def test_what_is_no_message(tmp_path: Path) -> None:
    for data in (b"Just some words.\n", b"Key: value\n\nwords"):
        with pytest.raises(DocumentError, match="not an e-mail"):
            read(data, tmp_path)


def test_parts_without_end(tmp_path: Path) -> None:
    head = b"Subject: x\nContent-Type: multipart/mixed; boundary=%d\n\n"
    parts = b"".join(b"--%d\nContent-Type: multipart/mixed; boundary=%d\n\n" % (n, n + 1) for n in range(3_000))
    with pytest.raises(DocumentError, match="nested too deeply|longer than"):
        read(head % 0 + parts, tmp_path)


def test_attachments_that_grow_without_end_are_stopped(tmp_path: Path) -> None:
    word = zip_bytes(docx_entries("".join(docx_paragraph(f"{number} words") for number in range(20_000))))
    message = mail("Many", "x", {f"{number}.docx": word for number in range(8)})
    (tmp_path / "a.eml").write_bytes(bytes(message))
    with pytest.raises(DocumentError, match="unpacks to more than 1,500,000 characters"):
        load(tmp_path / "a.eml", limits=LoadLimits(archive_bytes=1_500_000))
