"""From text to the terms that keyword search counts. Index and query go through the same function.

SQLite's own FTS5 tokenisers do the work: words of letters and digits, case and accents folded. They take a run of
Chinese or Japanese for one word, `loadPages` too, and `load_pages` for two, so such text is prepared first. And they
know the endings of English alone: texts in other languages are stemmed by Snowball first (see `tongues`).
"""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

from readthrough.retrieval.tongues import Stemmers

TOKENIZERS = {"words": "unicode61 remove_diacritics 2", "stems": "porter unicode61 remove_diacritics 2"}
"""The analyses of any text by name: words as they stand (names!), and words without their English endings.
Changing one, or `prepare`, needs a migration that indexes again."""

SNOWBALL = "snowball"
"""The analysis of texts in a language of `tongues.STEMMERS`, in place of `stems`: words without their endings, each
with its language before it."""

# Han, kana (with the prolonged sound mark) and Hangul: scripts whose words stand without spaces, or with endings
_UNSPACED = re.compile(
    "[\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
# A word with an underline inside, a capital behind a small letter (`loadPages`) or before two (`HTTPServer`, not
# `PDFs`), or a digit behind a letter (`sha256`, not `1990s`).
_COMPOUND = re.compile(
    r"\b[^\W\d]\w*?(?:(?<=[^\W_])_+[^\W_]|(?<=[a-z0-9])[A-Z]|(?<=[A-Z])[A-Z][a-z]{2}|(?<=[A-Za-z])\d)\w*"
)
_BOUNDARY = re.compile(r"_+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")


def prepare(text: str) -> str:
    """`text` with the terms that FTS5 would not find by itself set apart by spaces.

    As `spaced`; and compound identifiers (`loadPages`, `load_pages`) become themselves in one piece (`loadpages`) and
    their parts.
    """
    text = spaced(text)
    return _COMPOUND.sub(lambda match: " ".join((match.group().replace("_", ""), *parts(match.group()))), text)


def spaced(text: str) -> str:
    """`text` with runs of Chinese, Japanese and Korean as their characters and their overlapping pairs, and wide or
    narrow forms as the usual ones."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    return _UNSPACED.sub(lambda match: f" {_grams(match.group())} ", text)


def parts(identifier: str) -> list[str]:
    """The words that an identifier is made of: `load`, `HTML`, `Pages` and `2` of `load_HTMLPages2`."""
    return [part for part in _BOUNDARY.split(identifier) if part]


def _grams(run: str) -> str:
    pairs = (run[index : index + 2] for index in range(len(run) - 1))
    return " ".join([*run, *pairs])


class Analyzer:
    """Shows the terms that the keyword index makes of a text, by the same tokenisers. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stemmers = Stemmers()
        self._scratch = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statement in (*tables(), *snowball_tables()):
            self._scratch.execute(statement)

    def terms(self, text: str, analysis: str) -> list[str]:
        """The terms of `text` by one analysis, in order, with repeats."""
        rows = self._analyse([prepare(text)], analysis, "SELECT term FROM {}_uses ORDER BY offset")
        return [term for (term,) in rows]

    def stems(self, text: str, language: str) -> list[str]:
        """The terms of `text` in a language of `tongues.STEMMERS`, in order, with repeats."""
        rows = self._analyse(
            [self.stemmed(prepare(text), language)], SNOWBALL, "SELECT term FROM {}_uses ORDER BY offset"
        )
        return [term for (term,) in rows]

    def stemmed(self, prepared: str, language: str) -> str:
        """What the table of the analysis `SNOWBALL` holds for a prepared text."""
        return self._stemmers.stemmed(prepared, language)

    def lengths(self, prepared: Sequence[str]) -> list[int]:
        """How many terms each of the `prepared` texts has (the same by either analysis)."""
        counts = dict(self._analyse(prepared, "words", "SELECT doc, count(*) FROM {}_uses GROUP BY doc"))
        return [counts.get(index, 0) for index in range(len(prepared))]

    def uses(self, prepared: Sequence[str], analysis: str) -> list[tuple[str, int, int]]:
        """How often the `prepared` texts use each of their terms: (term, which text, how often)."""
        return self._analyse(prepared, analysis, "SELECT term, doc, count(*) FROM {}_uses GROUP BY term, doc")

    def _analyse(self, prepared: Sequence[str], analysis: str, select: str) -> list[tuple[Any, ...]]:
        insert = f"INSERT INTO {analysis}(rowid, text) VALUES (?, ?)"
        with self._lock:
            self._scratch.execute("BEGIN")
            try:
                self._scratch.executemany(insert, enumerate(prepared))
                return self._scratch.execute(select.format(analysis)).fetchall()
            finally:
                self._scratch.execute("ROLLBACK")


def tables() -> list[str]:
    """The statements that make the tables of the keyword index.

    For each analysis: a contentless FTS5 table (it keeps the inverted index, not the text) of its name, and
    `<name>_uses`, which shows every place of every term.
    """
    made: list[str] = []
    for name, tokenizer in TOKENIZERS.items():
        made.append(f"CREATE VIRTUAL TABLE {name} USING fts5(text, content='', tokenize='{tokenizer}')")
        made.append(f"CREATE VIRTUAL TABLE {name}_uses USING fts5vocab({name}, 'instance')")
    return made


def snowball_tables() -> list[str]:
    """As `tables`, for the analysis `SNOWBALL`.

    This table keeps its text: what another version of the stemmers has written can then still be taken out.
    """
    return [
        f"CREATE VIRTUAL TABLE {SNOWBALL} USING fts5(text, tokenize='{TOKENIZERS['words']}')",
        f"CREATE VIRTUAL TABLE {SNOWBALL}_uses USING fts5vocab({SNOWBALL}, 'instance')",
    ]
