"""Approximate indexes: the rule, and what each kind finds."""

from __future__ import annotations

import numpy as np
import pytest

from readthrough.retrieval import approximate, segments
from readthrough.retrieval.approximate import Approximation, build, kind_for, training_chunks
from readthrough.types import Event

COUNT, DIMENSIONS = 8_000, 48


@pytest.mark.parametrize(
    ("count", "dimensions", "kind"),
    [
        (0, 384, None),
        (50_000, 384, None),
        (50_001, 384, "HNSW32,SQ8"),
        (200_001, 384, "IVF1024,SQ8"),
        (1_000_000, 384, "IVF2048,SQ8"),
        (2_000_001, 384, "IVF2048,PQ96np"),
        (10_000_000, 1024, "IVF8192,PQ256np"),
        (10_000_000, 30, "IVF8192,SQ8"),
    ],
)
def test_the_rule(count: int, dimensions: int, kind: str | None) -> None:
    assert kind_for(count, dimensions) == kind


def texts_like(count: int, seed: int) -> np.ndarray:
    """Unit vectors in clusters of many sizes, as those of texts are."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((300, DIMENSIONS))
    made = centres[(300 * chance.random(count) ** 2).astype(int)] + 0.8 * chance.standard_normal((count, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


VECTORS = texts_like(COUNT, 1)
IDS = 10**12 + 3 * np.random.default_rng(2).permutation(COUNT)


@pytest.fixture(scope="module", params=["HNSW32,SQ8", "IVF128,SQ8", "IVF128,PQ12np"])
def near(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Approximation:
    """An index of each kind, written, and mapped as a large one is."""
    kind = request.param
    events: list[Event] = []
    blocks = [(IDS[start : start + 3_000], VECTORS[start : start + 3_000]) for start in range(0, COUNT, 3_000)]
    index = build(kind, VECTORS[: training_chunks(kind)], blocks, COUNT, events.append)
    assert (events[-1].done, events[-1].total) == (COUNT, COUNT)
    folder = tmp_path_factory.mktemp("vectors")
    name = segments.write_index(folder, index)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "MAPPED_BYTES", 1)
        return Approximation(segments.read_segment(folder, name, kind.startswith("IVF")))


@pytest.mark.parametrize("share", [1.0, 0.3, 0.02])
def test_recall_under_filters(near: Approximation, share: float) -> None:
    chance = np.random.default_rng(3)
    order = np.argsort(IDS)
    rows = order[np.sort(chance.choice(COUNT, int(share * COUNT), replace=False))]
    passing = IDS[rows]
    right = 0
    for query in texts_like(50, 4):
        best = passing[np.argsort(-(VECTORS[rows] @ query))[:10]]
        found = near.candidates(query, 10, passing)
        assert set(found.tolist()) <= set(passing.tolist())
        right += len(set(found.tolist()) & set(best.tolist()))
    assert right / 500 >= 0.95


def test_what_it_does_not_cover(near: Approximation) -> None:
    assert len(near.candidates(VECTORS[0], 10, np.array([1, 2, 3]))) == 0
    some = np.sort(np.append(IDS[:3], [1, 2]))
    assert set(near.candidates(VECTORS[0], 10, some).tolist()) <= set(IDS[:3].tolist())
    assert np.array_equal(near.ids, np.sort(IDS))


def test_more_is_asked_for_than_there_is(near: Approximation) -> None:
    assert len(near.candidates(VECTORS[0], 10 * COUNT, near.ids)) <= COUNT


def test_without_a_gpu_nothing_of_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = segments.load_faiss()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert build("IVF4,SQ8", VECTORS[:300], [(IDS[:300], VECTORS[:300])], 300).ntotal == 300
    assert approximate.training_chunks("IVF4,SQ8") == 256
