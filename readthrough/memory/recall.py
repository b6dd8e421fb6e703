"""What was asked and answered before, found again by words and by meaning.

Turns and runs are documents of a library of their own, so that the indexes that find passages of a book find them as
well, and nothing of them stands in the library of texts. All of it can be made again from the conversations and the
run log: what is deleted there is taken out here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from readthrough.errors import MissingExtraError, WeightsError
from readthrough.memory.conversations import TURN, Turn
from readthrough.memory.library import Library
from readthrough.memory.runs import Run
from readthrough.memory.shelf import Shelf
from readthrough.retrieval.base import Embedder
from readthrough.types import Document

FOLDER = "recall"
"""The folder in the home folder."""

RUN = "run"
"""The kind of the documents that runs are."""

_CHUNKS_A_RUN = 3
"""A long answer is several chunks, each of which may be found."""


class Recall:
    """The library of turns and runs. Close it.

    Attributes:
        index: the index that searches it.
    """

    def __init__(self, home: Path, embedder: Embedder, index: str = "hybrid") -> None:
        """Open the library of the home folder `home`; `index` is that of the texts, and may need no vectors.

        Raises:
            LibraryError: it cannot be read or written.
        """
        self.index = "bm25" if index in ("bm25", "late-interaction") else "hybrid"
        self._library = Library.open(home / FOLDER, embedder=embedder)

    def turns(self, turns: Iterable[Turn]) -> Shelf:
        """The turns that have an answer, on a shelf, each a document."""
        return self._shelf([turn.document for turn in turns if turn.answer is not None])

    def search(self, runs: Sequence[Run], query: str, k: int) -> list[tuple[Run, float]]:
        """The `k` of some runs whose question and answer fit a query best, each with its score, best first.

        By words and by meaning; by words alone where the embedder is not installed.
        """
        named = {document.id: (document, run) for document, run in ((_document(run), run) for run in runs)}
        texts = [document for document, _ in named.values()]
        depth = _CHUNKS_A_RUN * k
        try:
            hits = self._shelf(texts).search(query, depth, self.index)
        except (MissingExtraError, WeightsError):
            self.index = "bm25"
            hits = self._shelf(texts).search(query, depth, self.index)
        best: dict[str, float] = {}
        for hit in hits:
            best.setdefault(hit.chunk.document, hit.score)
        return [(named[identity][1], score) for identity, score in best.items()][:k]

    def keep_runs(self, runs: Iterable[Run]) -> None:
        """Take out every run but these."""
        self._library.keep(RUN, {_document(run).id for run in runs})

    def keep_turns(self, turns: Iterable[Turn]) -> None:
        """Take out every turn but these."""
        self._library.keep(TURN, {turn.document.id for turn in turns})

    def close(self) -> None:
        """Close the files. Calling it twice is fine."""
        self._library.close()

    def _shelf(self, documents: Sequence[Document]) -> Shelf:
        return self._library.shelve_texts(documents, vectors=self.index != "bm25")


def _document(run: Run) -> Document:
    answer = str(run.answer["answer"]) if run.answer is not None else ""
    text = "\n".join(part for part in (run.question, *(run.choices or ()), answer) if part)
    path = f"run:{run.id}"
    return Document(hashlib.sha256(f"{path}\n{text}".encode("utf-8", "surrogatepass")).hexdigest(), path, text, RUN)
