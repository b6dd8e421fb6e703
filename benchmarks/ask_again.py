"""Time to the first token of a further question about a text: from memory, and from disk as another process has it.

    python -m benchmarks.ask_again [--model NAME] [--tokens 8192] [--out NAME]

Against reading the text, on the same weights in the same run. "storing" reads the text and writes it to disk too; for
"disk" the file has been taken out of the system's cache, and is found, checked and mapped anew. Times are by the clock
and in CPU time over the number of threads, the best of some rounds each; on a machine that does other things as well,
take the second (it does not count the wait for the disk).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.engine_speed import SENTENCE, measure, rounded
from benchmarks.results import write_results
from readthrough.models.local.stored import prune, stored, stored_bytes

QUESTIONS = ("Who wrote in his book?", "Where did the wind come from?", "What colour was the sea?")
BEFORE = "What is this about?"
LIMIT_BYTES = 1 << 40


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Time to the first token of a further question about a text.")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    from readthrough.models.local.backend import LocalModel

    model = LocalModel(options.model, device="cpu")
    ask(model, SENTENCE, BEFORE)  # the first call of a process warms the machine up
    with tempfile.TemporaryDirectory() as folder:
        report = {"model": options.model, **compare(model, options.tokens, Path(folder))}
    report = rounded(report)
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def compare(model: Any, tokens: int, root: Path) -> dict[str, Any]:
    """The times of every way, and how many times as fast as reading the text they are."""
    text = SENTENCE * (tokens // model.count_tokens([SENTENCE])[0])
    times: dict[str, list[dict[str, float]]] = defaultdict(list)
    replies: dict[str, list[str]] = defaultdict(list)

    def timed(way: str, question: str) -> None:
        found: list[str] = []
        times[way].append(measure(lambda: found.append(ask(model, text, question)), rounds=1))
        replies[way].append(found[0])

    for question in QUESTIONS:
        forget(model)
        timed("cold", question)
        forget(model, root)
        prune(root, 0)
        timed("storing", BEFORE)
        timed("memory", question)
        evict(root)
        forget(model, root)
        timed("disk", question)
    best = {way: {key: min(each[key] for each in all_) for key in all_[0]} for way, all_ in times.items()}
    return {
        "tokens": tokens,
        "bytes": stored_bytes(root),
        "first_token": best,
        "ratio": {way: {key: best["cold"][key] / best[way][key] for key in best[way]} for way in ("memory", "disk")},
        "storing_ratio": {key: best["storing"][key] / best["cold"][key] for key in best["cold"]},
        "same_replies": replies["cold"] == replies["memory"] == replies["disk"],
    }


def ask(model: Any, text: str, question: str) -> str:
    """The first token of an answer."""
    from readthrough.models.base import Request

    reply: str = model.complete([Request.user(f"{text}\n\nQuestion: {question}", max_tokens=1)])[0].text
    return reply


def forget(model: Any, root: Path | None = None) -> None:
    """Nothing in memory, as in a new process; it keeps readings below `root`, or none."""
    model.close()
    model._engine.readings = None
    if root is not None:
        model._engine.keep_on_disk(root, LIMIT_BYTES)


def evict(root: Path) -> None:
    """Take the readings out of the system's cache, so that they come from the disk."""
    for _, _, path in stored(root):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


if __name__ == "__main__":
    main()
