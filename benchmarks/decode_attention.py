"""Attention of one new token over much that is kept: the engine's kernels against torch's own, layer by layer.

    python -m benchmarks.decode_attention [--tokens 32768] [--out NAME]

Random keys and values of the small model's shape (24 layers, 14/2 heads, 64 channels, bf16), different ones in every
layer, so that no layer finds them in the processor's cache. Milliseconds a layer, by the clock and by CPU time over the
number of threads; the best of several rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.results import write_results
from readthrough.compression.selectors.page_bound import PageBound
from readthrough.kernels.attention import attend, attend_newest
from readthrough.kernels.gathered import attend_split
from readthrough.models.local.cache import CompressedBlock, KeptKV, Sequence
from readthrough.models.local.paging import attend_chosen

LAYERS, HEADS, KV_HEADS, WIDTH = 24, 14, 2, 64
SCALE = WIDTH**-0.5
ROUNDS = 7


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Attention of one new token over much that is kept.")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    with torch.inference_mode():
        report = {"tokens": options.tokens, "layers": LAYERS, "milliseconds_a_layer": compared(options.tokens)}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def compared(tokens: int) -> dict[str, dict[str, float]]:
    """What each way takes."""
    torch.manual_seed(0)
    sequence = Sequence(reserve_tokens=tokens + 64)
    for layer in range(LAYERS):
        sequence.append(layer, *(torch.randn(KV_HEADS, tokens, WIDTH, dtype=torch.bfloat16) for _ in range(2)))
    sequence.commit(tokens)
    q = torch.randn(HEADS, 1, WIDTH, dtype=torch.bfloat16)
    for layer in range(LAYERS):
        sequence.append(layer, *(torch.randn(KV_HEADS, 1, WIDTH, dtype=torch.bfloat16) for _ in range(2)))
    past = [sequence.tail.read(layer, tokens) for layer in range(LAYERS)]
    padded = [sequence.tail.read(layer, tokens + 16) for layer in range(LAYERS)]
    selector = PageBound(budget_tokens=tokens // 16, dense_layers=0)

    def transformers(layer: int) -> Any:
        keys, values = past[layer]
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return sdpa(q[None], keys[None], values[None], scale=SCALE, enable_gqa=True)

    ways: dict[str, Callable[[int], Any]] = {
        "transformers (sdpa, enable_gqa)": transformers,
        "engine, own tokens": lambda layer: attend_newest(q, *padded[layer], tokens=tokens + 1, scale=SCALE),
        "engine, shared prefix": lambda layer: attend(q, *past[layer], causal=False, scale=SCALE),
        "split over cores": lambda layer: attend_split(q, *past[layer], scale=SCALE),
        "page-bound, 1/16 of the tokens": lambda layer: attend_chosen(selector, sequence, layer, q, SCALE),
    }
    for form in ("int8", "int4"):
        block = packed(past, form)
        ways[form] = lambda layer, block=block: block.attend(layer, tokens, q, SCALE)  # type: ignore[misc]
    return {name: milliseconds(way) for name, way in ways.items()}


def packed(past: list[Any], form: Any) -> CompressedBlock:
    """All of it, packed."""
    from readthrough.compression.store import Store

    tokens = past[0][0].shape[1]
    positions = (torch.arange(tokens, dtype=torch.int32),) * KV_HEADS
    kept = [KeptKV(tuple(keys), tuple(values), positions) for keys, values in past]
    return CompressedBlock(KV_HEADS, ragged=False, store=Store(form)).extended(0, tokens, kept)


def milliseconds(way: Callable[[int], Any]) -> dict[str, float]:
    """The best round over all layers, a layer."""
    clock, cpu = [], []
    for _ in range(ROUNDS):
        before, cpu_before = time.perf_counter(), time.process_time()
        for layer in range(LAYERS):
            way(layer)
        clock.append(1000 * (time.perf_counter() - before) / LAYERS)
        cpu.append(1000 * (time.process_time() - cpu_before) / torch.get_num_threads() / LAYERS)
    return {"clock": round(min(clock), 3), "cpu": round(min(cpu), 3)}


if __name__ == "__main__":
    main()
