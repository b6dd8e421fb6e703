"""The symbols of source files in the library: what is missing is parsed, in batches that stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from readthrough.documents.languages import GRAMMARS
from readthrough.documents.parsing import parseable
from readthrough.documents.symbols import Symbols, symbols_of
from readthrough.errors import LibraryError
from readthrough.memory import store
from readthrough.memory.database import Database
from readthrough.retrieval.code import records
from readthrough.types import Event

BATCH_DOCUMENTS = 64


def parse_missing(database: Database, documents: Sequence[int], on_event: Callable[[Event], None] | None) -> None:
    """Parse those of the rows `documents` that are source code and have no symbols yet.

    Languages whose grammar is not installed are passed over, and done when it is.
    """
    if not records.missing(database.connection(), documents, GRAMMARS):
        return
    languages = [language for language in GRAMMARS if parseable(language)]
    rows = records.missing(database.connection(), documents, languages)
    for done in range(0, len(rows), BATCH_DOCUMENTS):
        if on_event:
            on_event(Event("parse", done, len(rows), "files"))
        made: list[tuple[int, Symbols]] = []
        for row in rows[done : done + BATCH_DOCUMENTS]:
            try:
                document = store.read_document(database.connection(), row, f"document {row}")
            except LibraryError:
                continue  # damaged, or just taken out: whoever reads it is told
            made.append((row, symbols_of(document.text, document.language) or Symbols()))
        with database.write() as connection:
            records.add(connection, made)
    if rows and on_event:
        on_event(Event("parse", len(rows), len(rows), "files"))
