"""A fixed draw of forty questions, asked with every workflow: which is worth its time for which kind of question?

    python -m benchmarks.forty_questions DATA_FOLDER FOLDER [--model small] [--workflows a b ...] [--max-seconds 90]

The draw (benchmarks/draw_40.json) is stratified by type; `--draw` makes it anew. It is an evaluation like any other
(`readthrough eval run FOLDER/small.yaml` does the same): results are kept below FOLDER, each model's by itself, and a
run that was stopped goes on where it was. `full-context` (where the text fits) and `iterative-summary` (summarise,
then answer) are the controls.

When all is answered the results of all models below FOLDER are kept in benchmarks/results/forty_questions.jsonl, in
place of earlier ones of the same systems and without any text of the data, and docs/results.md is written from what is
kept there: systems can be added later, on other days. Behind it stands the report of before results were kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.results import FOLDER, rows_of
from readthrough import catalogue
from readthrough.config import load_settings
from readthrough.evaluation.base import Example
from readthrough.evaluation.comparing import results_in
from readthrough.evaluation.grid import read_grid
from readthrough.evaluation.reports import markdown
from readthrough.evaluation.running import Listener, evaluate
from readthrough.evaluation.store import Result, write_json_lines
from readthrough.evaluation.tasks.files.questions import Questions

DRAW = Path(__file__).parent / "draw_40.json"
KEPT = FOLDER / "forty_questions.jsonl"
EARLIER = FOLDER / "forty_questions_earlier.md"
REPORT = Path(__file__).parents[1] / "docs" / "results.md"
ROWS = 40
SEED = 40
TAGS = ("hops", "loogle_type")
"""What is kept of a question's tags; others hold texts."""


def main() -> int:
    """Read the arguments, ask, and write the report where nothing is left; 3 where something is, or has failed."""
    options = arguments()
    if options.draw:
        examples = sorted(Questions(options.data).read(options.data), key=lambda each: each.sources[0].name)
        DRAW.write_text(json.dumps(draw(examples), indent=1) + "\n", encoding="utf-8")
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.model}.yaml"
    path.write_text(grid(options), encoding="utf-8")
    settings = load_settings({"home": options.folder / "library"}).settings
    outcome = evaluate(read_grid(path, settings), options.folder / options.model, settings, Listener(on_result=show))
    print(f"{outcome.asked} asked, {outcome.kept} kept, {outcome.failed} failed, {outcome.left} left", file=sys.stderr)
    if outcome.left:
        return 3
    found = [each for each in sorted(options.folder.iterdir()) if (each / "results.sqlite").exists()]
    write_report(result for each in found for result in results_in(each))
    return 3 if outcome.failed else 0


def write_report(results: Iterable[Result]) -> None:
    """Keep results in place of those of the same systems, and write the report over all that are kept."""
    new = [bare(result) for result in results]
    systems = {result.system_name for result in new}
    kept = [Result.from_dict(row) for row in rows_of(KEPT)]
    every = sorted(
        [*new, *(result for result in kept if result.system_name not in systems)],
        key=lambda result: (result.system_name, result.example),
    )
    write_json_lines(every, KEPT)
    REPORT.write_text(f"{markdown.page(every)}\n{EARLIER.read_text(encoding='utf-8')}", encoding="utf-8")


def bare(result: Result) -> Result:
    """A result without the texts that the data and the answer have: what a report's tables are made of."""
    said = result.answer and {name: result.answer[name] for name in ("usage", "confidence", "abstained", "stopped")}
    sources = tuple({"name": source["name"]} for source in result.sources)
    error = result.error and {"type": result.error["type"], "message": ""}
    tags = {name: result.tags[name] for name in TAGS if name in result.tags}
    bared = replace(result, question="", choices=None, answers=(), evidence=(), sources=sources, tags=tags)
    return replace(bared, answer=said, error=error, task={"questions": {"path": "dev"}})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Ask a fixed draw of questions with every workflow.")
    parser.add_argument("data", type=Path, help="questions in the common form, their texts in docs/ beside them")
    parser.add_argument("folder", type=Path, help="where results are kept")
    parser.add_argument("--model", default="small")
    parser.add_argument("--workflows", nargs="*", default=catalogue.names("workflows"))
    parser.add_argument("--max-seconds", type=float, default=90.0, help="the most that one answer may take")
    parser.add_argument("--budget-seconds", type=float, default=None, help="the most that this run may take")
    parser.add_argument("--draw", action="store_true", help="draw the questions anew")
    return parser.parse_args()


def grid(options: argparse.Namespace) -> str:
    """The evaluation as YAML."""
    content: dict[str, Any] = {
        "tasks": [{"questions": {"path": str(options.data.absolute()), "ids": str(DRAW)}}],
        "systems": {"workflows": options.workflows, "models": [options.model], "indexes": ["hybrid"]},
        "limits": {"seconds": options.max_seconds},
    }
    if options.budget_seconds is not None:
        content["budget"] = {"seconds": options.budget_seconds}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def show(result: Result) -> None:
    """One line a question, on standard error."""
    said = result.answer["answer"] if result.answer else (result.error or {}).get("message", "")
    told = f"{result.score:.2f} {result.seconds:6.1f}s {result.type:<15} {result.system['workflow']!s:<20}"
    print(f"{told} {result.example:<28} {said[:60]!r}", file=sys.stderr, flush=True)


def draw(examples: Sequence[Example]) -> list[str]:
    """The ids of ROWS questions: of each type its share, at least two, spread over its documents."""
    by_type: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_type[example.type].append(example)
    shares = {kind: max(2, round(ROWS * len(of) / len(examples))) for kind, of in by_type.items()}
    while sum(shares.values()) != ROWS:
        step = 1 if sum(shares.values()) < ROWS else -1
        shares[max(shares, key=lambda kind: shares[kind])] += step
    generator = random.Random(SEED)
    drawn: list[str] = []
    for kind, of in sorted(by_type.items()):
        generator.shuffle(of)
        turn: dict[str, int] = defaultdict(int)
        places: list[tuple[int, int, str]] = []
        for example in of:  # the first of every document, then the second of every document, ...
            document = example.sources[0].name
            places.append((turn[document], len(places), example.id))
            turn[document] += 1
        drawn += [name for _, _, name in sorted(places)[: shares[kind]]]
    return sorted(drawn)


if __name__ == "__main__":
    sys.exit(main())
