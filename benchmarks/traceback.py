"""Does a trace find the texts that an answer was written from? Sentences with keys and values, planted in a long text.

    python -m benchmarks.traceback FOLDER [--model default] [--answers 100] [--tokens 4000] [--out NAME]

Each text has 2 to 5 planted sentences that the question asks for, or one among four like it. A sentence is one that the
answer was written from where the answer has its value. Precision and recall are those of the causes that
a trace names, 5 at most; the check takes them out of the prompt and scores the answer again, against as many other
sentences. Rows are kept in FOLDER: a run that was stopped goes on where it was. `--method search` traces by the slow
reference; `--workflow memory-agent --option passage_tokens=0` traces through notes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.results import add_rows, rows_of, settle, write_results
from readthrough.api import Book, read
from readthrough.catalogue import find
from readthrough.cli.ask import workflow_options
from readthrough.evaluation.base import Example
from readthrough.evaluation.statistics import interval
from readthrough.evaluation.texts import Texts

K = 5
SETTINGS = ("model", "tokens", "workflow", "option", "method")
TASKS = (
    *((name, needles) for needles in (2, 3, 4, 5) for name in ("niah-multivalue", "niah-multiquery")),
    ("niah-multikey", 4),
)


def main() -> None:
    """Ask and trace what has no row yet, print the report, write the results where asked."""
    options = arguments()
    settings = {name: getattr(options, name) for name in SETTINGS}
    settle(options.folder, settings)
    path = options.folder / "rows.jsonl"
    rows = rows_of(path)
    for key, example in list(examples(options))[: options.answers]:
        if not any(row["key"] == key for row in rows):
            rows.append({"key": key, **traced(example, options)})
            add_rows(path, rows[-1:])
            print(json.dumps({name: value for name, value in rows[-1].items() if name != "causes"}), flush=True)
    from readthrough.agents.tracing.tracing import Tracing

    report = {**settings, **summary(rows[: options.answers], Tracing().least_ratio)}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Precision and recall of traces over planted evidence.")
    parser.add_argument("folder", type=Path, help="where texts, runs and rows are kept")
    parser.add_argument("--model", default="default")
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=4000, help="of a text")
    parser.add_argument("--workflow", default="full-context")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the workflow")
    parser.add_argument("--method", default="auto", choices=("auto", "attention", "search"))
    parser.add_argument("--haystack", type=Path, default=None, help="a text file around the planted sentences")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    return parser.parse_args()


def examples(options: argparse.Namespace) -> Iterator[tuple[str, Example]]:
    """Questions for several values, of one key or of several, or for one value among others; each has a name."""
    from readthrough.models.open import open_model

    made = {"tokens": options.tokens, "haystack": options.haystack, "samples": -(-options.answers // len(TASKS))}
    tasks = [find("tasks", name)(needles=needles, **made) for name, needles in TASKS]
    count_tokens = open_model(options.model).count_tokens
    for sample in range(made["samples"]):
        for task in tasks:
            yield f"{task.name} {task.needles} {sample}", task.example(sample, count_tokens)


def traced(example: Example, options: argparse.Namespace) -> dict[str, Any]:
    """The answer to an example, its causes with whether each was planted, and the check."""
    text = Texts(options.folder).path(example.sources[0])
    with read(text, model=options.model, home=options.folder / "library") as book:
        chosen = {options.workflow: {"abstain_below": 0.0, **workflow_options(options.option)}}
        answer = book.ask(example.question, workflow=chosen)
        used = [said for said, value in zip(example.evidence, example.answers, strict=True) if value in answer.answer]
        row: dict[str, Any] = {"answer": answer.answer, "planted": len(example.evidence), "used": len(used)}
        return {**row, **causes(book, answer.run, used, options.method)} if used else row


def causes(book: Book, run: str, used: list[str], method: str) -> dict[str, Any]:
    """What a trace names: the first five, none left out, each with its score, and which of `used` it is."""
    started, cpu = time.perf_counter(), time.process_time()
    trace = book.trace(run, method=method, k=K)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    found = [evidence.quote for evidence in trace.evidence[:K]]
    checked = trace.written[0].check
    return {
        "causes": [next((at for at, said in enumerate(used) if same(quote, said)), None) for quote in found],
        "named": len(found),
        "hops": max(2 if cause.behind else 1 for cause in trace.written[0].causes),
        "drop": checked.drop if checked else None,
        "random_drop": checked.random_drop if checked else None,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
    }


def same(quote: str, said: str) -> bool:
    """Whether a quote is the sentence, or a part of it, or has it in it."""
    one, other = "".join(quote.split()), "".join(said.split())
    return one in other or other in one


def summary(rows: list[dict[str, Any]], least_ratio: float) -> dict[str, Any]:
    """Precision, recall and drops over the answers that have a planted value."""
    found = [row for row in rows if row["used"]]
    report: dict[str, Any] = {"answers": len(rows), "traced": len(found), "least_ratio": least_ratio}
    if not found:
        return report
    right = [len({cause for cause in row["causes"] if cause is not None}) for row in found]
    drops = [(row["drop"], row["random_drop"] or 0.0) for row in found if row["drop"] is not None]
    return report | {
        "precision_at_5": interval([count / row["named"] for count, row in zip(right, found, strict=True)])._asdict(),
        "recall_at_5": interval([count / row["used"] for count, row in zip(right, found, strict=True)])._asdict(),
        "through_notes": sum(row["hops"] > 1 for row in found),
        "drop_nats": fmean(drop for drop, _ in drops) if drops else None,
        "random_drop_nats": fmean(other for _, other in drops) if drops else None,
        "larger_than_random_ratio": fmean(drop > other for drop, other in drops) if drops else None,
        "median_seconds": median(row["seconds"] for row in found),
        "median_cpu_seconds": median(row["cpu_seconds"] for row in found),
    }


if __name__ == "__main__":
    main()
