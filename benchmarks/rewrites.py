"""Writing a memory anew, again and again, with prompt-lookup drafts and without: a whole run of `memory-agent`.

    python -m benchmarks.rewrites [--text FILE --question TEXT] [--model NAME] [--tokens N] [--out NAME]

Both runs start from cold, in turns, and must write the same. `speed_ratio` compares the tokens written a second of
processor time over the whole run, reading included; `writing_ratio` over the passes that write; `passes_ratio` says
how many passes a draft saves.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import readthrough as rt
from benchmarks.results import write_results
from examples.demo import write_books
from readthrough.models.local.backend import LocalModel

QUESTION = "Whom did Isaac bless, and why did his brother hate him for it?"


@dataclass
class Taken:
    """What one run took: processor and wall seconds, of them in passes that write, and how many of these there were."""

    cpu_seconds: float = 0.0
    clock_seconds: float = 0.0
    writing_cpu_seconds: float = 0.0
    passes: int = 0
    tokens: int = 0
    prompt_tokens: int = 0


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Rewrites of a memory with prompt-lookup drafts.")
    parser.add_argument("--text", type=Path, help="a file; Genesis where left out")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--tokens", type=int, default=20_000, help="how much of the text is read, about")
    parser.add_argument("--section", type=int, default=5000, help="the most tokens of a section")
    parser.add_argument("--memory", type=int, default=1024, help="the most tokens of the memory")
    parser.add_argument("--out", help="name of the results file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, closing(LocalModel(options.model, device="cpu")) as model:
        whole = options.text or write_books(Path(folder) / "genesis.txt")
        text = whole.read_text(encoding="utf-8")
        path = Path(folder) / "text.txt"
        path.write_text(text[: len(text) * options.tokens // max(options.tokens, model.count_tokens([text])[0])])
        sizes = {"chunk_tokens": options.section, "memory_tokens": options.memory, "gate_below": None}
        runs = {
            name: taken(model, path, Path(folder) / name, options.question, sizes, most)
            for name, most in (("without", 0), ("with", model.draft_tokens))
        }
    without, with_drafts = (runs[name][0] for name in ("without", "with"))
    report: dict[str, Any] = {
        "model": options.model,
        "question": options.question,
        "section_tokens": options.section,
        "same_texts": runs["without"][1] == runs["with"][1],
        "rewrites": len(runs["with"][1]) - 1,
        **{name: asdict(found) for name, (found, _) in runs.items()},
        "speed_ratio": _rate(with_drafts, "cpu_seconds") / _rate(without, "cpu_seconds"),
        "writing_ratio": _rate(with_drafts, "writing_cpu_seconds") / _rate(without, "writing_cpu_seconds"),
        "passes_ratio": without.passes / with_drafts.passes,
    }
    for name, value in report.items():
        print(f"{name}: {value}")
    if options.out:
        print(write_results(options.out, report))


def taken(
    model: LocalModel, path: Path, home: Path, question: str, sizes: dict[str, Any], draft_tokens: int
) -> tuple[Taken, list[str]]:
    """One run from cold: what it took, and the memories and the answer that it wrote."""
    found, writer = Taken(), model._writer
    limits, step = writer.limits, writer._step

    def counted(running: Any) -> None:
        started = time.process_time()
        step(running)
        found.passes += 1
        found.writing_cpu_seconds += time.process_time() - started

    model.close()
    with rt.read(path, model=model, home=home, index="bm25", keep_replies=False) as book:
        writer.limits, writer._step = replace(limits, draft_tokens=draft_tokens), counted  # type: ignore[method-assign]
        clock, cpu = time.perf_counter(), time.process_time()
        try:
            answer = book.ask(question, workflow={"memory-agent": sizes})
        finally:
            writer.limits, writer._step = limits, step  # type: ignore[method-assign]
        found.cpu_seconds, found.clock_seconds = time.process_time() - cpu, time.perf_counter() - clock
        found.tokens, found.prompt_tokens = answer.usage.completion_tokens, answer.usage.prompt_tokens
        steps = [step for step in book.runs.steps(answer.run) if step.node == "read"]
        memories = [book.runs.get(step.texts[0]) for step in steps]
    return found, [*memories, answer.answer]


def _rate(run: Taken, seconds: str) -> float:
    """Tokens written a second."""
    return run.tokens / max(1e-9, float(getattr(run, seconds)))


if __name__ == "__main__":
    main()
