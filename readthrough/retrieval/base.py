"""The extension points of `retrieval`: an Embedder makes vectors, an Index finds chunks, a Reranker orders them.

An index works on chunk ids (the rows of the library) and never on text it does not need. `among` restricts a
search to the chunks of one question's documents; scores then depend on those chunks alone, not on what else
the library holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

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
    """Finds chunks for a query. Made as `IndexClass(corpus)`, with its options as keywords after it."""

    def search(self, query: str, k: int, among: Sequence[str] | None = None) -> list[tuple[int, float]]:
        """The `k` best chunks as (chunk id, score), best first; `among` names the documents to search."""
        ...


class Corpus(Protocol):
    """What an index searches: the chunks of one question's documents. A `Shelf` is one."""

    embedder: Embedder

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection to the library, for reading."""
        ...

    def chunk_array(self, among: Sequence[str] | None = None) -> np.ndarray:
        """The chunk ids of the documents `among` (None: of all), ascending, int64."""
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
        """The `k` of `chunk_ids` nearest to a unit `vector` `[dimensions]` by cosine, best first."""
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
