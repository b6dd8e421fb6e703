"""Which heads of a model retrieve: how often each copies from a text what the model writes.

    python -m readthrough.models.local.heads MODEL TEXT FILE [--tokens 2000]

Source: Wu et al., "Retrieval Head Mechanistically Explains Long-Context Factuality", arXiv 2404.15574, and its code: a
sentence is put into a text at several depths and asked for. A head copies where the key of its largest attention is
in the sentence, of the token that is written next; its score is the mean, over answers that have more than half
of the words asked for, of its copies as a share of their tokens. Differs: the sentences are our own, texts are
of one length.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from readthrough.errors import ModelError
from readthrough.models.base import Request
from readthrough.models.local.attention import Batch
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.jobs import Job, ignore_logits

NEEDLES = (
    (
        "The gardener at Holm keeps the spare key of the greenhouse under the third blue flowerpot beside the well.",
        "Where does the gardener at Holm keep the spare key of the greenhouse?",
        "under the third blue flowerpot beside the well",
    ),
    (
        "The best way to spend an evening in Velden is to row to the island and eat smoked trout by the lantern.",
        "What is the best way to spend an evening in Velden?",
        "row to the island and eat smoked trout by the lantern",
    ),
    (
        "Captain Orla never sails on a Tuesday because her brother once lost a silver compass in a storm that day.",
        "Why does Captain Orla never sail on a Tuesday?",
        "her brother once lost a silver compass in a storm that day",
    ),
)
"""A sentence, what is asked about it, and the part of it that answers."""
DEPTHS = (0.1, 0.5, 0.9)
WRITTEN_TOKENS = 50
RECALL_LEAST = 0.5


@dataclass(slots=True)
class Copies:
    """What one answer shows.

    Attributes:
        shares: the share of the sentence's tokens that each head copied, `[layers, heads]`.
        written: the tokens of the answer.
    """

    shares: torch.Tensor
    written: list[int] = field(default_factory=list)


def retrieval_scores(
    model: LocalModel, text: str, tokens: int, told: Callable[[str], None] = lambda line: None
) -> torch.Tensor:
    """The scores of all query heads, `[layers, heads]`, by sentences in the first `tokens` tokens of a text.

    Raises:
        ModelError: the model answered none of the questions.
    """
    tokenizer = model._loaded.tokenizer
    ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    text = text[: ends[min(tokens, len(ends)) - 1][1]]
    found = []
    for sentence, question, answer in NEEDLES:
        for depth in DEPTHS:
            at = text.rfind(". ", 0, max(2, int(depth * len(text)))) + 2
            asked = (
                f"<book>{text[:at]}{sentence} {text[at:]}</book>\nBased on the book: {question} Answer in its words."
            )
            copies = copied(model, model._prompts.render(Request.user(asked)), answer)
            reply = tokenizer.decode(copies.written, skip_special_tokens=True)
            if recall(answer, reply) > RECALL_LEAST:
                found.append(copies.shares)
            told(f"{len(found)} answered; at {depth}: {reply.strip()!r}")
    if not found:
        raise ModelError(f"{model.name} answered none of the questions", hint="take a shorter text")
    return torch.stack(found).mean(0)


@torch.inference_mode()
def copied(model: LocalModel, prompt: str, answer: str) -> Copies:
    """Write a reply to a prompt, and count what of `answer`, the last time that it stands there, each head copies."""
    engine, loaded = model._engine, model._loaded
    coded = loaded.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    start = prompt.rindex(answer)
    here = [i for i, (a, b) in enumerate(coded["offset_mapping"]) if b > start and a < start + len(answer)]
    needle = range(here[0], here[-1] + 1)
    tokens = np.asarray(coded["input_ids"], dtype=np.int64)
    job = Job(tokens[:-1], len(tokens) - 1, ignore_logits)
    engine.run([job])
    sequence = job.sequence.fork(reserve_tokens=WRITTEN_TOKENS + 1)
    heads = int(loaded.model.config.get_text_config().num_attention_heads)
    copies, best = Copies(torch.zeros(loaded.layers, heads)), torch.zeros(loaded.layers, heads, dtype=torch.long)

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        keys, _ = sequence.gather(layer, 1)
        rows = q[:, :1].reshape(keys.shape[0], -1, q.shape[-1])
        best[layer] = (rows @ keys.transpose(1, 2)).flatten(0, 1).argmax(-1).cpu()

    last = int(tokens[-1])
    while len(copies.written) < WRITTEN_TOKENS:
        batch = Batch.pack([(sequence, 1)])
        batch.watch = watch
        last = int(engine.forward(batch, [np.array([last])], np.arange(1))[0].argmax())
        sequence.commit(1)
        if last in loaded.eos_ids:
            break
        copies.written.append(last)
        there = torch.tensor([place for place in needle if tokens[place] == last], dtype=torch.long)
        copies.shares += torch.isin(best, there).float() / len(needle)
    return copies


def recall(answer: str, reply: str) -> float:
    """The share of the answer's words that stand in a reply."""
    words, said = (re.findall(r"\w+", each.lower()) for each in (answer, reply))
    return fmean(word in said for word in words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a model's heads, and write the file."""
    parser = argparse.ArgumentParser(description="Measure which heads of a model retrieve.")
    parser.add_argument("model", help="an embedded model's name, a folder or a hub id")
    parser.add_argument("text", type=Path, help="a text in which sentences are hidden")
    parser.add_argument("file", type=Path, help="the calibration that is written")
    parser.add_argument("--tokens", type=int, default=2000, help="how much of the text is read")
    options = parser.parse_args(arguments)
    model = LocalModel(options.model)
    text = " ".join(options.text.read_text(encoding="utf-8").split())
    scores = retrieval_scores(model, text, options.tokens, lambda line: print(line, file=sys.stderr))  # noqa: T201
    known = {"model": options.model, "tokens": options.tokens, "answers": len(NEEDLES) * len(DEPTHS)}
    rows = [[round(score, 4) for score in layer] for layer in scores.tolist()]
    options.file.write_text(json.dumps({**known, "scores": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
