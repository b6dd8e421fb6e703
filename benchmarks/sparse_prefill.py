"""What sparse prefill gains and costs: time to read a real text, and how well what follows is foreseen.

    python -m benchmarks.sparse_prefill BOOKS_FOLDER FOLDER [--tokens 8192 16384 32256] [--patterns antidiagonal ...]
        [--places 2] [--books 3] [--out NAME]

BOOKS_FOLDER holds texts (*.txt). At some places of some of them so many tokens are read, and the negative
log-likelihood of the next 256 real tokens is taken, in nats a token. Patterns are those below, or names of the
catalogue, with a budget as a share of the text or without one: `hip@0.25`, `flexprefill`. Dense and sparse read the
same tokens in one run; the time is CPU time over the number of threads, the ratio by the clock stands beside it. What
was measured is kept in FOLDER: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results import add_rows, rows_of, settle, write_results

FORESEEN_TOKENS = 256
DENSE = "dense"
PATTERNS: dict[str, Any] = {
    DENSE: None,
    "antidiagonal": "antidiagonal",
    "antidiagonal-0.8": {"antidiagonal": {"mass_ratio": 0.8}},
    "vertical-slash": {"vertical-slash": {"budget_ratio": 0.15}},
    "block-topk": {"block-topk": {"blocks": 16}},
    "sink-window": "sink-window",
}


def main() -> None:
    """Measure, print, and write the results where asked."""
    options = arguments()
    settle(options.folder, {"model": options.model, "places": options.places})
    rows = measured(options)
    report: dict[str, Any] = {"model": options.model, "books": options.books, "places": options.places, "tokens": {}}
    for tokens in options.tokens:
        of = [row for row in rows if row["tokens"] == tokens]
        report["tokens"][str(tokens)] = {name: summary(of, name) for name in [DENSE, *options.patterns]}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What sparse prefill gains and costs.")
    parser.add_argument("texts", type=Path, help="folder with texts")
    parser.add_argument("folder", type=Path, help="where measurements are kept")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, nargs="*", default=[8192, 16384, 32256])
    parser.add_argument("--patterns", nargs="*", type=pattern_name, default=[*PATTERNS][1:])
    parser.add_argument("--books", type=int, default=3)
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    return parser.parse_args()


def spec_of(name: str) -> Any:
    """What a plan's `select` says for a pattern's name on the command line."""
    if name in PATTERNS:
        return PATTERNS[name]
    part, _, ratio = name.partition("@")
    return {part: {"budget_ratio": float(ratio)}} if ratio else part


def pattern_name(name: str) -> str:
    """A name that can be followed: wrong ones are refused before anything is read."""
    from readthrough.compression.plan import Plan
    from readthrough.errors import ReadthroughError

    try:
        Plan.of({"select": spec_of(name)})
    except (ReadthroughError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each pattern, length and place; those that were measured before are not measured again."""
    from readthrough.models.local.backend import LocalModel

    path = options.folder / "sparse_prefill.jsonl"
    rows = rows_of(path)
    done = {(row["pattern"], row["tokens"], row["book"], row["place"]) for row in rows}
    books = sorted(options.texts.glob("*.txt"))[: options.books]
    models: dict[str, Any] = {}
    for tokens in options.tokens:
        for book in books:
            for place in range(options.places):
                for name in [DENSE, *options.patterns]:
                    if (name, tokens, book.stem, place) in done:
                        continue
                    if name not in models:
                        plan = None if name == DENSE else {"select": spec_of(name)}
                        models[name] = LocalModel(options.model, device=options.device, plan=plan, kept_bytes=0)
                    found = read(models[name], book, tokens, (place, options.places))
                    row = {"pattern": name, "tokens": tokens, "book": book.stem, "place": place, **found}
                    rows.append(row)
                    add_rows(path, [row])
                    print(f"{name:18} {tokens:6} {book.stem:24} {place} {found}", file=sys.stderr)
    return rows


def read(model: Any, book: Path, tokens: int, place: tuple[int, int]) -> dict[str, float]:
    """Read so many tokens from a place of a book on: how long it takes, and how well the next ones are foreseen."""
    import torch

    ids = model.tokenize(book.read_text(encoding="utf-8")).ids
    start = (len(ids) - tokens - FORESEEN_TOKENS) * place[0] // place[1]
    if start < 0:
        sys.exit(f"{book} has {len(ids)} tokens, {tokens + FORESEEN_TOKENS} are needed")
    prompt = ids[start : start + tokens + FORESEEN_TOKENS]
    before, cpu_before = time.perf_counter(), time.process_time()
    logprobs = model.token_logprobs([prompt], [tokens])[0]
    cpu = (time.process_time() - cpu_before) / torch.get_num_threads()
    return {"nll": -fmean(logprobs), "clock_seconds": time.perf_counter() - before, "cpu_seconds": cpu}


def summary(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """The means of a pattern, and what it gains and costs against dense, place by place."""
    dense = {(row["book"], row["place"]): row for row in rows if row["pattern"] == DENSE}
    pairs = [(row, dense[row["book"], row["place"]]) for row in rows if row["pattern"] == name]
    more = [row["nll"] - other["nll"] for row, other in pairs]
    return {
        "places": len(pairs),
        "nll": fmean(row["nll"] for row, _ in pairs),
        "nll_more": fmean(more),
        "nll_more_at_most": max(more),
        "cpu_seconds": fmean(row["cpu_seconds"] for row, _ in pairs),
        "times_as_fast": sum(o["cpu_seconds"] for _, o in pairs) / sum(row["cpu_seconds"] for row, _ in pairs),
        "times_as_fast_by_the_clock": sum(o["clock_seconds"] for _, o in pairs)
        / sum(row["clock_seconds"] for row, _ in pairs),
    }


if __name__ == "__main__":
    main()
