"""What every method of the catalogue is worth: loss, answers, time and memory at one length, all measured alike.

    python -m benchmarks.methods_grid TEXTS_FOLDER FOLDER [--methods keep:snapkv select:hip ...] [--budgets 0.25 0.1]
        [--contexts 10] [--questions 10] [--places 3] [--tokens 8192]

A method is measured at each budget, the share of a text's KV (or of all blocks) that it keeps or sees; one without a
budget once. In the middle of some texts (*.txt) of TEXTS_FOLDER so many tokens are read, and the negative
log-likelihood of the next 256 real tokens is taken as that of a reply. About some made texts the questions of the
task `shared-context` are asked (key and value, needle, count, two hops through variables). `dense` and the `random`
of each kind are the controls. Rows are kept in FOLDER: a run that was stopped goes on where it was. What reads a
prompt densely finds it read there: its seconds are those of what comes after.

`python -m benchmarks.methods_report FOLDER docs/methods.md` shows the rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.kv_quality import ask
from benchmarks.results import add_rows, rows_of, settle
from benchmarks.sparse_prefill import FORESEEN_TOKENS
from readthrough.catalogue import find, names
from readthrough.evaluation.provenance import provenance
from readthrough.evaluation.tasks.made.sharing import SharedContext
from readthrough.spec import build, options_of

KINDS = {"keep": "policies", "decode": "selectors", "select": "patterns"}
"""What of a plan a method is, and its extension point."""
STORES = {"int8": {"int8": {"group": 64}}, "int4": {"int4": {"group": 64}}, "int2": {"int2": {"group": 64}}}
DENSE = "dense"
ROWS = "methods.jsonl"
PROVENANCE = "measured.json"

OPTIONS: dict[str, dict[str, Any]] = {
    "select:hyper-attention": {"exact_tokens": 1024},
    "keep:kvmerger": {"heavy_ratio": 0.4, "recent_ratio": 0.4},
    "keep:sink-window": {"at": "prompt", "renumber": False},
    "keep:keydiff": {"at": "prompt"},
}
"""Beside a budget: what makes a method comparable with the others at 8,192 tokens."""
WINDOWS = {"select:sink-window": 128, "keep:sink-window": 4}
"""The methods whose budget is the width of a window, with the tokens that they see or keep beside it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A method at a budget.

    Attributes:
        method: `keep:snapkv`; `dense`.
        budget: the share that is kept or seen; None for a method without one.
        plan: what a model is opened with.
    """

    method: str
    budget: float | None
    plan: dict[str, Any] | None


def main() -> None:
    """Measure."""
    options = arguments()
    settle(options.folder, {name: getattr(options, name) for name in ("model", "tokens", "questions")})
    wanted = cells(options.methods, options.budgets, options.tokens)
    measured_with = {**provenance(), "model": options.model, "date": time.strftime("%Y-%m-%d")}
    (options.folder / PROVENANCE).write_text(json.dumps(measured_with), encoding="utf-8")
    started, done = time.monotonic(), 0
    for place, cell in enumerate(wanted):
        done += measured(cell, options)
        if done and place + 1 < len(wanted):
            left = (time.monotonic() - started) / done * (len(wanted) - place - 1)
            print(f"{place + 1} of {len(wanted)} done, about {left / 60:.0f} minutes left", file=sys.stderr)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What every method is worth.")
    parser.add_argument("texts", type=Path, help="folder with texts")
    parser.add_argument("folder", type=Path, help="where measurements are kept")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="*", choices=methods(), default=methods(), metavar="METHOD")
    parser.add_argument("--budgets", type=float, nargs="*", default=[0.25, 0.1])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--contexts", type=int, default=10)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--places", type=int, default=3, help="how many texts the loss is taken in")
    return parser.parse_args()


def methods() -> list[str]:
    """All methods, the controls among them; those that are measured fastest first."""
    found = [f"{part}:{name}" for part, point in KINDS.items() for name in names(point)]
    slow = [name for name in found if reads_anew(*name.split(":"))]
    return [DENSE, *(name for name in found if name not in slow), *(f"store:{form}" for form in STORES), *slow]


def reads_anew(part: str, name: str) -> bool:
    """Whether a method has to see all of a prompt for each reply."""
    found = build(KINDS[part], name)
    return bool(getattr(found, "reads_prompts", False) or getattr(found, "accumulates", False))


def cells(wanted: Sequence[str], budgets: Sequence[float], tokens: int) -> list[Cell]:
    """What is measured, in order."""
    return [cell for method in dict.fromkeys([DENSE, *wanted]) for cell in of_method(method, budgets, tokens)]


def of_method(method: str, budgets: Sequence[float], tokens: int) -> Iterator[Cell]:
    """A method at each budget; once where it has none."""
    part, _, name = method.partition(":")
    if part in (DENSE, "store"):
        yield Cell(method, None, None if part == DENSE else {"store": STORES[name]})
        return
    known = find(KINDS[part], name)
    options = dict(OPTIONS.get(method, {}))
    if part != "keep":
        options["dense_below_tokens"] = 0
    for budget in budgets:
        if method in WINDOWS:
            budgeted = {"window_tokens": round(budget * tokens) - WINDOWS[method]}
        elif "budget_ratio" in options_of(known):
            budgeted = {"budget_ratio": budget, **shrunk(known, budget, tokens)}
        else:
            yield Cell(method, None, {part: {name: options}})
            return
        yield Cell(method, budget, {part: {name: {**options, **budgeted}}})


def shrunk(known: type, budget: float, tokens: int) -> dict[str, int]:
    """The latest tokens that are read in any case take at most half of a budget."""
    latest = getattr(known, "latest_tokens", None)
    most = round(budget * tokens / 2)
    return {"latest_tokens": most} if isinstance(latest, int) and latest > most else {}


def measured(cell: Cell, options: argparse.Namespace) -> bool:
    """Measure what of a cell was not measured before; whether there was anything."""
    path = options.folder / ROWS
    done = {row["part"] for row in rows_of(path) if (row["method"], row["budget"]) == (cell.method, cell.budget)}
    if "refused" in done:
        return False
    books = [book for book in sorted(options.texts.glob("*.txt"))[: options.places] if book.stem not in done]
    contexts = [number for number in range(options.contexts) if f"context-{number}" not in done]
    if not books and not contexts:
        return False
    head = {"method": cell.method, "budget": cell.budget}
    model = opened(cell, options)
    if isinstance(model, str):
        print(f"{cell.method} {cell.budget}: {model}", file=sys.stderr)
        add_rows(path, [{**head, "part": "refused", "why": model}])
        return False
    for book in books:
        add_rows(path, [{**head, "part": book.stem, **foreseen(model, book, options.tokens)}])
    for number in contexts:
        task = SharedContext(tokens=options.tokens, samples=1, seed=number, turns=options.questions)
        rows = ask(model, f"context-{number}", list(task.examples(model.count_tokens)))
        add_rows(path, [{**head, "part": f"context-{number}", **row} for row in rows])
    shown = [row for row in rows_of(path) if (row["method"], row["budget"]) == (cell.method, cell.budget)]
    loss = fmean(row["nll"] for row in shown if "nll" in row)
    score = 100 * fmean(row["score"] for row in shown if "score" in row)
    print(f"{cell.method:28} {cell.budget or '':5} loss {loss:.3f}  score {score:.0f}", file=sys.stderr)
    model.close()
    return True


def opened(cell: Cell, options: argparse.Namespace) -> Any:
    """The model with the cell's plan, or in words why there is none."""
    from readthrough.compression.plan import Plan
    from readthrough.errors import ReadthroughError
    from readthrough.models.local.backend import LocalModel

    try:
        dense = Plan.of(cell.plan).reading == Plan()
        readings = options.folder / "readings" if dense else None
        return LocalModel(options.model, device=options.device, plan=cell.plan, readings=readings)
    except ReadthroughError as error:
        return str(error)


def foreseen(model: Any, book: Path, tokens: int) -> dict[str, Any]:
    """How well the tokens behind so many in the middle of a book are foreseen, as a reply to these."""
    ids = model.tokenize(book.read_text(encoding="utf-8")).ids
    many = tokens + FORESEEN_TOKENS
    if len(ids) < many:
        sys.exit(f"{book} has {len(ids)} tokens, {many} are needed")
    start = (len(ids) - many) // 2
    started = time.perf_counter()
    logprobs = model.reply_logprobs(ids[start : start + many], tokens)
    return {"nll": -fmean(logprobs), "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
