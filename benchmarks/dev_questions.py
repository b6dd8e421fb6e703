"""Ask every question of a data folder and report what came back.

    python -m benchmarks.dev_questions DATA_FOLDER --model qwen2.5-coder-1.5b-instruct --workflow retrieve

DATA_FOLDER holds `*.jsonl` (one question a row: id, doc, question, answers, choices, type, metric, and evidence
where it is known) and `docs/`. Questions about a document that is not there are left out and counted.
Answers are kept in --answers (JSONL), so that a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from benchmarks.scoring import evidence_scores, interval, score

SHORT_ANSWER_TYPES = ("single_hop", "multi_hop", "multiple_choice", "unanswerable")


def main() -> None:
    """Read the arguments, ask, report."""
    options = arguments()
    rows, missing = questions(options.data, options.types)
    answered = ask_all(rows, options)
    report = summarise(rows, answered)
    report |= {"model": options.model, "workflow": options.workflow, "documents_missing": sorted(missing)}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Ask every question of a data folder.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct")
    parser.add_argument("--workflow", default="retrieve")
    parser.add_argument("--types", nargs="*", default=None, help="question types, all where left out")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of the workflow")
    parser.add_argument("--max-seconds", type=float, default=None, help="the most that one answer may take")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    return parser.parse_args()


def questions(data: Path, types: list[str] | None) -> tuple[list[dict[str, Any]], set[str]]:
    """The rows by document, and the documents that are not there."""
    rows: list[dict[str, Any]] = []
    missing: set[str] = set()
    for file in sorted(data.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if types and row["type"] not in types:
                continue
            if (data / "docs" / row["doc"]).exists():
                rows.append(row)
            else:
                missing.add(row["doc"])
    return sorted(rows, key=lambda row: str(row["doc"])), missing


def ask_all(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The Answer (JSON form) of every row, asking only what `--answers` does not hold yet."""
    import readthrough as rt
    from readthrough.models.open import open_model

    answered = kept_answers(options.answers)
    by_document = defaultdict(list)
    for row in rows:
        if row["id"] not in answered:
            by_document[row["doc"]].append(row)
    settings = dict(pair.split("=", 1) for pair in options.set)
    limits = rt.Limits(seconds=options.max_seconds)
    model = open_model(options.model) if by_document else None
    with options.answers.open("a", encoding="utf-8") as out:
        for document, asked in by_document.items():
            with rt.read(options.data / "docs" / document, model=model, home=options.home) as book:
                for row in asked:
                    answer = ask(book, row, options.workflow, limits, settings)
                    answered[row["id"]] = answer
                    out.write(json.dumps({"id": row["id"], "answer": answer}, ensure_ascii=False) + "\n")
                    out.flush()
                    show(row, answer)
    return answered


def kept_answers(path: Path) -> dict[str, dict[str, Any]]:
    """The answers of an earlier run, by question."""
    if not path.exists():
        return {}
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {kept["id"]: kept["answer"] for kept in lines}


def ask(book: Any, row: dict[str, Any], workflow: str, limits: Any, settings: dict[str, str]) -> dict[str, Any]:
    """The checked answer of a row; a text that this workflow cannot take is an answer that refuses."""
    from readthrough.errors import PromptTooLongError

    try:
        answer: dict[str, Any] = book.ask(
            row["question"], row["choices"], workflow, limits=limits, **settings
        ).to_dict()
    except PromptTooLongError as error:
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "calls": 0, "seconds": 0.0}
        return {"answer": str(error), "abstained": True, "stopped": "does not fit", "evidence": [], "usage": usage}
    check(answer, book)
    return answer


def check(answer: dict[str, Any], book: Any) -> None:
    """Every quote stands in its document as loaded, and the coverage sums to the documents' tokens."""
    ids = {entry.path: entry.id for entry in book.documents}
    for item in answer["evidence"]:
        if book.document(ids[item["document"]]).text[item["start"] : item["end"]] != item["quote"]:
            raise SystemExit(f"a quote that is not in {item['document']}: {item['quote']!r}")
    coverage = dict(answer["coverage"])
    if coverage.pop("tokens") != sum(coverage.values()):
        raise SystemExit(f"coverage does not sum: {answer['coverage']}")


def show(row: dict[str, Any], answer: dict[str, Any]) -> None:
    """One line a question, on standard error."""
    points, seconds = score(row, answer), answer["usage"]["seconds"]
    line = f"{points:.2f} {seconds:6.1f}s {row['type']:<15} {row['id']:<28} {answer['answer'][:60]!r} <- "
    print(line + f"{row['answers'][0][:50]!r}", file=sys.stderr, flush=True)


def summarise(rows: list[dict[str, Any]], answered: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Accuracy by type with its interval, refusals, evidence, seconds."""
    by_type: dict[str, list[float]] = defaultdict(list)
    evidence, seconds, refused, recognised = [], [], [], []
    for row in rows:
        answer = answered[row["id"]]
        by_type[row["type"]].append(score(row, answer))
        (recognised if row["type"] == "unanswerable" else refused).append(float(answer["abstained"]))
        if row["type"] in SHORT_ANSWER_TYPES:
            seconds.append(answer["usage"]["seconds"])
        scored = evidence_scores(row, answer["evidence"])
        if scored is not None and not answer["abstained"]:
            evidence.append(scored)
    accuracy = {}
    for kind, values in sorted(by_type.items()):
        mean, low, high = interval(values)
        accuracy[kind] = {"rows": len(values), "mean": round(mean, 3), "interval_95": [round(low, 3), round(high, 3)]}
    return {
        "accuracy": accuracy,
        "unanswerable_recognised": [int(sum(recognised)), len(recognised)],
        "answerable_refused": [int(sum(refused)), len(refused)],
        "evidence_precision": round(statistics.fmean(p for p, _ in evidence), 3) if evidence else None,
        "evidence_recall": round(statistics.fmean(r for _, r in evidence), 3) if evidence else None,
        "seconds_median_short_answer": round(statistics.median(seconds), 2) if seconds else None,
    }


if __name__ == "__main__":
    main()
