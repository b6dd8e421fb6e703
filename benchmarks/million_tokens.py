"""A million tokens in one prompt: read to the end in bounded memory, with a plan that makes it possible.

    python -m benchmarks.million_tokens BOOKS_FOLDER [--tokens 1000000] [--plan PLAN.yaml] [--out NAME]

BOOKS_FOLDER holds texts (*.txt), which are put one behind another until there are so many tokens. The default plan
keeps a sink and a window of 4,096 tokens, whose positions are those in the cache. What is measured: seconds to each
tenth of the text, the most memory that the process held, and how well the last tokens of the text are foreseen, against
the same tokens read with the window before them alone: a model that has lost its way foresees nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from benchmarks.results import write_results
from readthrough.types import Event

PLAN = {"keep": {"sink-window": {"window_tokens": 4096}}}
FORESEEN_TOKENS = 256
NEAR_TOKENS = 4096


def main() -> None:
    """Read, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="A million tokens in one prompt.")
    parser.add_argument("texts", type=Path, help="folder with texts")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--plan", type=Path, default=None, help="YAML file with another plan")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    from readthrough.models.local.backend import LocalModel

    plan = PLAN if options.plan is None else yaml.safe_load(options.plan.read_text(encoding="utf-8"))
    ticks: list[tuple[float, float]] = []

    def tell(event: Event) -> None:
        if event.stage == "prefill" and event.total and event.total > FORESEEN_TOKENS + NEAR_TOKENS:
            ticks.append((time.perf_counter(), event.done / event.total))
            print(f"\r{event.done:,.0f} of {event.total:,.0f} tokens", end="", file=sys.stderr)

    length = options.tokens + FORESEEN_TOKENS + 64
    model = LocalModel(
        options.model, device=options.device, plan=plan, window_tokens=length, kept_bytes=0, on_event=tell
    )
    ids = tokens_of(model, options.texts, options.tokens + FORESEEN_TOKENS)
    started = time.perf_counter()
    far = model.token_logprobs([ids], [options.tokens])[0]
    seconds = time.perf_counter() - started
    print(file=sys.stderr)
    near = model.token_logprobs([ids[-FORESEEN_TOKENS - NEAR_TOKENS :]], [NEAR_TOKENS])[0]
    tenths = [next(at for at, share in ticks if share >= tenth / 10) - started for tenth in range(1, 11)]
    report: dict[str, Any] = {
        "model": options.model,
        "plan": model.plan_name,
        "tokens": options.tokens,
        "seconds": round(seconds, 1),
        "tokens_a_second": round(options.tokens / seconds, 1),
        "seconds_to_each_tenth": [round(each, 1) for each in tenths],
        "most_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "nll_of_the_last": round(-fmean(far), 4),
        "nll_with_the_window_alone": round(-fmean(near), 4),
    }
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def tokens_of(model: Any, folder: Path, wanted: int) -> Any:
    """The first so many tokens of the texts of a folder, which are begun anew where they do not suffice."""
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        sys.exit(f"{folder} holds no *.txt")
    found, at = [], 0
    while sum(map(len, found)) < wanted:
        found.append(model.tokenize(paths[at % len(paths)].read_text(encoding="utf-8")).ids)
        at += 1
    return np.concatenate(found)[:wanted]


if __name__ == "__main__":
    main()
