"""Every store of vectors in the catalogue, unasked, and the files of the library beside them.

PostgreSQL is a real server. Qdrant is the one that QDRANT_URL names (its key in QDRANT_API_KEY), else its client's own
imitation within this process, which has no approximate index and no server's faults.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from readthrough import catalogue
from readthrough.config import load_settings
from readthrough.errors import ConfigError, LibraryError, UnknownNameError
from readthrough.memory.library import Library
from readthrough.memory.vector_files import VectorFiles
from readthrough.opening import open_library
from readthrough.retrieval import base
from readthrough.retrieval.base import Store, VectorStore
from readthrough.spec import build
from tests.library_samples import HashingEmbedder, chunker, write_stories
from tests.postgres import running_postgres

pytestmark = pytest.mark.services
STORES = list(catalogue.PARTS["stores"])
DIMENSIONS = 24
COUNT = 1500


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    made: Store
    if request.param == "pgvector":
        made = build("stores", {"pgvector": {"url": request.getfixturevalue("postgres")}})
    else:
        if find_spec("qdrant_client") is None:
            pytest.skip("qdrant-client is not installed (extra qdrant)")
        made = build("stores", {request.param: {"url": os.environ.get("QDRANT_URL", ":memory:")}})
    return made


@pytest.fixture
def collection(store: Store) -> Iterator[VectorStore]:
    opened = store.open(f"test_{uuid.uuid4().hex[:12]}", DIMENSIONS)
    yield opened
    opened.delete(opened.ids())
    opened.close()


def some(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids with gaps, as high as those of a library whose file was damaged once, and unit vectors in clusters."""
    chance = np.random.default_rng(seed)
    vectors = chance.standard_normal((20, DIMENSIONS))[chance.integers(0, 20, count)]
    vectors = vectors + 0.4 * chance.standard_normal((count, DIMENSIONS))
    ids = 1_700_000_000_000 + np.cumsum(chance.integers(1, 3, count))
    return ids, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nearest(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    scores = vectors @ query
    return sorted(zip(ids.tolist(), scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))[:k]


def assert_same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [chunk for chunk, _ in found] == [chunk for chunk, _ in expected]
    assert np.allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)


def test_search_with_filters_equals_brute_force(collection: VectorStore) -> None:
    ids, vectors = some(COUNT)
    collection.upsert(ids, vectors)
    filters = [np.arange(COUNT), np.arange(100, 400), np.arange(0, COUNT, 7), np.array([5]), np.r_[3:40, 900:1000]]
    for rows in filters:
        for query in some(5, seed=9)[1]:
            assert_same(collection.search(query, 10, ids[rows]), nearest(vectors[rows], ids[rows], query, 10))
    assert collection.search(vectors[0], 5, ids[:0]) == []
    assert len(collection.search(vectors[0], 5, ids[:3])) == 3
    unknown = np.array([1, 2, int(ids[4])])
    assert [chunk for chunk, _ in collection.search(vectors[0], 5, unknown)] == [ids[4]]


def test_upsert_delete_get(collection: VectorStore) -> None:
    ids, vectors = some(COUNT)
    collection.upsert(ids, vectors)
    collection.upsert(ids[:10], vectors[:10])
    assert collection.count() == COUNT
    assert np.array_equal(collection.ids(), ids)
    shuffled = np.random.default_rng(1).permutation(COUNT)[:700]
    assert np.allclose(collection.get(ids[shuffled]), vectors[shuffled], atol=1e-6)
    collection.upsert(ids[3:4], -vectors[3:4])
    assert np.allclose(collection.get(ids[3:4]), -vectors[3:4], atol=1e-6)
    collection.delete(ids[:1000])
    collection.delete(ids[:5])
    assert np.array_equal(collection.ids(), ids[1000:])
    with pytest.raises(KeyError):
        collection.get(ids[999:1001])


