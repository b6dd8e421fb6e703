"""Speed of the local engine, against transformers' own `generate` on the same weights in the same run.

    python -m benchmarks.engine_speed [--model NAME] [--tokens 1024] [--weights int4] [--out NAME]

With `--weights int4` (or int8) the steps that write replies are measured beside those with full weights as well.
Each figure is given twice: by the clock, and by CPU time over the number of threads. On a machine that does other
things as well the second is what undisturbed cores would come near to; ratios are taken from it. Both run in one
process, and so with the same allocator: what reusing freed memory gains is in no ratio.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.results import write_results

SENTENCE = "The keeper wrote in his book every evening, and the wind came from the north over the grey sea. "
REPLY_TOKENS = 32
REPLY_MOST = 128
ROUNDS = 3

CODE_TASK = '''def rows(path, *, encoding="utf-8", separator=","):
    """Every row of the file at `path` as a list of stripped cells."""
    with open(path, encoding=encoding) as lines:
        for line in lines:
            yield [cell.strip() for cell in line.split(separator)]


Rename the parameter `separator` to `delimiter` in this function.'''
MEMORY = """Ann keeps the lighthouse at Cape Hollow and writes in her book every evening. Her brother Tom left for the
city in March to learn the trade of a clockmaker. A ship named Perseverance was seen on the third of May, with a torn
sail and no flag. The harbour master, Mr Bell, owes Ann forty crowns for oil. The well behind the house is dry."""
REWRITE = f"""Memory:
{MEMORY}

New passage:
On the ninth of June the Perseverance came back and anchored in the bay. Her captain, a woman called Ruth Vane, asked
for water and paid in silver.

Write the memory anew: all that is in it, word for word, and behind it one sentence about the new passage."""
DRAFT_PROMPTS = {
    "rewrite memory": REWRITE,
    "edit code": CODE_TASK,
    "count": "Count from 1 to 30, separated by commas.",
    "quote": SENTENCE * 3 + "The lamp was lit at five. Quote the text above exactly.",
    "explain": "Explain in three sentences what a hash table is.",
}


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Speed of the local engine against transformers.")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--weights", default="full", help="full, int8 or int4: other weights to compare with full ones")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    started = time.perf_counter()
    from readthrough.models.local.backend import LocalModel

    imported = time.perf_counter()
    model = LocalModel(options.model, device="cpu")
    report: dict[str, Any] = {"model": options.model, "tokens": options.tokens}
    report["seconds"] = {"import": imported - started, "load": time.perf_counter() - imported}
    report["prefill"] = prefill(model, options.tokens)
    report["decode"] = decode(model, options.tokens)
    report["drafts"] = drafts(model)
    report["batched"] = batched(model)
    report["shared_prefix"] = shared_prefix(model)
    report["passages"] = passages(model)
    if options.weights != "full":
        report["weights"] = quantised(model, options.weights)
    report = rounded(report)
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def measure(work: Callable[[], Any], rounds: int = ROUNDS) -> dict[str, float]:
    """The best of some rounds, in seconds by the clock and in CPU seconds a thread."""
    import torch

    clock, cpu = [], []
    for _ in range(rounds):
        before, cpu_before = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - before)
        cpu.append((time.process_time() - cpu_before) / torch.get_num_threads())
    return {"clock_seconds": min(clock), "cpu_seconds": min(cpu)}


def compare(ours: dict[str, float], theirs: dict[str, float], tokens: int) -> dict[str, Any]:
    """Tokens a second of both, and how many times as fast ours is."""
    rates = {
        name: {key: tokens / value for key, value in each.items()}
        for name, each in (("engine", ours), ("transformers", theirs))
    }
    return {
        "tokens_a_second": {
            name: {"clock": each["clock_seconds"], "cpu": each["cpu_seconds"]} for name, each in rates.items()
        },
        "speed_ratio": theirs["cpu_seconds"] / ours["cpu_seconds"],
    }


def prompt_of(model: Any, tokens: int) -> tuple[Any, Any]:
    """A request of nearly so many tokens, and its ids `[1, T]`."""
    import torch

    from readthrough.models.base import Request

    text = SENTENCE * (tokens // model.count_tokens([SENTENCE])[0])
    request = Request.user(text + "\nContinue.", max_tokens=REPLY_TOKENS)
    ids = model._prompts.encode([model._prompts.render(request)])[0]
    return request, torch.from_numpy(ids)[None]


@cache
def plain_model(name: str) -> Any:
    """The same weights as transformers loads them, with its default attention."""
    from transformers import AutoModelForCausalLM

    from readthrough.models.weights import resolve

    return AutoModelForCausalLM.from_pretrained(resolve(name), dtype="auto", local_files_only=True).eval()


def theirs(model: Any, ids: Any, tokens: int) -> Callable[[], Any]:
    """transformers' greedy generate of exactly so many tokens, with its default attention and cache."""
    import torch

    inner = plain_model(model.name)

    def run() -> Any:
        return inner.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens
        )

    return run


