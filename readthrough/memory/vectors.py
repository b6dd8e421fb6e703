"""The vectors of a library's chunks, wherever they are kept: what is missing is made, what was lost is made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from readthrough.errors import LibraryError
from readthrough.retrieval.base import Embedder
from readthrough.retrieval.embedding import embed_texts
from readthrough.types import Event

BATCH_CHUNKS = 2_000
ATTEMPTS = 3

Result = TypeVar("Result")


class LostVectorsError(Exception):
    """Vectors that were entered are not there, or damaged; their entries are gone, so that they are made again."""


class Keeper(Protocol):
    """Where the vectors of one embedder are kept, and the record of them in the library's SQLite file.

    The ids of the vectors are those of the record, or are made so by `sweep`. Whatever finds that vectors are lost
    takes their entries out and raises LostVectorsError.
    """

    place: str
    on_event: Callable[[Event], None] | None

    def dimensions(self) -> int | None:
        """Of the vectors there are; None where there is none."""
        ...

    def missing(self, chunk_ids: np.ndarray) -> np.ndarray:
        """Those of `chunk_ids` (ascending) that have no vector."""
        ...

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """Keep `vectors` `[N, D]` of `chunk_ids` `[N]`, but for chunks that were deleted in the meantime."""
        ...

    def settle(self, added: bool) -> None:
        """After vectors were asked for, some `added` or none: make searching quick again."""
        ...

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """See `retrieval.base.VectorStore`."""
        ...

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `retrieval.base.VectorStore`."""
        ...

    def sweep(self) -> None:
        """Remove the vectors that no chunk needs, and what a crash has left."""
        ...

    def compact(self) -> None:
        """Give the space of what was taken out back."""
        ...

    def check(self) -> list[str]:
        """Verify everything; what is wrong, one line each, is taken out, to be made again when it is needed."""
        ...

    def size_bytes(self) -> int:
        """What it takes on this machine's disk."""
        ...

    def close(self) -> None:
        """Let go of connections. Calling it twice is fine."""
        ...


class Vectors:
    """Vectors of one embedder for the chunks of a library. Safe to share by threads and processes."""

    def __init__(
        self,
        keeper: Keeper,
        embedder_name: str,
        load_embedder: Callable[[], Embedder],
        texts: Callable[[Sequence[int]], Sequence[str]],
    ) -> None:
        self.keeper = keeper
        self._embedder_name = embedder_name
        self._load_embedder = load_embedder
        self._texts = texts

    def ensure(self, chunk_ids: np.ndarray) -> None:
        """Embed those of `chunk_ids` (ascending) that have no vector; what is done is kept every 2,000 chunks.

        Raises:
            LibraryError: the vectors cannot be kept, or those of the library have other dimensions.
            MissingExtraError: faiss or the embedder's weights are not installed.
        """
        self._repairing(chunk_ids, lambda: None)

    def copy(self, sources: np.ndarray, targets: np.ndarray) -> None:
        """Give `targets` `[N]`, chunks without vectors, those of `sources` `[N]`, chunks with the same texts.

        Of a source that has none nothing is given.
        """
        order = np.argsort(sources)
        sources, targets = sources[order], targets[order]
        try:
            wanted = ~np.isin(sources, self.keeper.missing(sources)) & np.isin(
                targets, self.keeper.missing(np.sort(targets))
            )
            if wanted.any():
                self.keeper.upsert(targets[wanted], self.keeper.get(sources[wanted]))
        except LostVectorsError:
            return  # they are made anew when they are needed

    def nearest(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids` (ascending) nearest to a unit `vector` `[D]` by cosine, best first."""
        if not len(chunk_ids):
            return []

        def search() -> list[tuple[int, float]]:
            self._require_dimensions(len(vector))
            return self.keeper.search(vector, k, chunk_ids)

        return self._repairing(chunk_ids, search)

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """The unit vectors `[N, D]`, float32, of `chunk_ids` `[N]`, in their order."""
        if not len(chunk_ids):
            return np.empty((0, self._load_embedder().dimensions), dtype=np.float32)
        wanted, places = np.unique(chunk_ids, return_inverse=True)
        vectors: np.ndarray = self._repairing(wanted, lambda: self.keeper.get(wanted))[places]
        return vectors

    def _repairing(self, chunk_ids: np.ndarray, work: Callable[[], Result]) -> Result:
        """Do `work` once all of `chunk_ids` have their vectors; again where some turn out to be lost."""
        for _ in range(ATTEMPTS):
            try:
                missing = self.keeper.missing(chunk_ids)
                if len(missing):
                    self._make(missing)
                self.keeper.settle(len(missing) > 0)
                return work()
            except LostVectorsError:
                continue
        raise LibraryError(
            "vectors are damaged or removed as fast as they are written",
            path=self.keeper.place,
            hint="check the disk, and whether another program works in this place",
        )

    def _make(self, missing: np.ndarray) -> None:
        embedder = self._load_embedder()
        self._require_dimensions(embedder.dimensions)
        for start in range(0, len(missing), BATCH_CHUNKS):
            batch = missing[start : start + BATCH_CHUNKS]
            vectors = embed_texts(embedder, self._texts(batch.tolist()), self._progress(start, len(missing)))
            self.keeper.upsert(batch, vectors)

    def _progress(self, done: int, total: int) -> Callable[[Event], None] | None:
        """Counts the events of one batch on from `done`, to the end of all batches."""
        listener = self.keeper.on_event
        if listener is None:
            return None
        return lambda event: listener(Event("embed", min(done + event.done, total), total, "chunks"))

    def _require_dimensions(self, given: int) -> None:
        held, name = self.keeper.dimensions(), self._embedder_name
        if held is not None and held != given:
            raise LibraryError(
                f"the library holds vectors of {name} with {held} dimensions, the embedder gives {given}",
                path=self.keeper.place,
                hint="give the changed embedder another name, or use another folder with --home",
            )
