"""Approximate vector search for large libraries: which FAISS index, how it is built, and what it finds.

The index holds codes, not the vectors: it proposes candidates, and whoever keeps the vectors scores these exactly.
The rule, by the number N of vectors (numbers: docs/log.md, "vector search by size"):

    N <= 50,000       none: every vector is compared (exact)
    N <= 200,000      HNSW, 32 links, on codes of 8 bits a dimension
    N <= 2,000,000    IVF, about 2 * sqrt(N) lists, on codes of 8 bits a dimension
    above             IVF on product-quantised codes of 2 bits a dimension (a tenth of a gigabyte a million chunks)

HNSW: Malkov and Yashunin 2018, https://arxiv.org/abs/1603.09320. IVF and product quantisation: Jegou et al. 2011,
https://doi.org/10.1109/TPAMI.2010.57. Both as FAISS has them, https://arxiv.org/abs/2401.08281.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from readthrough.retrieval import base, segments
from readthrough.types import Event

HNSW_CHUNKS = 200_000
IVF_CHUNKS = 2_000_000

LINKS = 32
BUILD_BREADTH = 80
SEARCH_BREADTH = 128
PROBED_SHARE = 32  # one list in so many is searched
FEWEST_PROBED = 32
TRAINING_POINTS = 64  # a list
STEP_CHUNKS = 10_000

FEWEST_CANDIDATES = 100
CODE_CANDIDATES = 4  # a hit that is asked for
PRODUCT_CANDIDATES = 20


def kind_for(count: int, dimensions: int) -> str | None:
    """The FAISS description of the index for `count` vectors by the rule above, None where none is needed."""
    if count <= base.EXACT_CHUNKS:
        return None
    if count <= HNSW_CHUNKS:
        return f"HNSW{LINKS},SQ8"
    lists = 2 ** round(math.log2(2 * math.sqrt(count)))
    codes = f"PQ{dimensions // 4}np" if count > IVF_CHUNKS and dimensions % 4 == 0 else "SQ8"
    return f"IVF{lists},{codes}"


def training_chunks(kind: str) -> int:
    """How many vectors an index of this kind is trained on."""
    return TRAINING_POINTS * int(kind.partition(",")[0][3:]) if kind.startswith("IVF") else STEP_CHUNKS


def build(
    kind: str,
    sample: np.ndarray,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    total: int,
    on_event: Callable[[Event], None] | None = None,
) -> Any:
    """An index of the vectors in `blocks` (ids `[N]`, vectors `[N, D]`), trained on `sample` `[M, D]`.

    With faiss-gpu and a CUDA device, IVF with codes of 8 bits is trained and filled there. `on_event` hears of every
    10,000 vectors.
    """
    faiss = segments.load_faiss()
    on_gpu = kind.startswith("IVF") and kind.endswith("SQ8") and faiss.get_num_gpus() > 0
    index = faiss.IndexIDMap2(_trained(faiss, kind, sample, on_gpu))
    for ids, vectors in blocks:
        for start in range(0, len(ids), STEP_CHUNKS):
            index.add_with_ids(vectors[start : start + STEP_CHUNKS], ids[start : start + STEP_CHUNKS])
            if on_event:
                on_event(Event("index", index.ntotal, total, "vectors"))
    return faiss.index_gpu_to_cpu(index) if on_gpu else index


def _trained(faiss: Any, kind: str, sample: np.ndarray, on_gpu: bool) -> Any:
    index = faiss.index_factory(sample.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    if kind.startswith("HNSW"):
        index.hnsw.efConstruction = BUILD_BREADTH
    else:
        index.cp.max_points_per_centroid = TRAINING_POINTS
        if hasattr(index, "pq"):
            index.pq.cp.max_points_per_centroid = TRAINING_POINTS
    if on_gpu:
        index = faiss.index_cpu_to_gpus_list(index, gpus=[0])
    index.train(sample)
    return index


class Approximation:
    """An opened index. Safe to share by threads.

    Attributes:
        ids: the chunk ids that it covers, ascending; some may be deleted by now.
    """

    def __init__(self, index: Any) -> None:
        faiss = segments.load_faiss()
        own = segments.ids_of(index)
        self._order = np.argsort(own)
        self._own = own
        self.ids: np.ndarray = own[self._order]
        self._keep = index  # it owns what `_inner` shows
        self._inner = faiss.downcast_index(index.index)
        if hasattr(self._inner, "invlists"):
            lists = faiss.downcast_InvertedLists(self._inner.invlists)
            if hasattr(lists, "prefetch_nthread"):  # threads that read a mapped file after the search is over
                lists.prefetch_nthread = 0
        self._passing: tuple[np.ndarray, tuple[Any, float]] | None = None

    def candidates(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> np.ndarray:
        """Some of `chunk_ids` (ascending) among which the `k` nearest to a unit `vector` `[D]` are very likely.

        Fewer than asked for where so few are covered, or found.
        """
        faiss = segments.load_faiss()
        selector, share = self._selector(faiss, chunk_ids)
        if not share:
            return np.empty(0, dtype=np.int64)
        spare = PRODUCT_CANDIDATES if hasattr(self._inner, "pq") else CODE_CANDIDATES
        count = min(max(FEWEST_CANDIDATES, spare * k), len(self._own))
        # The nearest of a part of the chunks lie farther away: as many of that part are looked at as of the whole.
        if hasattr(self._inner, "hnsw"):
            breadth = math.ceil(max(SEARCH_BREADTH, count) / share)
            options = faiss.SearchParametersHNSW(sel=selector, efSearch=breadth)
        else:
            probed = math.ceil(max(FEWEST_PROBED, self._inner.nlist / PROBED_SHARE) / share)
            options = faiss.SearchParametersIVF(sel=selector, nprobe=min(self._inner.nlist, probed))
        query = np.ascontiguousarray(vector[None], dtype=np.float32)
        places = self._inner.search(query, count, params=options)[1][0]
        found: np.ndarray = self._own[places[places >= 0]]
        return found

    def _selector(self, faiss: Any, chunk_ids: np.ndarray) -> tuple[Any, float]:
        """What lets `chunk_ids` alone pass (None: everything passes), and the share of the covered that pass.

        Kept for the array asked with last: the same one comes with every query of a shelf.
        """
        kept = self._passing
        if kept is None or kept[0] is not chunk_ids:
            passing = np.zeros(len(self._own), dtype=bool)
            passing[self._order] = np.isin(self.ids, chunk_ids, assume_unique=True)
            bits = None if passing.all() else np.packbits(passing, bitorder="little")
            selector = None if bits is None else faiss.IDSelectorBitmap(bits)
            kept = self._passing = (chunk_ids, (selector, float(passing.mean())))
        return kept[1]