def ours(model: Any, requests: list[Any], draft_tokens: int) -> Callable[[], Any]:
    """The engine's replies, from cold, never ended by an end token."""

    def run() -> Any:
        writer, loaded = model._writer, model._engine.loaded
        limits = writer.limits
        writer.limits = replace(limits, draft_tokens=draft_tokens)
        model._engine.loaded = replace(loaded, eos_ids=frozenset())
        model.close()
        try:
            return model.complete(requests)
        finally:
            writer.limits, model._engine.loaded = limits, loaded

    return run


def prefill(model: Any, tokens: int) -> dict[str, Any]:
    """Reading a prompt and writing one token."""
    request, ids = prompt_of(model, tokens)
    one = replace(request, max_tokens=1)
    ours(model, [one], 0)()
    return compare(measure(ours(model, [one], 0)), measure(theirs(model, ids, 1)), ids.shape[1])


def decode(model: Any, tokens: int) -> dict[str, Any]:
    """Writing a reply, one token a pass: the time of a reply less that of its first token."""
    request, ids = prompt_of(model, tokens)
    one = replace(request, max_tokens=1)
    found = []
    for whole, first in (
        (ours(model, [request], 0), ours(model, [one], 0)),
        (theirs(model, ids, REPLY_TOKENS), theirs(model, ids, 1)),
    ):
        long, short = measure(whole), measure(first)
        found.append({key: long[key] - short[key] for key in long})
    return compare(found[0], found[1], REPLY_TOKENS - 1)


def batched(model: Any) -> dict[str, Any]:
    """Eight replies about one text side by side, against one after another."""
    request, _ = prompt_of(model, 512)
    messages = request.messages[0]
    requests = [
        replace(request, messages=(replace(messages, content=f"{messages.content} Part {i}."),)) for i in range(8)
    ]
    together = measure(ours(model, requests, 0), rounds=1)
    apart = measure(lambda: [ours(model, [each], 0)() for each in requests], rounds=1)
    return {"replies": 8, "together": together, "apart": apart, "ratio": apart["cpu_seconds"] / together["cpu_seconds"]}


def shared_prefix(model: Any) -> dict[str, Any]:
    """Eight replies to questions about one text of 4,096 tokens, against one padded batch of transformers' generate."""
    import torch

    request, _ = prompt_of(model, 4096)
    messages = request.messages[0]
    requests = [
        replace(request, messages=(replace(messages, content=f"{messages.content} Part {i}."),)) for i in range(8)
    ]
    ids = [torch.from_numpy(model._prompts.encode([model._prompts.render(each)])[0]) for each in requests]
    longest = max(map(len, ids))
    padded = torch.stack([torch.nn.functional.pad(each, (longest - len(each), 0)) for each in ids])
    mask = torch.stack([(torch.arange(longest) >= longest - len(each)).long() for each in ids])
    length = {"do_sample": False, "max_new_tokens": REPLY_TOKENS, "min_new_tokens": REPLY_TOKENS}
    inner = plain_model(model.name)
    engine = measure(ours(model, requests, 0), rounds=1)
    peer = measure(lambda: inner.generate(padded, attention_mask=mask, **length), rounds=1)
    return {"engine": engine, "transformers": peer, "ratio": peer["cpu_seconds"] / engine["cpu_seconds"]}


