"""E-mail (EML): the headers that people read, the message, and its attachments, each a section below the subject."""

from __future__ import annotations

import mimetypes
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.policy import default
from pathlib import Path, PurePosixPath

from readthrough.documents.base import LoadLimits
from readthrough.documents.loaders.html import decode_markup
from readthrough.documents.markup import html_to_text
from readthrough.documents.reading import (
    FileLoader,
    decode,
    fingerprint,
    normalise_newlines,
    read_source,
    without_surrogates,
)
from readthrough.errors import DocumentError, InputError
from readthrough.types import Document, Section

HEADERS = ("From", "To", "Cc", "Bcc", "Date", "Subject")
KNOWN_BY = frozenset(("from", "to", "date", "subject", "message-id"))
BODIES = ("text/plain", "text/html")
MOST_DEPTH = 3
"""Messages within messages are read so deep."""
NO_SUBJECT = "(no subject)"
_PARSER = BytesParser(policy=default)
# What the standard library raises on headers that break its rules.
_BAD_HEADER = (MessageError, ValueError, LookupError, TypeError, AttributeError)


class EmlLoader(FileLoader):
    """Reads messages with their attachments, as far as those are documents; the rest is named with its size."""

    suffixes = (".eml",)
    isolated = True

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        try:
            message = _PARSER.parsebytes(data)
            if KNOWN_BY.isdisjoint(key.lower() for key in message.keys()):  # noqa: SIM118 - a message is no mapping
                raise DocumentError("not an e-mail: it has no From, To, Date or Subject", path=name)
            writer = _Writer(self.limits, name)
            writer.message(message, (), 1)
        except RecursionError as error:
            raise DocumentError("its parts are nested too deeply", path=name) from error
        text, sections = writer.finish()
        return Document(fingerprint(data), name, text, "eml", sections=sections)


class _Writer:
    """Collects the text of a message and of what is attached, and where each begins."""

    def __init__(self, limits: LoadLimits, name: str) -> None:
        self._limits = limits
        self._name = name
        self._parts: list[str] = []
        self._starts: list[tuple[int, tuple[str, ...]]] = []
        self._chars = 0

    def message(self, message: Message, around: tuple[str, ...], depth: int) -> None:
        """Write one message; `around` are the titles of those that it is attached to."""
        headers = {header: value for header in HEADERS if (value := _header(message, header))}
        place = (*around, headers.get("Subject", NO_SUBJECT))
        self._begin(place)
        self._write("\n".join(f"{header}: {value}" for header, value in headers.items()) + "\n\n")
        attached: list[Message] = []
        for part, is_body in _parts_of(message):
            if is_body:
                self._write(f"{_body(part, self._name).strip()}\n\n")
            else:
                attached.append(part)
        for number, part in enumerate(attached, 1):
            self._attachment(part, (*place, _file_name(part) or f"Attachment {number}"), depth)

    def finish(self) -> tuple[str, tuple[Section, ...]]:
        """The text and its sections."""
        text = "".join(self._parts).rstrip("\n")
        ends = [min(start, len(text)) for start, _ in (*self._starts[1:], (len(text), ()))]
        spans = zip(self._starts, ends, strict=True)
        return text, tuple(Section(path, start, end) for (start, path), end in spans if start < end)

    def _attachment(self, part: Message, place: tuple[str, ...], depth: int) -> None:
        self._begin(place)
        if part.get_content_type() == "message/rfc822" and (inner := _children(part)):
            self._write(f"Attached message: {place[-1]}\n\n")
            if depth < MOST_DEPTH:
                self.message(inner[0], place[:-1], depth + 1)
            else:
                self._write("[not read: messages are nested too deeply]\n\n")
            return
        data = _payload(part)
        title = f"Attachment: {place[-1]} ({part.get_content_type()}, {len(data):,} bytes)"
        try:
            document = _read(data, place[-1], part.get_content_type(), self._limits)
        except InputError as error:
            self._write(f"{title}\n[not read: {error.message}]\n\n")
            return
        self._write(f"{title}\n\n")
        start = self._chars
        for section in document.sections:
            self._begin((*place, *section.path), start + section.start)
            if section.end < len(document.text):
                self._begin(place, start + section.end)
        self._write(f"{document.text}\n\n")

    def _begin(self, place: tuple[str, ...], start: int | None = None) -> None:
        """A section begins at `start`, or here; of two at one place the later one counts."""
        start = self._chars if start is None else start
        if self._starts and self._starts[-1][0] == start:
            self._starts.pop()
        self._starts.append((start, place))

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._chars += len(text)
        if self._chars > self._limits.archive_bytes:
            raise DocumentError(f"unpacks to more than {self._limits.archive_bytes:,} characters", path=self._name)


