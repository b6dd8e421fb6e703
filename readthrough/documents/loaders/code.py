"""Source code and structured text, as it stands; definitions are sections where a grammar is installed."""

from __future__ import annotations

from pathlib import Path

from readthrough.documents.languages import LANGUAGES, language_of
from readthrough.documents.reading import FileLoader, decode, fingerprint, read_source
from readthrough.documents.symbols import definition_sections
from readthrough.types import Document


class CodeLoader(FileLoader):
    """Reads source files of the languages in `documents.languages`."""

    suffixes = tuple(LANGUAGES)

    def load(self, path: Path, name: str) -> Document:
        """Read `path`; see `documents.base.Loader`."""
        data = read_source(path, name, self.limits)
        text, encoding = decode(data, name, self.encoding)
        language = language_of(path.name)
        sections = definition_sections(text, language)
        return Document(fingerprint(data), name, text, "code", (), sections, encoding, language)
