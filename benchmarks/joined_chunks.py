"""Time to the first token of a prompt of known texts in a new order, joined, and how far the logits are off.

    python -m benchmarks.joined_chunks [--model NAME] [--texts 6] [--tokens 512] [--out NAME]

Against computing the prompt as a whole ("cold"), on the same tokens and weights in the same run. Each prompt holds
pieces of one page of Python's documentation, which need each other; they have been read in another order. The answer is
what follows on that page: its negative log-likelihood a token, the divergence KL(whole || joined) of the distributions
that its tokens are drawn from, and how often the most probable token is the same. Times are by the clock and in CPU
time over the number of threads; a ratio is the median over the prompts.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pydoc_data.topics import topics
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.engine_speed import measure, rounded
from benchmarks.results import write_results

RATIOS = (0.0, 0.05, 0.15, 0.3, 1.0)
PAGES = ("specialnames", "compound", "types", "formatstrings")
ANSWER_TOKENS = 64
QUESTION = "What follows these texts on the page that they are from?"


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Time to the first token of a prompt of known texts.")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--texts", type=int, default=6, help="how many texts a prompt holds")
    parser.add_argument("--tokens", type=int, default=512, help="how many tokens a text has, about")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    from readthrough.models.local.backend import LocalModel

    model = LocalModel(options.model, device="cpu", plan={"join": "blend"})
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for prompt in prompts(model, options.texts, options.tokens, options.prompts):
        for way, numbers in compare(model, *prompt).items():
            found[way].append(numbers)
    report = {"model": options.model, "texts": options.texts, "text_tokens": options.tokens, "prompts": options.prompts}
    report = rounded({**report, **{way: summary(each) for way, each in found.items()}})
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def prompts(model: Any, texts: int, tokens: int, count: int) -> Iterator[tuple[list[str], str]]:
    """Consecutive texts and what follows them, from several pages."""
    tokenizer = model._loaded.tokenizer
    step = texts * tokens + ANSWER_TOKENS
    starts = [
        (page, start)
        for page in PAGES
        for ids in [tokenizer(topics[page])["input_ids"]]
        for start in range(0, len(ids) - step, step)
    ]
    for page, start in starts[:: max(1, len(starts) // count)][:count]:
        ids = tokenizer(topics[page])["input_ids"]
        cuts = [start + tokens * number for number in range(texts + 1)]
        pieces = [tokenizer.decode(ids[a:b]).strip("\ufffd") for a, b in pairwise(cuts)]
        yield pieces, tokenizer.decode(ids[cuts[-1] : cuts[-1] + ANSWER_TOKENS]).strip("\ufffd")


def compare(model: Any, texts: list[str], answer: str) -> dict[str, dict[str, float]]:
    """Seconds and deviations of one prompt, cold and joined."""
    from readthrough.models.base import Request

    shown = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    other = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(reversed(texts), 1))
    request = Request.user(f"Read these texts.\n\n{shown}\n\n{QUESTION}", reused=tuple(texts))
    before = Request.user(f"Read these texts.\n\n{other}\n\n{QUESTION}", reused=tuple(reversed(texts)))
    tokens, (said,), spans = model._prompts.pieced(request, [answer])
    earlier, _, earlier_spans = model._prompts.pieced(before, [])
    found: dict[str, dict[str, float]] = {}
    whole = None
    for way in ("cold", *(f"joined {ratio}" for ratio in RATIOS)):
        joined = spans if way != "cold" else ()
        model.close()
        if joined:
            blend(model, 0.0)
            logits(model, earlier, said[:1], earlier_spans)
            blend(model, float(way.split()[1]))
        seconds = measure(lambda: logits(model, tokens, said[:1], joined), rounds=1)  # noqa: B023
        rows = logits(model, tokens, said, joined)
        whole = rows if whole is None else whole
        found[way] = {**seconds, **deviation(whole, rows, said)}
        found[way]["ratio"] = found["cold"]["cpu_seconds"] / seconds["cpu_seconds"]
    return found


def blend(model: Any, ratio: float) -> None:
    """Join with another share computed anew from now on."""
    from readthrough.compression.joins.blend import Blend
    from readthrough.models.local.joining import Joiner

    engine = model._engine
    engine.joiner = Joiner(Blend(ratio), engine.loaded, engine.forward, engine.forward_tokens)


def logits(model: Any, tokens: Any, said: Any, spans: Any) -> Any:
    """The logits that the tokens of `said` are drawn from, fp32."""
    import torch

    from readthrough.models.local.jobs import Job

    found: list[Any] = []
    job = Job(
        np.concatenate([tokens, said[:-1]]).astype(np.int64),
        len(tokens) - 1,
        lambda offset, rows: found.append(rows.float()),
        spans,
    )
    with torch.inference_mode():
        model._engine.run([job])
    return torch.cat(found)


def deviation(whole: Any, other: Any, said: Any) -> dict[str, float]:
    """How far the distributions are from those of the whole prompt."""
    import torch

    exact, found = whole.log_softmax(-1), other.log_softmax(-1)
    targets = torch.from_numpy(said)[:, None]
    return {
        "nll": -float(found.gather(1, targets).mean()),
        "kl": float((exact.exp() * (exact - found)).sum(-1).mean()),
        "same_token_ratio": float((exact.argmax(-1) == found.argmax(-1)).float().mean()),
    }


def summary(each: list[dict[str, float]]) -> dict[str, float]:
    """Medians of times, means of deviations."""
    timed = ("clock_seconds", "cpu_seconds", "ratio")
    return {key: (median if key in timed else fmean)([one[key] for one in each]) for key in each[0]}


if __name__ == "__main__":
    main()
