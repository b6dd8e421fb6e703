"""What compressed KV costs: many questions about each of some texts, with everything kept and with what a plan keeps.

    python -m benchmarks.kv_quality FOLDER [--plans kvzip int4 ...] [--texts 30] [--questions 10] [--out NAME]

Texts of 8,192 to 16,384 tokens are made by the evaluation's task `shared-context` (key and value, needle, count, two
hops). Every plan answers the same questions about the same texts; `dense` is what the others are compared with, pair by
pair. Replies are kept in FOLDER: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results import add_rows, interval_over_texts, rows_of, settle, write_results
from readthrough.catalogue import find
from readthrough.evaluation.base import Example
from readthrough.evaluation.tasks.made.sharing import SharedContext
from readthrough.models.base import Request

DENSE = "dense"
PLANS: dict[str, Any] = {
    DENSE: None,
    "kvzip": {"keep": {"kvzip": {"budget_ratio": 0.2}}},
    "kvzip-uniform": {"keep": {"kvzip": {"budget_ratio": 0.2, "uniform": True}}},
    "int8": {"store": "int8"},
    "int4": {"store": {"int4": {"group": 64}}},
    "int4-int2": {"store": {"int4": {"group": 64, "value_form": "int2"}}},
    "int2": {"store": "int2"},
    "page-bound": {"decode": {"page-bound": {"budget_tokens": 1024}}},
    "snapkv": {"keep": {"snapkv": {"budget_ratio": 0.25}}},
    "sink-window": {"keep": {"sink-window": {"window_tokens": 2048, "at": "prompt", "renumber": False}}},
}
LENGTHS = (8192, 16384)
REPLY_TOKENS = 24
ASKED = "{text}\n\nAnswer with the answer alone, in a few words.\nQuestion: {question}"


def main() -> None:
    """Ask, print, and write the results where asked."""
    options = arguments()
    settle(options.folder, {"model": options.model, "questions": options.questions})
    replies = answered(options)
    report = {"model": options.model, "texts": options.texts, "questions": options.questions, "tokens": LENGTHS}
    report["plans"] = {plan: summary(rows, replies[DENSE]) for plan, rows in replies.items()}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = asking("What compressed KV costs.", most_texts=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plans", nargs="*", choices=list(PLANS), default=list(PLANS))
    return parser.parse_args()


def asking(description: str, most_texts: int) -> argparse.ArgumentParser:
    """The options of a benchmark that asks the questions of `texts`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="where replies are kept")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--texts", type=int, default=most_texts)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    return parser


def texts(options: argparse.Namespace) -> dict[str, SharedContext]:
    """The task that makes each text and its questions, by the text's name; lengths are spread evenly."""
    low, high = LENGTHS
    found = {}
    for index in range(options.texts):
        tokens = low + (high - low) * index // max(1, options.texts - 1)
        found[f"{index}-{tokens}"] = SharedContext(tokens=tokens, samples=1, seed=index, turns=options.questions)
    return found


def answered(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """By plan a row a question, those of before too. Text by text: what was stopped compares plans all the same."""
    plans = [DENSE, *(name for name in options.plans if name != DENSE)]
    rows = {plan: rows_of(options.folder / f"{plan}.jsonl") for plan in plans}
    wanted = texts(options)
    models: dict[str, Any] = {}
    for name, task in wanted.items():
        for plan in plans:
            if any(row["text"] == name for row in rows[plan]):
                continue
            if plan not in models:
                models[plan] = opened(plan, options)
            new = ask(models[plan], name, list(task.examples(models[plan].count_tokens)))
            rows[plan] += new
            add_rows(options.folder / f"{plan}.jsonl", new)
            score, seconds, size = (
                fmean(row["score"] for row in new),
                new[0]["prefill_seconds"],
                new[0]["kv_bytes"] / 1e6,
            )
            print(f"{plan:15} {name:10} score {score:.2f}  read in {seconds:.0f} s  {size:.0f} MB", file=sys.stderr)
    return {plan: [row for row in of if row["text"] in wanted] for plan, of in rows.items()}


def opened(plan: str, options: argparse.Namespace) -> Any:
    """The model with a plan."""
    from readthrough.models.local.backend import LocalModel

    return LocalModel(options.model, device=options.device, plan=PLANS[plan])


def ask(model: Any, name: str, questions: Sequence[Example]) -> list[dict[str, Any]]:
    """All questions about one text, after it was read once."""
    prompts = [ASKED.format(text=each.sources[0].text, question=each.question) for each in questions]
    requests = [Request.user(prompt, max_tokens=REPLY_TOKENS) for prompt in prompts]
    read = model.prefill(requests[0])
    started = time.perf_counter()
    replies = model.complete(requests)
    seconds = time.perf_counter() - started
    model.close()
    return [
        {
            "text": name,
            "id": each.id,
            "type": each.type,
            "reply": reply.text,
            "score": find("metrics", each.metric)(reply.text, each),
            "tokens": read.tokens,
            "cached_tokens": read.cached_tokens,
            "kv_bytes": read.kv_bytes,
            "prefill_seconds": read.seconds,
            "answer_seconds": seconds / len(questions),
        }
        for each, reply in zip(questions, replies, strict=True)
    ]


def summary(rows: Sequence[Mapping[str, Any]], dense: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A plan's scores, in points of 100, what it loses against `dense`, its memory and its time."""
    at = {(row["text"], row["id"]): row for row in dense}
    losses = ((row["text"], 100 * (at[row["text"], row["id"]]["score"] - row["score"])) for row in rows)
    kinds = groupby(sorted(rows, key=lambda row: str(row["type"])), key=lambda row: str(row["type"]))
    return {
        "questions": len(rows),
        "score": 100 * fmean(row["score"] for row in rows),
        "score_by_type": {kind: 100 * fmean(row["score"] for row in of) for kind, of in kinds},
        "loss": interval_over_texts(losses),
        "kv_times_smaller": fmean(row["kv_bytes"] for row in dense) / fmean(row["kv_bytes"] for row in rows),
        "prefill_seconds": fmean(row["prefill_seconds"] for row in rows),
        "answer_seconds": fmean(row["answer_seconds"] for row in rows),
    }


if __name__ == "__main__":
    main()