def test_above_the_limit_of_exact_search(collection: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "EXACT_CHUNKS", 200)
    ids, vectors = some(COUNT)
    collection.upsert(ids, vectors)
    right = 0
    for rows in (np.arange(COUNT), np.arange(500, 1200)):
        for query in some(20, seed=5)[1]:
            found = collection.search(query, 10, ids[rows])
            expected = nearest(vectors[rows], ids[rows], query, 10)
            assert len(found) == 10
            assert {chunk for chunk, _ in found} <= set(ids[rows].tolist())
            right += len({chunk for chunk, _ in found} & {chunk for chunk, _ in expected})
    assert right / 400 >= 0.95


def test_other_dimensions_are_refused(store: Store) -> None:
    if getattr(store, "url", "") == ":memory:":
        pytest.skip("an imitation within a client is gone with it")
    name = f"test_{uuid.uuid4().hex[:12]}"
    store.open(name, 8).close()
    with pytest.raises(LibraryError, match="8 dimensions, not 9"):
        store.open(name, 9)


def test_a_server_that_is_not_there() -> None:
    for spec in (
        {"pgvector": {"url": "postgresql://nobody@127.0.0.1:9/none"}},
        {"qdrant": {"url": "http://127.0.0.1:9"}},
    ):
        (name,) = spec
        if find_spec({"pgvector": "psycopg", "qdrant": "qdrant_client"}[name]) is None:
            continue
        with pytest.raises(LibraryError, match="is the server running"):
            build("stores", spec).open("test", 4)


def test_passwords_stay_out_of_settings() -> None:
    with pytest.raises(ConfigError, match="PGPASSWORD"):
        build("stores", {"pgvector": {"url": "postgresql://ann:secret@host/books"}})
    with pytest.raises(ConfigError, match="QDRANT_API_KEY"):
        build("stores", {"qdrant": {"url": "http://key:secret@host:6333"}})


def test_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: str) -> None:
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / name)
    opened = open_library(load_settings({"home": tmp_path / "home"}, {}).settings)
    assert isinstance(opened._keeper, VectorFiles)
    opened.close()
    with pytest.raises(UnknownNameError, match="'pgvector'"):
        open_library(load_settings({"home": tmp_path / "home", "store": "pgvectr"}, {}).settings)
    settings = load_settings({"home": tmp_path / "home", "store": {"pgvector": {"url": postgres}}}, {}).settings
    opened = open_library(settings)
    assert opened._keeper.place == postgres
    assert opened.list() == (), "what needs no vectors needs no server"
    assert "store" not in settings.to_keep(), "where vectors are kept is no matter of a run"
    opened.close()


class Kept:
    """A store whose collections outlive `close`, as on a server."""

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self._store = store
        self.opened: dict[str, VectorStore] = {}

    def open(self, collection: str, dimensions: int) -> VectorStore:
        if collection not in self.opened:
            self.opened[collection] = self._store.open(collection, dimensions)
            self.opened[collection].close = lambda: None  # type: ignore[method-assign]
        return self.opened[collection]

    @property
    def only(self) -> VectorStore:
        (made,) = self.opened.values()
        return made


@pytest.fixture
def kept(store: Store) -> Iterator[Kept]:
    made = Kept(store)
    yield made
    for opened in made.opened.values():
        opened.delete(opened.ids())


def library_of(home: Path, store: Store | None, embedder: HashingEmbedder | None = None) -> Library:
    return Library.open(home, embedder=embedder or HashingEmbedder(), chunker=chunker(), store=store)


def chunks_of(library: Library) -> list[int]:
    return [chunk for (chunk,) in library.connection().execute("SELECT id FROM chunks ORDER BY id")]


QUERY = "the keeper of the brass lamp"


