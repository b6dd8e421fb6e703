"""The extension points of `retrieval`: an Embedder makes vectors, a VectorStore keeps them, an Index finds chunks, a
Reranker orders them.

An index works on chunk ids (the rows of the library) and never on text it does not need. `among` restricts a
search to some of the question's chunks; scores then depend on those chunks alone, not on what else the library
holds. Whatever a filter names (documents, sections, pages, places), it reaches indexes and stores as the ids of
the chunks that pass, so that every one of them obeys every filter in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from readthrough.filters import Filter

if TYPE_CHECKING:
    import sqlite3

    import numpy as np

    from readthrough.models.base import Attention, Choice, Likelihood, Request
    from readthrough.types import Chunk, Cost


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors."""

    name: str
    dimensions: int
    max_tokens: int

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens left out."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors `[len(texts), dimensions]`, float32.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
        """
        ...


Among = Filter | Sequence[str] | None
"""What is searched: what passes a filter, the documents with these ids, or (None) everything."""


@runtime_checkable
class AsksOtherwise(Protocol):
    """An embedder that embeds queries in another way than the texts to find, such as behind another prompt."""

    @property
    def queries(self) -> Embedder:
        """What embeds queries."""
        ...


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder that gives a vector for every token, too."""

    def embed_tokens(self, texts: Sequence[str], task: str = "document") -> list[np.ndarray]:
        """The unit vectors `[tokens, dimensions]`, float32, of each text; `task` is document or query.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
        """
        ...


class TokenBatch(NamedTuple):
    """The token vectors of some chunks: ids `[N]`, how many vectors each has `[N]`, all of them, float32."""

    chunk_ids: np.ndarray
    counts: np.ndarray
    vectors: np.ndarray


@runtime_checkable
class Index(Protocol):
    """Finds chunks for a query. Made as `IndexClass(corpus)`, with its options as keywords after it.

    What it searches is added, replaced and taken out by the library, with the documents.
    """

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best chunks of `among` as (chunk id, score), best first."""
        ...


@runtime_checkable
class VectorStore(Protocol):
    """Keeps unit vectors by chunk id on a server: what `open` of a part in the catalogue's `stores` returns.

    Every method raises LibraryError where the place cannot be reached, or refuses.
    """

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add `vectors` `[N, D]`, float32, of `chunk_ids` `[N]`, int64; a vector that was there is replaced."""
        ...

    def delete(self, chunk_ids: np.ndarray) -> None:
        """Take vectors out; ids that are not there do not matter."""
        ...

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids` (ascending) nearest to a unit `vector` `[D]` as (id, cosine), best first.

        Exact for up to `EXACT_CHUNKS` of them; of more, at least 0.95 of the nearest are found.
        """
        ...

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """The vectors `[N, D]`, float32, in the order of `chunk_ids` `[N]`.

        Raises:
            KeyError: one is not there.
        """
        ...

    def ids(self) -> np.ndarray:
        """Every chunk id there is, ascending, int64."""
        ...

    def count(self) -> int:
        """How many vectors there are."""
        ...

    def close(self) -> None:
        """Let go of the connection. Calling it twice is fine."""
        ...


@runtime_checkable
class Store(Protocol):
    """A server that keeps vectors. A dataclass whose fields are its options."""

    url: str

    def open(self, collection: str, dimensions: int) -> VectorStore:
        """The collection with this name, made where there is none.

        Raises:
            LibraryError: the server cannot be reached, or the collection has other dimensions.
            MissingExtraError: its client is not installed.
        """
        ...


EXACT_CHUNKS = 50_000
"""Up to so many vectors are compared one by one: 384 dimensions take 7 ms on one core."""


class Corpus(Protocol):
    """What an index searches: the chunks of one question's documents. A `Shelf` is one."""

    @property
    def embedder(self) -> Embedder:
        """What makes vectors of texts, loaded on first use."""
        ...

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection to the library, for reading."""
        ...

    def chunk_array(self, among: Among = None) -> np.ndarray:
        """The ids of the chunks that pass `among`, ascending, int64. Not to be changed."""
        ...

    def get(self, chunk_ids: Sequence[int]) -> list[Chunk]:
        """The chunks with their texts, in the order given."""
        ...

    def vectors(self, chunk_ids: Sequence[int]) -> np.ndarray:
        """The unit vectors `[len(chunk_ids), dimensions]` of chunks, float32."""
        ...

    def token_vectors(self, chunk_ids: np.ndarray) -> Iterator[TokenBatch]:
        """The vectors of the tokens of chunks (ascending), some chunks at a time.

        Raises:
            ConfigError: the embedder gives none.
        """
        ...

    def nearest(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids` nearest to a unit `vector` `[dimensions]` by cosine, best first; see `VectorStore`."""
        ...


class Judge(Protocol):
    """The model that rerankers ask: a `ModelBackend`, or a workflow's `Services`, which count what it takes."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `ModelBackend.count_tokens`."""
        ...

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """See `ModelBackend.choose`."""
        ...

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """See `ModelBackend.likelihood`."""
        ...

    def attention_mass(self, request: Request, texts: Sequence[str], asked: str) -> Attention:
        """See `ModelBackend.attention_mass`."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Says how well texts fit a query. A frozen dataclass; its fields are its options."""

    def score(self, judge: Judge, query: str, texts: Sequence[str]) -> list[float]:
        """A score a text, in their order; higher fits better, and only scores of one call compare.

        The texts stand in prompts as they are: those of documents are cleaned of what looks like a prompt's marks.
        """
        ...

    def cost(self, judge: Judge, query: str, texts: Sequence[str]) -> Cost:
        """What `score` asks of the model, before it is asked."""
        ...
