"""Memory and processor time of a batch by the number of its documents: neither may grow with it.

    python -m benchmarks.batch_memory [--documents 500 5000] [--index bm25] [--characters 1500] [--out NAME]

Makes folders of so many small texts, and runs `readthrough batch run` over each with a scripted model. Prints for each
the peak memory of the process and its children, and the processor time that a document took at the beginning and at
the end of the run. Ends with 1 where the largest folder takes over a fifth more memory than the smallest.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from benchmarks.watching import watch

MOST_GROWTH_RATIO = 1.2
_SCRIPT = "replies: {'.': 'It was at six.'}\n"
_QUESTION = "When was the lamp lit in the harbour?"
_WORDS = ("the", "a", "of", "and", "in", "to", "was", "it", "he", "she", "they", "lamp", "harbour", "boat", "night")
_PARTS = ("ba", "ko", "ri", "tem", "sul", "mar", "den", "vo", "lis", "gan", "por", "hel")


def main() -> None:
    """Run, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Memory and time of a batch by the number of its documents.")
    parser.add_argument("--documents", type=int, nargs="+", default=[500, 5_000])
    parser.add_argument("--index", default="bm25")
    parser.add_argument("--characters", type=int, default=1_500)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    counts = sorted(options.documents)
    runs = [run_one(count, options.characters, options.index) for count in counts]
    growth = [round(after["peak_memory_mb"] / before["peak_memory_mb"], 3) for before, after in pairwise(runs)]
    report = {"index": options.index, "characters": options.characters, "runs": runs, "memory_growth": growth}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)
    over = runs[-1]["peak_memory_mb"] / runs[0]["peak_memory_mb"]
    sys.exit(f"{over:.2f} times the memory" if over > MOST_GROWTH_RATIO else 0)


def run_one(count: int, characters: int, index: str) -> dict[str, Any]:
    """A batch over `count` documents, in a home folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_texts(folder / "texts", count, characters)
        (folder / "script.yaml").write_text(_SCRIPT)
        model, home, rows = f"scripted:{folder / 'script.yaml'}", folder / "home", folder / "rows.jsonl"
        given = ["--model", model, "--index", index, "--home", str(home), "--out", str(rows)]
        watched = watch(["batch", "run", str(folder / "texts"), "-q", _QUESTION, *given], folder)
        if watched.code != 0:
            raise SystemExit(f"the batch of {count} ended with {watched.code}:\n{watched.err}")
        finished = _finished(home / "batch.sqlite")
    tenth = max(1, count // 10)
    return {
        "documents": count,
        "peak_memory_mb": round(watched.peak_bytes / 1e6, 1),
        "cpu_ms_a_document": round(1000 * watched.cpu_seconds / count, 1),
        "seconds": round(watched.seconds, 1),
        "ms_a_document_of_first_tenth": round(1000 * (finished[tenth] - finished[0]) / tenth, 1),
        "ms_a_document_of_last_tenth": round(1000 * (finished[-1] - finished[-1 - tenth]) / tenth, 1),
    }


def write_texts(folder: Path, count: int, characters: int, seed: int = 0) -> None:
    """`count` texts of made words, each its own."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        text = f"Text {number}. "
        while len(text) < characters:
            names = ["".join(chance.choices(_PARTS, k=3)) for _ in range(4)]
            sentence = chance.choices([*_WORDS, *names], k=12)
            text += " ".join(sentence).capitalize() + chance.choice([". ", ". ", ".\n\n"])
        (folder / f"{number:06}.txt").write_text(text)


def _finished(table: Path) -> list[float]:
    """When each answer was kept, ascending."""
    db = sqlite3.connect(table)
    try:
        return [when for (when,) in db.execute("SELECT finished FROM results ORDER BY finished")]
    finally:
        db.close()


if __name__ == "__main__":
    main()
