"""Recall of the right passages: keywords, vectors, both, in hops, over a graph of names, and what a model adds.

    python -m benchmarks.passages_recall DATA_FOLDER --home FOLDER [--model small --questions 8] [--out NAME]

With a model: what it reranks, and with `--trees` what trees of its summaries find, searched as a heap and walked (they
are grown before anything is measured, which reads every document and takes long; they stay in the library).

Of the rows of DATA_FOLDER those count that say where their answer stands: `evidence` (files of a folder),
`evidence_text` (places of a document; each sentence of one is a place), and the answers of contracts and natural
questions that can be found in the document word for word. A place is found where one of the chunks that hold it is.

Prints for each set of rows and each system: recall at 5 and 10, nDCG at 10, the share of the questions with several
places that have all of them found at 10, and seconds of processor time a question.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.documents.sentences import sentence_spans
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend
from readthrough.retrieval.indexes.tree import TreeIndex
from readthrough.retrieval.indexes.walk import WalkIndex
from readthrough.retrieval.reranking import Budget, rerank
from readthrough.retrieval.trees.growing import Grower
from readthrough.spec import build

INDEXES = ("bm25", "bm25-feedback", "vectors", "hybrid", "hops", "entity-graph")
FILES = {
    "musique": "musique_folder.jsonl",
    "loogle": "loogle_wiki.jsonl",
    "contracts": "contracts.jsonl",
    "natural questions": "natural_questions.jsonl",
}
ANSWERS_ARE_PLACES = ("contracts", "natural questions")
PLACE_CHARACTERS = 12
CANDIDATES = 40
MOST_TREE_TOKENS = 5_000_000

Ranker = Callable[[Shelf, str], list[int]]


@dataclass(frozen=True)
class Asked:
    """A question, the texts it is asked about, and for each of its places the chunks that hold it."""

    question: str
    shelf: Shelf
    places: list[frozenset[int]]


def main() -> None:
    """Index, search, print, and write where asked to."""
    parser = argparse.ArgumentParser(description="Recall of the right passages.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--model", help="rerank with this model too")
    parser.add_argument("--rerank", default="likelihood", help="rerankers, by commas")
    parser.add_argument("--trees", action="store_true", help="grow trees of summaries with the model, and search them")
    parser.add_argument("--questions", type=int, help="at most so many of each set, evenly spread")
    parser.add_argument("--sets", default=",".join(FILES), help="which sets, by commas")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    library = Library.open(options.home)
    systems: dict[str, Ranker] = {index: searched(index) for index in INDEXES}
    model: ModelBackend | None = None
    if options.model:
        from readthrough.models.open import open_model

        model = open_model(options.model)
        for name in filter(None, options.rerank.split(",")):
            for index in ("hybrid", "hops"):
                systems[f"{index} + {name}"] = reranked(index, name, model)
    report: dict[str, Any] = {}
    for name in options.sets.split(","):
        asked = spread(list(questions(library, options.data, name)), options.questions)
        report[name] = {"questions": len(asked)}
        grown = wooded(asked, model) if options.trees and model else {}
        for system, ranker in {**systems, **grown}.items():
            report[name][system] = measure(asked, ranker)
            print(f"{name:18} {len(asked):3} {system:22}", json.dumps(report[name][system]), flush=True)
    if options.out:
        write_results(options.out, {"model": options.model, **report})


def measure(asked: Sequence[Asked], ranker: Ranker) -> dict[str, float | None]:
    """The means over all questions."""
    started = time.process_time()
    ranked = [ranker(each.shelf, each.question) for each in asked]
    seconds = (time.process_time() - started) / max(1, len(asked))
    several = [(each, chunks) for each, chunks in zip(asked, ranked, strict=True) if len(each.places) > 1]

    def mean(found: Sequence[float]) -> float | None:
        return round(statistics.fmean(found), 3) if found else None

    return {
        **{
            f"recall_at_{k}": mean([recall(e.places, c[:k]) for e, c in zip(asked, ranked, strict=True)])
            for k in (5, 10)
        },
        "ndcg_at_10": mean([ndcg(each.places, chunks) for each, chunks in zip(asked, ranked, strict=True)]),
        "all_found_at_10": mean([float(recall(each.places, chunks[:10]) == 1.0) for each, chunks in several]),
        "processor_seconds": round(seconds, 3),
    }


def recall(places: Sequence[frozenset[int]], chunks: Sequence[int]) -> float:
    """The share of the places that some chunk holds."""
    return sum(not place.isdisjoint(chunks) for place in places) / len(places)


def ndcg(places: Sequence[frozenset[int]], chunks: Sequence[int], k: int = 10) -> float:
    """Normalised discounted cumulative gain at `k`: a chunk gains 1 where it holds a place that none before it held."""
    left, gain = list(places), 0.0
    for rank, chunk in enumerate(chunks[:k], start=1):
        rest = [place for place in left if chunk not in place]
        gain += (len(rest) < len(left)) / math.log2(rank + 1)
        left = rest
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(len(places), k) + 1))


def searched(index: str) -> Ranker:
    """An index of the catalogue as it is."""
    return lambda shelf, question: [hit.chunk.id for hit in shelf.search(question, CANDIDATES, index)]


def reranked(index: str, name: str, model: ModelBackend) -> Ranker:
    """What an index finds, in the order of a reranker."""
    reranker = build("rerankers", name)

    def ranker(shelf: Shelf, question: str) -> list[int]:
        found = searched(index)(shelf, question)
        texts = [shown(chunk.text) for chunk in shelf.get(found)]
        order = rerank(reranker, model, question, texts, Budget(CANDIDATES))
        return [found[place] for place in order]

    return ranker


def wooded(asked: Sequence[Asked], model: ModelBackend) -> dict[str, Ranker]:
    """Trees over the documents of some questions: searched by vectors, and walked by the model's likelihoods."""
    grower = Grower(most_tokens=MOST_TREE_TOKENS)
    shelves = {id(each.shelf): each.shelf for each in asked}
    trees = {key: grower.grow(shelf, model, shown=shown) for key, shelf in shelves.items()}

    def heap(shelf: Shelf, question: str) -> list[int]:
        return [chunk for chunk, _ in TreeIndex(shelf, trees[id(shelf)]).search(question, CANDIDATES)]

    def walk(shelf: Shelf, question: str) -> list[int]:
        index = WalkIndex(shelf, trees[id(shelf)], model, shown=shown)
        return [chunk for chunk, _ in index.search(question, CANDIDATES)]

    return {"tree": heap, "walk": walk}


