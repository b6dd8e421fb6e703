"""Five questions on each of some documents: as one batch, asked one after another, and by LangChain's `batch`.

    python -m benchmarks.batch_throughput TEXTS [--documents 20] [--tokens 20000] [--model small] [--out NAME]

TEXTS is a folder of text files; documents are cut from them, and five sentences set into each, which say what is asked.
All three ways begin with the texts indexed and a model that was just opened, and answer the same questions:

(a) `batch`: one run of a batch over the folder.
(b) `asks`: `Book.ask`, one question after another, in one process that keeps library and model.
(c) `langchain`: `batch` of a chain that searches the same index, takes as many of the best passages as the workflow
    does, and has `ChatReadthrough` answer by the same prompt. It decides nothing: the workflow's look at whether the
    passages say the answer is work that (a) and (b) have beyond it.

Prints the times, the ratios, how many answers are right, and what the calls of (b) and (c) took, by kind. On a machine
that does other things as well, take the CPU times; those of calls are of the calling thread, so they hold where
OMP_NUM_THREADS is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import readthrough
from benchmarks.results import write_results
from readthrough.agents.base import Question
from readthrough.agents.reading.answering import ANSWER_TOKENS, PASSAGES, SHORT_ANSWER
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.passages import in_reading_order, numbered, unwrap, within_budget
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.batch.job import Job
from readthrough.batch.running import Listener, run
from readthrough.batch.works import asks
from readthrough.config import Overrides, load_settings
from readthrough.memory.library import Library
from readthrough.models.open import open_model
from readthrough.questions import Asked
from readthrough.types import Event, Usage

FACTS = {
    "Who entered this document in the register?": "This document was entered in the register by {}.",
    "Where is the original of this document kept?": "The original of this document is kept in the archive of {}.",
    "What is the shelf mark of this document?": "The shelf mark of this document is {}.",
    "On which day was this document copied?": "This document was copied on {}.",
    "What did the binding of this document cost?": "The binding of this document cost {}.",
}
"""What is asked of each document, and the sentence in it that says the answer."""
VALUES = (
    ("Ann Weller", "Tom Hale", "Ida Brandt", "Paul Reyes"),
    ("Bergen", "Coimbra", "Leith", "Trieste"),
    ("K4821", "M1170", "R9035", "T2266"),
    ("3 May 1904", "21 March 1911", "8 October 1898", "30 June 1907"),
    ("six shillings", "four guilders", "nine francs", "two crowns"),
)
_CHARACTERS_A_TOKEN = 4


class Clock:
    """Wall time and CPU time since it was made."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()

    def told(self) -> dict[str, float]:
        seconds, cpu = time.monotonic() - self._started, time.process_time() - self._cpu
        return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


