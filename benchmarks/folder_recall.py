"""Recall of the right passages in a folder, by keywords, by vectors and by both.

    python -m benchmarks.folder_recall DATA_FOLDER/docs/FOLDER DATA_FOLDER/QUESTIONS.jsonl

The questions name their evidence (files of the folder). Prints, for each index, the mean share of a question's
evidence that is among the documents of the best 5, 10 and 20 chunks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.results import write_results

DEPTHS = (5, 10, 20)
INDEXES = ("bm25", "vectors", "hybrid")


def main() -> None:
    """Index the folder in one call, search every question with every index, print the recalls."""
    parser = argparse.ArgumentParser(description="Recall of the right passages in a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    from readthrough.memory.library import Library

    rows = [json.loads(line) for line in options.questions.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("evidence")]
    started = time.perf_counter()
    shelf = Library.open(options.home).shelve([str(options.folder)])
    report: dict[str, Any] = {"documents": len(shelf.documents), "questions": len(rows)}
    report["index_seconds"] = round(time.perf_counter() - started, 1)
    for index in INDEXES:
        report[index] = {f"recall_at_{k}": recall(shelf, rows, index, k) for k in DEPTHS}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def recall(shelf: Any, rows: list[dict[str, Any]], index: str, k: int) -> float:
    """The mean share of a question's evidence files among the documents of its best `k` chunks."""
    paths = {entry.id: Path(entry.path).name for entry in shelf.documents}
    shares = []
    for row in rows:
        wanted = {Path(name).name for name in row["evidence"]}
        found = {paths[hit.chunk.document] for hit in shelf.search(row["question"], k, index)}
        shares.append(len(wanted & found) / len(wanted))
    return round(statistics.fmean(shares), 3)


if __name__ == "__main__":
    main()
