"""Vector search in one large library: how long it takes to build, to open and to search, and what it finds.

    readthrough index BOOKS --home HOME
    python -m benchmarks.million_chunks HOME --questions QUESTIONS.jsonl --chunks 1000000 --out million_chunks

The vectors are those of the library in HOME, repeated with noise: to each is added 0.35 times the difference of two
others, so that noise lies where texts differ. They go through the library's own files, with rows of chunks that have
no text. Queries are the questions, embedded, or (without a file) 200 vectors of the library that are left out.

The baseline is the exact scan of the same files, in the same process. Recall is the share of its ten best that the
approximate search finds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import write_results

EMBEDDER = "all-minilm-l6-v2"
NOISE = 0.35
DOCUMENT_CHUNKS = 1_000
BATCH_CHUNKS = 2_000
HELD_OUT = 200
K = 10


def main() -> None:
    """Build the library, search it in a process of its own, print and write the numbers."""
    parser = argparse.ArgumentParser(description="Vector search in one large library.")
    parser.add_argument("home", type=Path, help="a library whose vectors are repeated")
    parser.add_argument("--questions", type=Path, default=None)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=HELD_OUT)
    parser.add_argument("--folder", type=Path, default=None, help="where the large library is made; kept")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    vectors, queries = real(options.home, options.questions, options.queries)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        report: dict[str, Any] = {"chunks": options.chunks, "real_vectors": len(vectors), "queries": len(queries)}
        report |= alone(fill, folder, vectors, options.chunks)
        report |= alone(measure, folder, queries)
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def real(home: Path, questions: Path | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The vectors `[N, D]` of a library, and the queries `[Q, D]`."""
    from readthrough.memory.library import Library

    library = Library.open(home)
    select = "SELECT chunk FROM vectors WHERE embedder = ? ORDER BY chunk"
    ids = np.array(library.connection().execute(select, (EMBEDDER,)).fetchall(), dtype=np.int64)[:, 0]
    vectors = np.unique(library.vectors.get(ids), axis=0)
    np.random.default_rng(0).shuffle(vectors)
    if questions is None:
        return vectors[count:], vectors[:count]
    rows = [json.loads(line)["question"] for line in questions.read_text(encoding="utf-8").splitlines()]
    return vectors, library.embedder.embed(rows[:count])


def alone(work: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """Do `work` in a process of its own, so that its memory is its own; returns what it reports."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(other, *arguments))
    process.start()
    other.close()
    report: dict[str, Any] = mine.recv()
    process.join()
    return report


def fill(pipe: Any, folder: Path, vectors: np.ndarray, count: int) -> None:
    """Enter `count` vectors in batches, as embedding does, then let the library settle."""
    from readthrough.memory.database import Database
    from readthrough.memory.vector_files import VectorFiles

    database = Database(folder / "library.sqlite")
    (folder / "vectors").mkdir(exist_ok=True)
    with database.write() as connection:
        documents = -(-count // DOCUMENT_CHUNKS)
        connection.executemany(
            """INSERT INTO documents (id, loading, kind, characters, text, pages, sections, added, used)
            VALUES (?, '', 'text', 0, '', '[]', '[]', 0, 0)""",
            ((str(number),) for number in range(documents)),
        )
        connection.execute("INSERT INTO splits (document, chunker) SELECT key, '' FROM documents")
        connection.executemany(
            "INSERT INTO chunks (split, position, start, stop) VALUES (?, ?, 0, 0)",
            ((1 + row // DOCUMENT_CHUNKS, row % DOCUMENT_CHUNKS) for row in range(count)),
        )
    keeper = VectorFiles(database, folder / "vectors", EMBEDDER)
    chance = np.random.default_rng(1)
    started = time.perf_counter()
    for start in range(0, count, BATCH_CHUNKS):
        ids = np.arange(start, min(start + BATCH_CHUNKS, count), dtype=np.int64) + 1
        base, one, other = vectors[chance.integers(0, len(vectors), (3, len(ids)))]
        made = base + NOISE * (one - other)
        keeper.upsert(ids, (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32))
    entered = time.perf_counter()
    spent = time.process_time()
    keeper.settle(added=True)
    (kind,) = database.connection().execute("SELECT kind FROM approximations").fetchone() or ("exact",)
    sizes = {path.suffix: 0 for path in folder.rglob("*") if path.is_file()}
    for path in folder.rglob("*"):
        sizes[path.suffix] = sizes.get(path.suffix, 0) + (path.stat().st_size if path.is_file() else 0)
    report = {
        "kind": kind,
        "enter_seconds": round(entered - started, 1),
        "build_seconds": round(time.perf_counter() - entered, 1),
        "build_processor_seconds": round(time.process_time() - spent, 1),
        "build_peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "vector_files_megabytes": sizes.get(".faiss", 0) // 2**20,
        "sqlite_megabytes": sizes.get(".sqlite", 0) // 2**20,
    }
    pipe.send(report)


def measure(pipe: Any, folder: Path, queries: np.ndarray) -> None:
    """Open the library anew, and search it: everything, one half, one document; and everything, exactly."""
    from readthrough.memory.database import Database
    from readthrough.memory.vector_files import VectorFiles
    from readthrough.retrieval import base

    database = Database(folder / "library.sqlite")
    keeper = VectorFiles(database, folder / "vectors", EMBEDDER)
    everything = np.array(database.connection().execute("SELECT id FROM chunks ORDER BY id").fetchall())[:, 0]
    started = time.perf_counter()
    keeper.search(queries[0], K, everything)
    report: dict[str, Any] = {"open_seconds": round(time.perf_counter() - started, 2)}
    filters = {
        "everything": everything,
        "every_other_document": everything[everything // DOCUMENT_CHUNKS % 2 == 0],
        "one_document": everything[everything // DOCUMENT_CHUNKS == 3],
    }
    for name, chunk_ids in filters.items():
        found, quick = timed(keeper, queries, chunk_ids)
        limit, base.EXACT_CHUNKS = base.EXACT_CHUNKS, len(everything)
        best, slow = timed(keeper, queries, chunk_ids)
        base.EXACT_CHUNKS = limit
        right = sum(len(mine & theirs) for mine, theirs in zip(found, best, strict=True))
        report[name] = {
            "chunks": len(chunk_ids),
            **quick,
            f"recall_at_{K}": round(right / sum(len(theirs) for theirs in best), 4),
            "exact_median_ms": slow["median_ms"],
            "times_faster": round(slow["median_ms"] / quick["median_ms"], 1),
        }
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if line.startswith("Rss")}
    report["search_megabytes"] = {"own": memory.get("RssAnon"), "mapped": memory.get("RssFile")}
    pipe.send(report)


def timed(keeper: Any, queries: np.ndarray, chunk_ids: np.ndarray) -> tuple[list[set[int]], dict[str, float]]:
    """What each query finds, and how long it takes: wall time, and the processor's."""
    keeper.search(queries[0], K, chunk_ids)
    found, seconds = [], []
    spent = time.process_time()
    for query in queries:
        started = time.perf_counter()
        hits = keeper.search(query, K, chunk_ids)
        seconds.append(time.perf_counter() - started)
        found.append({chunk for chunk, _ in hits})
    spent = time.process_time() - spent
    return found, {
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "p95_ms": round(1000 * sorted(seconds)[int(0.95 * len(seconds))], 2),
        "processor_ms": round(1000 * spent / len(queries), 2),
    }


if __name__ == "__main__":
    main()
