"""SnapKV and streaming, here and in kvpress: the same prompts, the same budgets, the same scores.

    python -m benchmarks.kvpress_scores FOLDER [--texts 6] [--questions 10] [--out NAME]

Texts and questions are made as those of `benchmarks.kv_quality`, of fewer lengths. kvpress runs in its own environment
(`python -m benchmarks.peers.environments kvpress`), reads each prompt whole and evicts when it has read it; so does the
engine here, one prompt at a time and with nothing kept between them. Replies are kept in FOLDER: a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.kv_quality import ASKED, REPLY_TOKENS, asking, texts
from benchmarks.peers.environments import python_of
from benchmarks.results import add_rows, interval_over_texts, rows_of, settle, write_results
from readthrough.catalogue import find
from readthrough.evaluation.base import Example
from readthrough.models.base import Request
from readthrough.models.weights import resolve

KEPT_RATIO = 0.25
WINDOW_TOKENS, SINK_TOKENS = 2048, 4
PLANS: dict[str, Any] = {
    "snapkv": {"keep": {"snapkv": {"budget_ratio": KEPT_RATIO}}},
    "streaming": {"keep": {"sink-window": {"window_tokens": WINDOW_TOKENS, "renumber": False, "at": "prompt"}}},
}
BUDGETS = {"snapkv": {"kept_ratio": KEPT_RATIO}, "streaming": {"kept_tokens": WINDOW_TOKENS + SINK_TOKENS}}


def main() -> None:
    """Ask both, print, and write the results where asked."""
    options = arguments()
    settle(options.folder, {"model": options.model, "questions": options.questions})
    from readthrough.models.local.backend import LocalModel

    examples: dict[str, Example] = {}
    for plan, spec in PLANS.items():
        model = LocalModel(options.model, device="cpu", plan=spec, kept_bytes=0)
        for key, example in asked(model, options):
            examples[key] = example
        ours(model, examples, options.folder / f"engine-{plan}.jsonl")
        theirs(model, plan, examples, options.folder)
    report = {"model": options.model, "texts": options.texts, "questions": options.questions}
    report |= {plan: summary(plan, examples, options.folder) for plan in PLANS}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    return asking("SnapKV and streaming, here and in kvpress.", most_texts=6).parse_args()


def asked(model: Any, options: argparse.Namespace) -> Iterator[tuple[str, Example]]:
    """The questions, by the text's name and their own."""
    for name, task in texts(options).items():
        for example in task.examples(model.count_tokens):
            yield f"{name} {example.id}", example


def request(example: Example) -> Request:
    """The same prompt for both."""
    text = ASKED.format(text=example.sources[0].text, question=example.question)
    return Request.user(text, max_tokens=REPLY_TOKENS)


def ours(model: Any, examples: dict[str, Example], path: Path) -> None:
    """The engine's replies, one at a time."""
    done = set(rows(path))
    for key, example in examples.items():
        if key in done:
            continue
        started = time.perf_counter()
        reply = model.complete([request(example)])[0]
        seconds = time.perf_counter() - started
        size = model.prefill(request(example)).kv_bytes if not done else None
        done.add(key)
        row = {"key": key, "reply": reply.text, "seconds": seconds, "tokens": reply.usage.prompt_tokens}
        add_rows(path, [row | ({} if size is None else {"kv_bytes": size})])


def theirs(model: Any, plan: str, examples: dict[str, Example], folder: Path) -> None:
    """kvpress' replies to the same prompts, in its environment."""
    path = folder / f"prompts-{plan}.jsonl"
    lines = [
        json.dumps(
            {
                "key": key,
                "prompt": model._prompts.render(request(example)),
                "press": plan,
                "max_tokens": REPLY_TOKENS,
                **BUDGETS[plan],
            }
        )
        for key, example in examples.items()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script = Path(__file__).parent / "peers" / "kvpress_prompts.py"
    command = [str(python_of("kvpress")), str(script), str(resolve(model.name)), str(path)]
    subprocess.run([*command, str(folder / f"kvpress-{plan}.jsonl")], check=True, stderr=sys.stderr)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """What a file holds, by its keys."""
    return {row["key"]: row for row in rows_of(path)}


def summary(plan: str, examples: dict[str, Example], folder: Path) -> dict[str, Any]:
    """Scores in points of 100, seconds and bytes of both, and the engine's score less kvpress'."""
    report: dict[str, Any] = {}
    scores: dict[str, dict[str, float]] = {}
    for system in ("engine", "kvpress"):
        found = rows(folder / f"{system}-{plan}.jsonl")
        scores[system] = {
            key: 100 * find("metrics", example.metric)(found[key]["reply"], example)
            for key, example in examples.items()
        }
        sizes = [found[key]["kv_bytes"] for key in examples if "kv_bytes" in found[key]]
        report[system] = {
            "score": fmean(scores[system].values()),
            "seconds": fmean(found[key]["seconds"] for key in examples),
            "kv_bytes_of_the_first": sizes[0],
        }
    better = ((key.split()[0], scores["engine"][key] - scores["kvpress"][key]) for key in examples)
    report["engine_better_by"] = interval_over_texts(better)
    same = sum(
        rows(folder / f"engine-{plan}.jsonl")[key]["reply"] == rows(folder / f"kvpress-{plan}.jsonl")[key]["reply"]
        for key in examples
    )
    return report | {"same_replies": same, "of": len(examples)}


if __name__ == "__main__":
    main()