def drafts(model: Any) -> dict[str, Any]:
    """Prompt-lookup drafts: passes and time for the same text."""
    from readthrough.models.base import Request

    report: dict[str, Any] = {}
    step = model._writer._step
    for name, text in DRAFT_PROMPTS.items():
        request = Request.user(text, max_tokens=REPLY_MOST)
        found: dict[int, tuple[str, int, dict[str, float]]] = {}
        for draft_tokens in (0, 7):
            passes = [0]

            def counted(running: Any, passes: list[int] = passes) -> None:
                passes[0] += 1
                step(running)

            model._writer._step = counted
            replies: list[Any] = []
            took = measure(lambda: replies.extend(ours(model, [request], draft_tokens)()), rounds=1)  # noqa: B023
            found[draft_tokens] = (replies[0].text, passes[0], took)
        model._writer._step = step
        report[name] = {
            "same_text": found[0][0] == found[7][0],
            "passes": [found[0][1], found[7][1]],
            "speed_ratio": found[0][2]["cpu_seconds"] / found[7][2]["cpu_seconds"],
        }
    return report


def passages(model: Any) -> dict[str, Any]:
    """The likelihood of a question after each of 40 passages of about 200 tokens, and of another question then."""
    from readthrough.models.base import Request

    requests = [Request.user(f"Passage {i}. " + SENTENCE * 9 + "\n\nAsk a question.") for i in range(40)]
    model.close()
    first = measure(lambda: model.likelihood(requests, ["Who wrote in his book?"] * 40), rounds=1)
    again = measure(lambda: model.likelihood(requests, ["What colour was the sea?"] * 40), rounds=1)
    tokens = sum(model.count_tokens([request.messages[0].content for request in requests]))
    return {"tokens": tokens, "first": first, "again": again, "ratio": first["cpu_seconds"] / again["cpu_seconds"]}


def quantised(full: Any, weights: str) -> dict[str, Any]:
    """Decode steps with other weights and with full ones, some replies side by side, and with drafts when alone."""
    from readthrough.models.local.backend import LocalModel

    models = {"full": full, weights: LocalModel(full.name, device="cpu", weights=weights)}
    request, ids = prompt_of(full, 200)
    first, whole = measure(theirs(full, ids, 1)), measure(theirs(full, ids, REPLY_TOKENS))
    step = {key: (whole[key] - first[key]) / (REPLY_TOKENS - 1) for key in whole}
    report: dict[str, Any] = {"kind": weights, "transformers": step}
    for replies in (1, 2, 4, 8, 16):
        report[f"replies {replies}"] = decode_steps(models, [request] * replies, 0)
    report["transformers_ratio"] = step["cpu_seconds"] / report["replies 1"][weights]["cpu_seconds"]
    for name, text in DRAFT_PROMPTS.items():
        report[f"drafts: {name}"] = decode_steps(models, [replace(request, messages=_asked(text))], 7)
    return report


def _asked(text: str) -> Any:
    from readthrough.models.base import Request

    return Request.user(text).messages


def decode_steps(models: dict[str, Any], requests: list[Any], draft_tokens: int) -> dict[str, Any]:
    """The time a written token of each model, the prompts read before, and the first model's over the second's."""
    found: dict[str, Any] = {}
    for name, model in models.items():
        rounds = []
        for _ in range(ROUNDS):
            spent = {"clock_seconds": 0.0, "cpu_seconds": 0.0}
            with timed_steps(model, spent):
                ours(model, requests, draft_tokens)()
            rounds.append(spent)
        tokens = sum(request.max_tokens - 1 for request in requests)
        found[name] = {key: min(each[key] for each in rounds) / tokens for key in rounds[0]}
    full, other = (each["cpu_seconds"] for each in found.values())
    return {**found, "speed_ratio": full / other}


@contextmanager
def timed_steps(model: Any, spent: dict[str, float]) -> Iterator[None]:
    """Add up the time of a model's decode steps."""
    step = model._writer._step

    def timed(running: Any) -> None:
        took = measure(lambda: step(running), rounds=1)
        for key in spent:
            spent[key] += took[key]

    model._writer._step = timed
    try:
        yield
    finally:
        model._writer._step = step


def rounded(value: Any) -> Any:
    """The report with three significant digits or so."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
