"""How near `estimate` comes to the real time of a run, over workflows, options and questions.

    python -m benchmarks.estimates [--model small] [--runs 20] [--characters 8000] [--out NAME]

Each run is estimated first, then made, each over a part of the book that no run has read before. The first runs of a
workflow are estimated by a calibration, later ones by the runs before them, as it is in use. The library and the log
are new, in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import readthrough as rt
from benchmarks.results import write_results
from examples.demo import write_books
from readthrough.models.open import open_model

KINDS: tuple[dict[str, Any], ...] = (
    {"retrieve": {}},
    {"chain-of-agents": {"window_tokens": 4096, "message_tokens": 256}},
    {"retrieve": {"passage_tokens": 2000}},
    {"memory-agent": {}},
    {"map-reduce": {}},
)
QUESTIONS = (
    "What did God call the light?",
    "Whom did Cain slay?",
    "How old was Methuselah when he died?",
    "How old was Adam when he died?",  # not in this part
    "Why was the city called Babel?",
    "In which city did Lot dwell?",
    "Where did the angel find Hagar?",
    "What became of Lot's wife?",
    "Who was the mother of Isaac?",
    "Who built the ark?",  # not in this part
    "Whose daughter was Rebekah?",
    "What did Esau sell his birthright for?",
    "Where did Cain dwell?",  # not in this part
    "For whom did Jacob serve seven years?",
    "Who stole her father's images?",
    "What did God call the light?",  # not in this part
    "Which daughter of Leah went out to see the daughters of the land?",
    "Where was Rachel buried?",
    "Where did Joseph's brethren feed the flock?",
    "What did the chief butler see in his dream?",
)
"""One for each part of 8,000 characters of Genesis; four of them are not answered there."""


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Estimates against real times.")
    parser.add_argument("--model", default="small")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--characters", type=int, default=8_000, help="how much of Genesis each run reads")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        book = write_books(Path(folder) / "genesis.txt")
        parts = split(book, options.characters, options.runs)
        rows = list(measure(parts, options.model))
    report = {"model": options.model, "characters": options.characters, **summary(rows), "each": rows}
    print(json.dumps({key: value for key, value in report.items() if key != "each"}, indent=2))
    if options.out:
        write_results(options.out, report)


def split(book: Path, characters: int, runs: int) -> list[Path]:
    """The first `runs` parts of a text, each a file."""
    text = book.read_text(encoding="utf-8")
    if len(text) < characters * runs:
        raise SystemExit(f"the text has {len(text)} characters: {runs} parts of {characters} are not in it")
    parts = []
    for number in range(runs):
        part = book.with_name(f"part_{number}.txt")
        part.write_text(text[number * characters : (number + 1) * characters], encoding="utf-8")
        parts.append(part)
    return parts


def measure(parts: list[Path], model: str) -> Iterator[dict[str, Any]]:
    """Estimate and run, the kinds and questions in turn."""
    shared = open_model(model)
    for number, path in enumerate(parts):
        kind, question = KINDS[number % len(KINDS)], QUESTIONS[number % len(QUESTIONS)]
        with rt.read(path, model=shared, home=path.parent / "home", index="bm25", keep_replies=False) as book:
            expected = book.estimate(question, workflow=kind)
            started = time.perf_counter()
            usage = book.ask(question, workflow=kind).usage
            seconds = time.perf_counter() - started
            row = {
                "workflow": kind,
                "expected": asdict(expected),
                "real": {**asdict(usage), "seconds": round(seconds, 2)},
                "error_ratio": round(abs(expected.seconds - seconds) / seconds, 3),
            }
            print(row, flush=True)
            yield row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The median error over all runs, and over those that had runs of their kind before them."""
    errors = [row["error_ratio"] for row in rows]
    later = errors[3 * len(KINDS) :]
    return {
        "runs": len(rows),
        "median_error_ratio": statistics.median(errors),
        "median_error_ratio_after_three_runs": statistics.median(later) if later else None,
        "worst_error_ratio": max(errors),
    }


if __name__ == "__main__":
    main()
