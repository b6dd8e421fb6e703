"""The trees of a shelf's documents, in its library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from readthrough.retrieval.trees import records
from readthrough.retrieval.trees.base import Summary, Tree

if TYPE_CHECKING:
    from readthrough.memory.library import Library


class KeptTrees:
    """See `retrieval.trees.base.TreeStore`."""

    def __init__(self, library: Library, chunks: Mapping[str, tuple[int, int]]) -> None:
        """`chunks` has the first chunk id of each document that has chunks, and how many there are."""
        self._library = library
        self._chunks = chunks

    def summaries(self, recipe: str, document_id: str) -> dict[str, Summary]:
        """What was written of a document, or of an older version of it, by key."""
        with self._library.guard():
            split = self._split(document_id)
            return {} if split is None else records.load(self._library.connection(), split, recipe)

    def add(self, recipe: str, document_id: str, made: Iterable[Summary]) -> None:
        """Keep summaries of a document whose tree is being grown."""
        with self._library.write() as connection:
            split = self._split(document_id)
            if split is not None:
                records.add(connection, split, recipe, made)

    def finish(self, recipe: str, document_id: str, tree: Tree) -> None:
        """Keep a tree that is complete; summaries that it does not hold are forgotten."""
        with self._library.write() as connection:
            split = self._split(document_id)
            if split is not None:
                records.finish(connection, split, recipe, tree)

    def load(self, recipe: str) -> dict[str, Tree]:
        """The complete trees of the documents that have one."""
        with self._library.guard():
            splits = {document: split for document in self._chunks if (split := self._split(document)) is not None}
            leaves = {split: self._chunks[document][1] for document, split in splits.items()}
            found = records.complete(self._library.connection(), recipe, leaves)
        return {document: found[split] for document, split in splits.items() if split in found}

    def _split(self, document_id: str) -> int | None:
        """The row of the document's split; None where the document was taken out of the library."""
        select = "SELECT split FROM chunks WHERE id = ?"
        row = self._library.connection().execute(select, (self._chunks[document_id][0],)).fetchone()
        return row[0] if row else None
