"""Vectors in Qdrant: one collection, a chunk's id is its point's id and a field that filters compare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from readthrough.errors import LibraryError, needed
from readthrough.retrieval import base
from readthrough.retrieval.runs import ranges
from readthrough.retrieval.stores.common import refuse_password

IN_PROCESS = ":memory:"
STEP_POINTS = 500
PAGE_POINTS = 10_000
SEARCH_BREADTH = 200
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Qdrant:
    """Vectors in Qdrant.

    Attributes:
        url: of the server; its key comes from QDRANT_API_KEY. `:memory:` is a slow one within this process, for tests.
    """

    url: str = "http://localhost:6333"

    def __post_init__(self) -> None:
        refuse_password(self.url, "set QDRANT_API_KEY")

    def open(self, collection: str, dimensions: int) -> base.VectorStore:
        """The collection `collection`, made where there is none; see `retrieval.base.Store`."""
        return QdrantCollection(self.url, collection, dimensions)


class QdrantCollection:
    """One collection: see `VectorStore`. Safe to share by threads and processes."""

    def __init__(self, url: str, name: str, dimensions: int) -> None:
        self._url = url
        self._name = name
        self._dimensions = dimensions
        self._models, self._client = _connect(url)
        with self._guard():
            if not self._client.collection_exists(name):
                space = self._models.VectorParams(size=dimensions, distance=self._models.Distance.DOT)
                self._client.create_collection(name, vectors_config=space)
                if url != IN_PROCESS:
                    self._client.create_payload_index(name, "chunk", self._models.PayloadSchemaType.INTEGER)
            held = self._client.get_collection(name).config.params.vectors.size
        if held != dimensions:
            raise LibraryError(f"the collection {name} holds vectors of {held} dimensions, not {dimensions}", path=url)

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `VectorStore`."""
        for start in range(0, len(chunk_ids), STEP_POINTS):
            ids = chunk_ids[start : start + STEP_POINTS].tolist()
            points = self._models.Batch(
                ids=ids,
                vectors=vectors[start : start + STEP_POINTS].tolist(),
                payloads=[{"chunk": chunk} for chunk in ids],
            )
            with self._guard():
                self._client.upsert(self._name, points=points, wait=True)

    def delete(self, chunk_ids: np.ndarray) -> None:
        """See `VectorStore`."""
        for start in range(0, len(chunk_ids), PAGE_POINTS):
            doomed = self._models.PointIdsList(points=chunk_ids[start : start + PAGE_POINTS].tolist())
            with self._guard():
                self._client.delete(self._name, points_selector=doomed, wait=True)

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """See `VectorStore`."""
        if not len(chunk_ids):
            return []
        exact = len(chunk_ids) <= base.EXACT_CHUNKS
        options = self._models.SearchParams(exact=exact, hnsw_ef=max(SEARCH_BREADTH, k))
        with self._guard():
            found = self._client.query_points(
                self._name,
                query=vector.tolist(),
                limit=min(k, len(chunk_ids)),
                query_filter=self._models.Filter(must=[self._passing(chunk_ids)]),
                search_params=options,
                with_payload=False,
            )
        return sorted(((point.id, point.score) for point in found.points), key=lambda hit: (-hit[1], hit[0]))

    def _passing(self, chunk_ids: np.ndarray) -> Any:
        """The condition that only `chunk_ids` (ascending) fulfil: by runs, or by ids where most runs are short."""
        runs = ranges(chunk_ids).tolist()
        if len(runs) * 4 > len(chunk_ids):
            return self._models.HasIdCondition(has_id=chunk_ids.tolist())
        span = self._models.Range
        conditions = [self._models.FieldCondition(key="chunk", range=span(gte=first, lte=last)) for first, last in runs]
        return self._models.Filter(should=conditions)

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `VectorStore`."""
        vectors = np.empty((len(chunk_ids), self._dimensions), dtype=np.float32)
        for start in range(0, len(chunk_ids), STEP_POINTS):
            ids = chunk_ids[start : start + STEP_POINTS].tolist()
            with self._guard():
                points = self._client.retrieve(self._name, ids=ids, with_vectors=True, with_payload=False)
            found = {point.id: point.vector for point in points}
            for row, chunk in enumerate(ids, start):
                vectors[row] = found[chunk]
        return vectors

    def ids(self) -> np.ndarray:
        """See `VectorStore`."""
        found: list[int] = []
        offset: Any = None
        while True:
            with self._guard():
                points, offset = self._client.scroll(
                    self._name, limit=PAGE_POINTS, offset=offset, with_payload=False, with_vectors=False
                )
            found += [point.id for point in points]
            if offset is None:
                return np.sort(np.array(found, dtype=np.int64))

    def count(self) -> int:
        """See `VectorStore`."""
        with self._guard():
            return int(self._client.count(self._name, exact=True).count)

    def close(self) -> None:
        """See `VectorStore`."""
        self._client.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        from qdrant_client.http.exceptions import ApiException

        try:
            yield
        except (ApiException, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            hint = "is the server running? README: vectors on a server"
            raise LibraryError(f"Qdrant: {reason}", path=self._url, hint=hint) from error


def _connect(url: str) -> tuple[Any, Any]:
    with needed("qdrant-client", "'readthrough[qdrant]'"):
        from qdrant_client import QdrantClient, models
    if url == IN_PROCESS:
        return models, QdrantClient(url)
    key = os.environ.get("QDRANT_API_KEY")
    return models, QdrantClient(url=url, api_key=key, timeout=TIMEOUT_SECONDS, check_compatibility=False)
