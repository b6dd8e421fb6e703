"""Replies to given prompts by kvpress, in its own environment: read by `benchmarks.kvpress_scores`.

    python kvpress_prompts.py MODEL_FOLDER PROMPTS.jsonl REPLIES.jsonl

A row of PROMPTS has `key`, `prompt` (with its chat template), `press` (`snapkv` or `streaming`), `kept_tokens` or
`kept_ratio`, and `max_tokens`. A prompt is read whole, all but its last token, and compressed; then the reply is
written greedily. A row that REPLIES has already is not asked again.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from kvpress import KVPressTextGenerationPipeline, SnapKVPress, StreamingLLMPress
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

SINK_TOKENS = 4


def main() -> None:
    """Answer every row that is not answered yet."""
    folder, prompts, replies = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    done = {json.loads(line)["key"] for line in replies.read_text().splitlines()} if replies.exists() else set()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipe = KVPressTextGenerationPipeline(model=model, tokenizer=tokenizer)
    for line in prompts.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["key"] not in done:
            with torch.inference_mode(), replies.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": row["key"], **answer(pipe, row)}) + "\n")


def answer(pipe: Any, row: dict[str, Any]) -> dict[str, Any]:
    """One reply, the seconds for it, and what the compressed cache holds."""
    ids = pipe.tokenizer.encode(row["prompt"], return_tensors="pt", add_special_tokens=False)
    context, last = ids[:, :-1], ids[:, -1:]
    tokens = context.shape[1]
    kept = row.get("kept_tokens") or row["kept_ratio"] * tokens
    evicted = max(0.0, 1 - kept / tokens)
    press = SnapKVPress(evicted) if row["press"] == "snapkv" else StreamingLLMPress(evicted, SINK_TOKENS)
    cache, started = DynamicCache(), time.perf_counter()
    with press(pipe.model):
        pipe.model.model(input_ids=context, past_key_values=cache)
    read = time.perf_counter() - started
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    reply = pipe.generate_answer(last, cache, tokens, row["max_tokens"])
    seconds = time.perf_counter() - started
    return {"reply": reply, "kv_bytes": size, "read_seconds": read, "seconds": seconds, "tokens": ids.shape[1]}


if __name__ == "__main__":
    main()
