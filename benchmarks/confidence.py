"""Does confidence tell right answers from wrong ones, and what a text says from what it does not?

    python -m benchmarks.confidence QUESTIONS FOLDER [--model default] [--most 155] [--unanswerable 100] [--out NAME]

QUESTIONS is a folder of questions; beside them as many are asked as --unanswerable says that the texts do not answer:
half are questions about another of the texts, half name something that the text does not (see
`readthrough.evaluation.calibrating.altered`). All are asked with `retrieve`, none is refused, and the signs of every
answer are kept in FOLDER: a run that was stopped goes on where it was, and with --refit nothing is asked. Reported are
the confidences as they are, and those of a fit to the other four fifths of the answers. Questions of
benchmarks/draw_40.json, which the shipped confidences were fitted to, are left out of the first, unless --with-draw
is given.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.forty_questions import DRAW
from benchmarks.results import add_rows, rows_of, settle, write_results
from readthrough.agents.reading.confidence import SHIPPED
from readthrough.api import read
from readthrough.errors import UsageError
from readthrough.evaluation.base import UNANSWERABLE, Example
from readthrough.evaluation.calibrating import WORKFLOW, Sample, altered, confidence, fit, refusals, signs_of
from readthrough.evaluation.calibrating import right as is_right
from readthrough.evaluation.confidence import measure
from readthrough.evaluation.tasks.files.questions import Questions
from readthrough.evaluation.texts import Texts
from readthrough.models.weights import ALIASES


def main() -> None:
    """Ask what has no row yet, print the report, write the results where asked."""
    options = arguments()
    settle(options.folder, {"model": options.model, "seed": options.seed})
    path = options.folder / "rows.jsonl"
    rows = rows_of(path)
    if not options.refit:
        done = {row["example"] for row in rows}
        for example in (each for each in examples(options) if each.id not in done):
            rows.append(asked(example, options))
            add_rows(path, rows[-1:])
            print(json.dumps(rows[-1]), flush=True)
    report = {"model": options.model, "workflow": WORKFLOW, **summary(rows, options)}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Confidence over questions with answers and without.")
    parser.add_argument("questions", type=Path, help="a folder or file of questions")
    parser.add_argument("folder", type=Path, help="where texts, runs and rows are kept")
    parser.add_argument("--model", default="default")
    parser.add_argument("--most", type=int, default=None, help="how many of the questions")
    parser.add_argument("--unanswerable", type=int, default=100, help="how many are made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--with-draw", action="store_true", help="keep the questions that the constants come from")
    parser.add_argument("--refit", action="store_true", help="ask nothing: report the rows that are there")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    return parser.parse_args()


def examples(options: argparse.Namespace) -> Iterator[Example]:
    """The questions, and those that the texts do not answer, mixed so that any beginning of them has both."""
    chance = random.Random(options.seed)
    given = list(Questions(options.questions).read(options.questions))
    chance.shuffle(given)
    given = given[: options.most]
    made = list(unanswerable(given, options.unanswerable, chance))
    every = given + made
    chance.shuffle(every)
    yield from every


def unanswerable(given: list[Example], count: int, chance: random.Random) -> Iterator[Example]:
    """Questions that their texts do not answer: about another text, or with a name that no text has, in turn."""
    plain = [each for each in given if each.type != UNANSWERABLE and each.choices is None]
    names = "\n".join(each.question for each in given).lower()
    for number in range(count):
        example = chance.choice(plain)
        empty = replace(example, answers=(), evidence=(), type=UNANSWERABLE, metric="f1")
        changed = altered(example.question, names, chance) if number % 2 else None
        if changed is not None:
            yield replace(empty, id=f"{example.id} altered {number}", question=changed)
            continue
        others = [each for each in plain if {s.name for s in each.sources}.isdisjoint(s.name for s in example.sources)]
        if not others:
            continue
        sources = chance.choice(others).sources
        yield replace(empty, id=f"{example.id} elsewhere {number}", sources=sources)


def asked(example: Example, options: argparse.Namespace) -> dict[str, Any]:
    """What came of a question: its signs, whether the answer was right, and whether there is one."""
    texts = Texts(options.folder)
    paths = [texts.path(source) for source in example.sources]
    with read(*paths, model=options.model, home=options.folder / "library") as book:
        answer = book.ask(example.question, example.choices, workflow=WORKFLOW)
        sample = Sample(signs_of(book.runs, answer.run), is_right(example, answer), example.type != UNANSWERABLE)
    return {"example": example.id, "answer": answer.answer, "confidence": answer.confidence, **asdict(sample)}


def summary(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """AUROC, calibration error, and what is recognised: with the model's shipped confidence, and with a fit."""
    pairs = [(row["example"], Sample(row["signs"], row["right"], row["answerable"])) for row in rows if row["signs"]]
    samples = [sample for _, sample in pairs]
    report: dict[str, Any] = {"answers": len(rows), "with_signs": len(samples)}
    shipped = SHIPPED.get(ALIASES.get(options.model, options.model))
    drawn = set() if options.with_draw else set(json.loads(DRAW.read_text(encoding="utf-8")))
    new = [sample for name, sample in pairs if name not in drawn]
    if shipped is not None and any(sample.answerable for sample in new):
        sure = [confidence(shipped, sample) for sample in new]
        below, recognised = refusals(sure, [sample.answerable for sample in new])
        measured = asdict(measure(sure, [float(sample.right) for sample in new]))
        report["shipped"] = {**measured, "refuse_below": below, "recognised_ratio": recognised}
    try:
        report["fitted"] = fit(samples).to_dict()
    except UsageError as error:
        report["fitted"] = str(error)
    return report


if __name__ == "__main__":
    main()