def shown(text: str) -> str:
    """A text as it stands in a prompt."""
    return as_data(unwrap(text))


def questions(library: Library, data: Path, name: str) -> Iterator[Asked]:
    """The questions of a set that say where their answers stand."""
    shelves: dict[str, Shelf] = {}
    for line in (data / FILES[name]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["doc"] not in shelves:
            shelves[row["doc"]] = library.shelve([str(data / "docs" / row["doc"])])
        shelf = shelves[row["doc"]]
        places = list(places_of(row, shelf, name in ANSWERS_ARE_PLACES))
        if places:
            yield Asked(row["question"], shelf, list(dict.fromkeys(places)))


def places_of(row: dict[str, Any], shelf: Shelf, answers: bool) -> Iterator[frozenset[int]]:
    """For each place of a row the chunks that hold some of it; places that are not found are left out."""
    wanted = {Path(name).name for name in row.get("evidence", [])}
    for entry in shelf.documents:
        if Path(entry.path).name in wanted:
            yield frozenset(shelf.chunk_ids(entry.id))
    given = row.get("evidence_text", row["answers"] if answers else [])
    for text in [given] if isinstance(given, str) else given:
        for start, end in sentence_spans(text):
            held = frozenset(holding(shelf, text[start:end]))
            if held:
                yield held


def holding(shelf: Shelf, text: str) -> Iterator[int]:
    """The chunks that hold some of a text, wherever it stands letter for letter; marks and spaces aside."""
    wanted = "".join(map(_small, re.findall(r"\w", text)))
    if len(wanted) < PLACE_CHARACTERS:
        return
    for entry in shelf.documents:
        letters = [(match.group(), match.start()) for match in re.finditer(r"\w", shelf.document(entry.id).text)]
        folded = "".join(_small(letter) for letter, _ in letters)
        at = folded.find(wanted)
        while at >= 0:
            start, end = letters[at][1], letters[at + len(wanted) - 1][1] + 1
            yield from (c.id for c in shelf.chunks(entry.id) if c.start < end and c.end > start)
            at = folded.find(wanted, at + 1)


def _small(letter: str) -> str:
    """One letter for one, so that places in a text stay: that of `ß` is an s."""
    return letter.casefold()[:1]


def spread(asked: list[Asked], most: int | None) -> list[Asked]:
    """At most `most` of the questions, evenly spread."""
    if most is None or len(asked) <= most:
        return asked
    return [asked[place * len(asked) // most] for place in range(most)]


if __name__ == "__main__":
    main()
