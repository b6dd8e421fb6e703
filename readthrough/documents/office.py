"""What Office files (DOCX, PPTX, XLSX) share: a zip archive of XML parts that name each other by relationships."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.documents.archive import Archive, parse_xml
from readthrough.documents.base import LoadLimits
from readthrough.documents.reading import read_source
from readthrough.errors import DocumentError

if TYPE_CHECKING:
    from lxml.etree import _Element

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# What old files and others of their container hold, and what to save them as; a file may embed the later ones.
OLE_STREAMS = (
    ("EncryptedPackage", "encrypted: it needs a password", "save it without a password"),
    ("__properties_version1.0", "an Outlook message (.msg)", "save it as .eml"),
    ("WordDocument", "an old Word document (.doc)", "save it as .docx"),
    ("PowerPoint Document", "an old PowerPoint presentation (.ppt)", "save it as .pptx"),
    ("Workbook", "an old Excel workbook (.xls)", "save it as .xlsx"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part says of another: how it is related (the last word of its type), and the entry in the archive."""

    kind: str
    target: str


def open_office(path: Path, name: str, limits: LoadLimits) -> tuple[bytes, Archive]:
    """The bytes of an Office file, and its archive.

    Raises:
        DocumentError: it is encrypted, of an older format, or no archive that may be read.
    """
    data = read_source(path, name, limits)
    if data.startswith(OLE_MAGIC):
        for stream, reason, hint in OLE_STREAMS:
            if stream.encode("utf-16-le") in data:
                raise DocumentError(reason, path=name, hint=hint)
        raise DocumentError("an old Office file", path=name, hint="save it as .docx, .xlsx or .pptx")
    return data, Archive(data, name, limits)


def main_part(archive: Archive, default: str, name: str) -> str:
    """The entry of the main part, as the package's relationships name it, in the folder of its usual name `default`.

    Raises:
        DocumentError: there is none.
    """
    for relation in relations(archive, "", name).values():
        same_folder = posixpath.dirname(relation.target) == posixpath.dirname(default)
        if relation.kind == "officeDocument" and same_folder and relation.target in archive:
            return relation.target
    if default not in archive:
        kinds = {"word": "a Word document", "xl": "an Excel workbook", "ppt": "a PowerPoint presentation"}
        what = kinds[posixpath.dirname(default)]
        raise DocumentError(f"not {what}: {default} is missing", path=name)
    return default


def relations(archive: Archive, part: str, name: str) -> dict[str, Relation]:
    """The relations of a part (of the package itself where it is empty) by their ids, those within the archive."""
    folder, file = posixpath.split(part)
    entry = posixpath.join(folder, "_rels", f"{file}.rels")
    if entry not in archive:
        return {}
    found: dict[str, Relation] = {}
    for node in parse_xml(archive.read(entry), name):
        target = posixpath.normpath(posixpath.join("/", folder, node.get("Target", ""))).lstrip("/")
        if node.get("TargetMode") != "External" and target in archive:
            found[node.get("Id", "")] = Relation(node.get("Type", "").rpartition("/")[2], target)
    return found


def tag(node: _Element) -> str:
    """The local name of an element; empty for comments and processing instructions."""
    return str(node.tag).rpartition("}")[2] if isinstance(node.tag, str) else ""


def attribute(node: _Element, local: str) -> str:
    """The full name of an attribute in the namespace of its element."""
    namespace, brace, _ = str(node.tag).rpartition("}")
    return f"{namespace}{brace}{local}"


def relation_id(node: _Element, local: str = "id") -> str:
    """The attribute of `node` that names a relation; files of the strict kind have another namespace for it."""
    return next((str(value) for key, value in node.attrib.items() if str(key).endswith(f"relationships}}{local}")), "")