@dataclass
class Timed:
    """A model whose calls are timed by kind: how many, their tokens, and their CPU time."""

    spent: dict[str, dict[str, float]] = field(default_factory=dict)

    def wrap(self, model: Any) -> Any:
        """Time the calls of a model from now on."""
        for kind in ("complete", "choose", "likelihood"):
            setattr(model, kind, partial(self._call, kind, getattr(model, kind)))
        return model

    def _call(self, kind: str, call: Callable[..., list[Any]], requests: Sequence[Any], *given: Any) -> list[Any]:
        started = time.thread_time()
        results = call(requests, *given)
        row = self.spent.setdefault(kind, dict.fromkeys(("calls", "requests", "read", "cached", "written", "cpu_s"), 0))
        usage = [result.usage for result in results]
        row["calls"] += 1
        row["requests"] += len(requests)
        row["read"] += sum(each.prompt_tokens - each.cached_tokens for each in usage)
        row["cached"] += sum(each.cached_tokens for each in usage)
        row["written"] += sum(each.completion_tokens for each in usage) if kind == "complete" else 0
        row["cpu_s"] = round(row["cpu_s"] + time.thread_time() - started, 3)
        return results


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="A batch against single asks and LangChain.")
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--model", default="small")
    parser.add_argument("--index", default="hybrid")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    report: dict[str, Any] = {**vars(options), "texts": options.texts.name, "questions": len(FACTS)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_documents(options.texts, folder / "texts", options.documents, options.tokens * _CHARACTERS_A_TOKEN)
        given = {"model": options.model, "index": options.index, "readings_bytes": 0}
        with readthrough.read(folder / "texts", home=folder / "home", **given):
            pass
        for name, way in (("batch", run_batch), ("asks", run_asks), ("langchain", run_langchain)):
            home = shutil.copytree(folder / "home", folder / name)
            report[name] = way(folder / "texts", {**given, "home": home})
    answers = [report[name].pop("answers") for name in ("batch", "asks", "langchain")]
    report["right"] = [right(each) for each in answers]
    report["answers"] = len(answers[1])
    report["same_answers"] = sum(answers[0].get(asked) == said for asked, said in answers[1].items())
    for clock in ("seconds", "cpu_seconds"):
        for other in ("asks", "langchain"):
            report[f"{other}_to_batch_{clock}"] = round(report[other][clock] / report["batch"][clock], 2)
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def write_documents(texts: Path, folder: Path, count: int, characters: int) -> None:
    """Cut `count` documents of so many characters."""
    folder.mkdir()
    sources = "\n\n".join(path.read_text(encoding="utf-8-sig") for path in sorted(texts.rglob("*.txt")))
    if len(sources) < count * characters:
        raise SystemExit(f"{texts} has {len(sources):,} characters, {count * characters:,} are needed")
    for number in range(count):
        paragraphs = sources[number * characters : (number + 1) * characters].split("\n\n")
        for place, (sentence, values) in enumerate(zip(FACTS.values(), VALUES, strict=True)):
            said = sentence.format(values[(number + place) % len(values)])
            paragraphs.insert(len(paragraphs) * (2 * place + 1) // (2 * len(FACTS)), said)
        (folder / f"{number:03}.txt").write_text("\n\n".join(paragraphs))


def right(answers: dict[str, str]) -> int:
    """How many answers say what the document does."""
    count = 0
    for asked, said in answers.items():
        name, _, question = asked.partition(": ")
        place = list(FACTS).index(question)
        count += VALUES[place][(int(name.partition(".")[0]) + place) % len(VALUES[place])] in said
    return count


def run_batch(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """(a), from when the model is open."""
    rows = folder.with_name("rows.jsonl")
    job = Job(folder, tuple(asks(Asked(question) for question in FACTS)), rows)
    opened: list[Clock] = []

    def hear(event: Event) -> None:
        if event.stage == "batch" and not opened:
            opened.append(Clock())

    outcome = run(job, load_settings(cast(Overrides, given)).settings, Listener(hear))
    told = opened[0].told()
    lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    answers = {f"{line['document']}: {line['question']}": line["answer"] for line in lines}
    return {**told, "answers": answers, "usage": asdict(outcome.usage)}


def run_asks(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """(b), with what its calls took."""
    timed = Timed()
    model = timed.wrap(open_model(given["model"], readings_bytes=0))
    answers, usage, clock = {}, Usage(), Clock()
    for path in sorted(folder.iterdir()):
        with readthrough.read(path, **{**given, "model": model}) as book:
            for question in FACTS:
                answer = book.ask(question)
                answers[f"{path.name}: {question}"] = answer.answer
                usage += answer.usage
    return {**clock.told(), "answers": answers, "usage": asdict(usage), "calls": timed.spent}


def run_langchain(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """(c), with what its calls took."""
    from langchain_core.runnables import RunnableLambda

    from readthrough.langchain import ChatReadthrough

    timed = Timed()
    model = timed.wrap(open_model(given["model"], readings_bytes=0))
    library = Library.open(given["home"])
    flow, clock = Retrieve(), Clock()
    shelves = {path.name: library.shelve([path], vectors=given["index"] != "bm25") for path in sorted(folder.iterdir())}

    def prompt(asked: tuple[str, str]) -> str:
        shelf = shelves[asked[0]]
        found = find_chunks(shelf, Question(asked[1]), given["index"], flow.k)
        kept = within_budget(found, shelf.count_tokens(model), flow.passage_tokens)
        chunks = in_reading_order(shelf.get(kept), shelf.document_ids())
        material = PASSAGES.format(passages=numbered(unwrap(chunk.text) for chunk in chunks))
        return SHORT_ANSWER.format(material=material, question=asked[1])

    chain = RunnableLambda(prompt) | ChatReadthrough(model=model, max_tokens=ANSWER_TOKENS)
    asked = [(name, question) for name in shelves for question in FACTS]
    said = chain.batch(asked)
    told = clock.told()
    library.close()
    answers = {f"{name}: {question}": str(reply.text) for (name, question), reply in zip(asked, said, strict=True)}
    return {**told, "answers": answers, "calls": timed.spent}


if __name__ == "__main__":
    main()