def _parts_of(part: Message, bodies: bool = True) -> Iterator[tuple[Message, bool]]:
    """The leaves of a message in order, each with whether it is the message itself rather than an attachment.

    Of several forms of one text the first in the order of `BODIES` is yielded, and what is attached to the others.
    """
    children = _children(part)
    if part.get_content_maintype() != "multipart" or not children:
        is_file = part.get_content_disposition() == "attachment" or bool(_file_name(part))
        is_body = part.get_content_type() in BODIES and not is_file
        if bodies or not is_body:
            yield part, is_body
    elif part.get_content_subtype() == "alternative" and bodies:
        chosen = _best_form(children)
        for child in children:
            yield from _parts_of(child, child is chosen)
    else:
        for child in children:
            yield from _parts_of(child, bodies)


def _children(part: Message) -> list[Message]:
    """The parts that a part consists of; none where it is a leaf."""
    payload = part.get_payload()
    return [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []


def _best_form(forms: list[Message]) -> Message:
    """The form of a text that needs least to be read: the first that is plain text, or else HTML, or else the last."""
    for wanted in BODIES:
        for form in forms:
            if any(leaf.get_content_type() == wanted and _payload(leaf).strip() for leaf in form.walk()):
                return form
    return forms[-1]


def _header(message: Message, header: str) -> str:
    """A header on one line, decoded; as it stands where it breaks the rules.

    Not as the standard library parses it: of an address that it cannot parse nothing would be left.
    """
    shown = [str(value) for key, value in message.raw_items() if key.lower() == header.lower()]
    with suppress(*_BAD_HEADER):
        plain = [value.encode("ascii", "surrogateescape").decode("utf-8") for value in shown]
        shown = [str(make_header(decode_header(" ".join(value.split())))) for value in plain]
    return without_surrogates(" ".join(", ".join(shown).split()))


def _file_name(part: Message) -> str:
    """The name of an attached file, of an attached message its subject; empty where there is none."""
    try:
        name = part.get_filename() or ""
        if not name and part.get_content_type() == "message/rfc822" and (inner := _children(part)):
            name = _header(inner[0], "Subject")
    except _BAD_HEADER:
        return ""
    return " ".join(without_surrogates(name).replace("\0", "").split())


def _payload(part: Message) -> bytes:
    """The bytes of a leaf; of reports that consist of headers, these."""
    if children := _children(part):
        blocks = ["\n".join(f"{key}: {value}" for key, value in child.raw_items()) for child in children]
        return "\n\n".join(blocks).encode("utf-8", "surrogateescape")
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _body(part: Message, name: str) -> str:
    """The text of the message; HTML as a reader sees it."""
    data = _payload(part)
    if not data.strip():
        return ""
    charset = part.get_content_charset()
    try:
        source = normalise_newlines(data.decode(charset or "utf-8"))
    except (LookupError, UnicodeError):  # an unknown charset, or one that is not the true one
        reading = decode_markup if part.get_content_type() == "text/html" else decode
        source, _ = reading(data, name, None)
    text = html_to_text(source)[0] if part.get_content_type() == "text/html" else source
    return without_surrogates(text)


def _read(data: bytes, file_name: str, media_type: str, limits: LoadLimits) -> Document:
    """An attached file as a document.

    Raises:
        InputError: it is none, or cannot be read.
    """
    from readthrough.documents.load import load_within

    suffix = PurePosixPath(file_name).suffix or mimetypes.guess_extension(media_type) or ""
    if suffix.lower() in EmlLoader.suffixes:
        raise DocumentError("a message in a file of its own", hint="save it beside this one")
    with tempfile.TemporaryDirectory(prefix="readthrough-") as folder:
        path = Path(folder) / f"attachment{suffix if suffix.isascii() and suffix[1:].isalnum() else ''}"
        path.write_bytes(data)
        return load_within(path, file_name, limits)
