"""One command over a folder of mixed documents: those that can be read are answered, the others reported.

    python -m benchmarks.batch_folder FOLDER [--model small] [--index hybrid] [--out NAME]

FOLDER is what `benchmarks.mixed_folder` made, with its manifest beside it. Runs `readthrough batch run` with a scripted
model, or another. Checks that every file that can be read has an answer, that every broken one is reported with a
reason, and the exit code, which is 3; where something is wrong it says what, and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.mixed_folder import QUESTION, manifest_of
from benchmarks.results import write_results
from benchmarks.watching import Watched, watch

SCRIPT = "replies: {'.': 'It is not said.'}\n"
PARTIAL = 3


def main() -> None:
    """Run, check, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="A batch over a folder of mixed documents.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--index", default="hybrid")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    manifest = json.loads(manifest_of(options.folder).read_text())["files"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        script = folder / "script.yaml"
        script.write_text(SCRIPT)
        model = f"scripted:{script}" if options.model == "scripted" else options.model
        rows = folder / "rows.jsonl"
        given = ["--model", model, "--index", options.index, "--workers", str(options.workers)]
        command = ["batch", "run", str(options.folder), "-q", QUESTION, "--out", str(rows)]
        watched = watch([*command, *given, "--home", str(folder / "home")], folder)
        if not rows.exists():
            raise SystemExit(f"no results; exit code {watched.code}:\n{watched.err}")
        report, wrong = check(manifest, [json.loads(line) for line in rows.read_text().splitlines()], watched)
    report |= {"model": options.model, "index": options.index}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)
    sys.exit("\n".join(wrong) or 0)


def check(
    manifest: list[dict[str, Any]], rows: list[dict[str, Any]], watched: Watched
) -> tuple[dict[str, Any], list[str]]:
    """What came of the batch, and what of it is wrong, one line each."""
    errors = {row["document"]: row["error"]["message"] for row in rows if row.get("error")}
    answers = {row["document"]: row["answer"] for row in rows if not row.get("error")}
    broken = {file["path"] for file in manifest if file["broken"]}
    whole = {file["path"]: file for file in manifest if not file["broken"]}
    wrong = [f"{path} has no answer: {errors.get(path, 'no row')}" for path in whole if path not in answers]
    wrong += [f"{path} is broken, and not reported" for path in sorted(broken) if not errors.get(path)]
    wrong += [
        f"{path} has {count} rows" for path, count in Counter(row["document"] for row in rows).items() if count > 1
    ]
    if watched.code != PARTIAL:
        wrong.append(f"the exit code is {watched.code}, not {PARTIAL}")
    marks = {path: file["answer"] for path, file in whole.items() if file["answer"]}
    report = {
        "documents": len(manifest),
        "answered": len(answers),
        "by_kind": dict(Counter(whole[path]["kind"] for path in answers if path in whole)),
        "reported": errors,
        "exit_code": watched.code,
        "with_a_shelf_mark": len(marks),
        "shelf_marks_said": sum(mark in answers.get(path, "") for path, mark in marks.items()),
        "seconds": round(watched.seconds, 1),
        "cpu_seconds": round(watched.cpu_seconds, 1),
        "peak_memory_mb": round(watched.peak_bytes / 1e6),
    }
    return report, wrong


if __name__ == "__main__":
    main()