def test_a_library_on_a_server_finds_what_files_find(kept: Kept, tmp_path: Path) -> None:
    paths = write_stories(tmp_path / "books", range(6))
    plain = library_of(tmp_path / "plain", None).shelve(paths)
    library = library_of(tmp_path / "home", kept)
    shelf = library.shelve(paths)
    for index in ("vectors", "hybrid"):
        one, other = (each.search(QUERY, 20, index) for each in (plain, shelf))
        assert [hit.chunk for hit in one] == [hit.chunk for hit in other]
    assert list((tmp_path / "home" / "vectors").iterdir()) == []
    assert kept.only.ids().tolist() == chunks_of(library)
    library.delete([shelf.documents[0].id])
    assert kept.only.ids().tolist() == chunks_of(library)
    paths[1].write_text("A new text about a lamp.\n", encoding="utf-8")
    shelf = library.shelve(paths[1:])
    assert kept.only.ids().tolist() == chunks_of(library), "what an edited file replaced is gone"
    ids = shelf.chunk_ids()
    expected = HashingEmbedder().embed([chunk.text for chunk in shelf.get(ids)])
    assert np.allclose(shelf.vectors(ids), expected, atol=1e-6)
    assert library.check() == ()


def test_what_a_crash_or_the_server_lost_is_put_right(kept: Kept, tmp_path: Path) -> None:
    paths = write_stories(tmp_path / "books", range(3))
    library = library_of(tmp_path / "home", kept)
    expected = library.shelve(paths).search(QUERY, 10, "vectors")
    library.close()
    ids = kept.only.ids()
    kept.only.delete(ids[2:7])  # the server lost some
    embedder = HashingEmbedder()
    library = library_of(tmp_path / "home", kept, embedder)
    assert library.shelve(paths).search(QUERY, 10, "vectors") == expected
    assert embedder.embedded == 6, "five chunks and the query"
    library.close()
    kept.only.upsert(ids[-1:] + np.arange(1, 4), np.eye(3, 64, dtype=np.float32))  # written, never entered
    library = library_of(tmp_path / "home", kept)
    assert library.shelve(paths).search(QUERY, 10, "vectors") == expected
    assert np.array_equal(kept.only.ids(), ids)


def test_from_files_to_a_server_and_back(kept: Kept, tmp_path: Path) -> None:
    paths = write_stories(tmp_path / "books", range(3))
    found = []
    for store in (None, kept, None, kept):
        library = library_of(tmp_path / "home", store)
        found.append(library.shelve(paths).search(QUERY, 10, "vectors"))
        assert library.check() == ()
        library.close()
    assert [[hit.chunk for hit in hits] for hits in found] == [[hit.chunk for hit in found[0]]] * 4
    assert list((tmp_path / "home" / "vectors").iterdir()) == []


def test_postgres_restarted_between_two_searches(postgres: str) -> None:
    import psycopg

    collection = build("stores", {"pgvector": {"url": postgres}}).open("test_restarted", 2)
    collection.upsert(np.array([7]), np.array([[1.0, 0.0]], dtype=np.float32))
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(0.2)
        assert collection.search(np.array([1.0, 0.0]), 1, np.array([7])) == [(7, 1.0)]
    collection.close()
    assert collection.count() == 1, "and it opens again after it was closed"
    collection.close()


def test_two_at_once_on_one_server(postgres: str, tmp_path: Path) -> None:
    """Two libraries in one home, as two processes have them: each sees what the other has added and taken out."""
    store = build("stores", {"pgvector": {"url": postgres}})
    paths = write_stories(tmp_path / "books", range(8))
    one, other = library_of(tmp_path / "home", store), library_of(tmp_path / "home", store)
    wrong: list[BaseException] = []

    def work(library: Library, mine: list[Path]) -> None:
        try:
            for path in mine:
                shelf = library.shelve([path])
                assert len(shelf.search(QUERY, 100, "vectors")) == len(shelf.chunk_ids())
        except Exception as error:  # noqa: BLE001 (whatever it is, the test must fail)
            wrong.append(error)

    threads = [
        threading.Thread(target=work, args=(one, paths)),
        threading.Thread(target=work, args=(other, paths[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    collection = store.open(one._keeper._name(), 64)  # type: ignore[attr-defined]
    assert collection.ids().tolist() == chunks_of(one)
    other.delete([holding.id for holding in other.list()][:3])
    assert collection.ids().tolist() == chunks_of(one)
    kept = [Path(holding.paths[0]) for holding in one.list()]
    assert len(one.shelve(kept).search(QUERY, 100, "vectors")) == len(chunks_of(one))
    for library in (one, other):
        library.close()
    collection.delete(collection.ids())
    collection.close()
