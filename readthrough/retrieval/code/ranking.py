"""Files and definitions of a graph by how much they matter: for a question, or for all of the files."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from readthrough.retrieval.analysis import parts
from readthrough.retrieval.code.graph import CodeGraph, Edges
from readthrough.retrieval.pagerank import pagerank

Span = tuple[str, int, int]
"""A place that a search found: the id of a document, start, end."""

NAMED_RATIO = 10.0
"""How much more an edge counts whose name stands in the question."""
OWN_RATIO = 0.3
"""How much a file's use of its own definition counts against that of another's."""
DAMPING = 0.85
ASKED_DAMPING = 0.5
"""A question is answered near to where it leads, not at what all code rests on."""
BASE_SHARE = 0.1
"""Of the walk's returns with a question, those that go to any file."""
FILE_SHARE = 0.02
"""Of a file's rank, what its definitions get though nothing refers to them."""
TEST_RATIO = 0.3
"""How much a file of tests counts for a question that does not speak of tests."""

_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|specs?|__tests__)/|(?:^|/)(?:test_|conftest)|(?:_test|[.]test|[.]spec|Tests?)[.]\w+$"
)
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Ranking:
    """The ranks of files `[F]`, which sum to 1, and the scores of definitions `[D]`, float64."""

    files: np.ndarray
    definitions: np.ndarray

    def order(self) -> list[int]:
        """The numbers of the definitions, best first; equal ones in the order of their files."""
        return [int(number) for number in np.argsort(-self.definitions, kind="stable")]


def rank(graph: CodeGraph, question: str = "", found: Sequence[Span] = ()) -> Ranking:
    """Rank by personalised PageRank: the walk goes back to what the question names, and to what a search found.

    Args:
        graph: the files; at least one.
        question: any text; empty for what matters to the files as a whole.
        found: what a search found for the question, best first.
    """
    edges = graph.edges
    direct = _asked(graph, question, found)
    weights = edges.weights.copy()
    if question:
        named = np.array([name in set(_IDENTIFIER.findall(question)) for name in graph.names], dtype=bool)
        uses = edges.names >= 0
        weights[uses] *= np.where(named[edges.names[uses]], NAMED_RATIO, 1.0)
    file_of = np.array(graph.file_of, dtype=np.int64)
    count = len(graph.files)
    restart = np.full(count, 1 / count)
    if direct is not None:
        asked = np.bincount(file_of, direct[0], count) + direct[1]
        restart = BASE_SHARE * restart + (1 - BASE_SHARE) * asked / asked.sum()
    damping = DAMPING if direct is None else ASKED_DAMPING
    other = edges.sources != edges.targets
    files = pagerank(edges.sources[other], edges.targets[other], weights[other], restart, damping)
    scores = damping * _flow(edges, weights, other, files, len(file_of))
    if direct is not None:
        scores += (1 - damping) * direct[0] / (direct[0].sum() + direct[1].sum())
    own = np.bincount(file_of, minlength=count)
    scores += FILE_SHARE * files[file_of] / np.maximum(own[file_of], 1)
    return Ranking(files, scores)


def _flow(edges: Edges, weights: np.ndarray, other: np.ndarray, files: np.ndarray, count: int) -> np.ndarray:
    """What of the ranks of the files goes along their edges to each definition `[D]`."""
    weights = np.where(other, weights, OWN_RATIO * weights)
    out = np.bincount(edges.sources, weights, len(files))
    uses = edges.definitions >= 0
    sources = edges.sources[uses]
    return np.bincount(edges.definitions[uses], files[sources] * weights[uses] / out[sources], count)


def _asked(graph: CodeGraph, question: str, found: Sequence[Span]) -> tuple[np.ndarray, np.ndarray] | None:
    """What a question leads to: shares of definitions `[D]`, and of files `[F]`; None where it leads nowhere."""
    definitions, files = np.zeros(len(graph.definitions)), np.zeros(len(graph.files))
    for places in (_named(graph, question), _found(graph, found)):
        listed = list(places)
        total = sum(weight for _, _, weight in listed)
        for number, is_file, weight in listed:
            (files if is_file else definitions)[number] += weight / total
    if not asks_for_tests(question):
        tests = np.array([is_test(file.path) for file in graph.files])
        files[tests] *= TEST_RATIO
        definitions[tests[np.array(graph.file_of, dtype=np.int64)]] *= TEST_RATIO
    return (definitions, files) if definitions.any() or files.any() else None


def is_test(path: str) -> bool:
    """Whether a source file holds tests, by its path."""
    return _TESTS.search(path) is not None


def asks_for_tests(question: str) -> bool:
    """Whether a question speaks of tests."""
    return "test" in _words(question)


def _named(graph: CodeGraph, question: str) -> Iterator[tuple[int, bool, float]]:
    """Definitions and files whose names the question has, whole or in words, as (number, is a file, weight)."""
    whole = set(_IDENTIFIER.findall(question))
    words = set(_words(question))
    if not words:
        return
    names = {name: _words(name) for name in {made.name for made in graph.definitions}}
    paths = [_words(file.path.rpartition("/")[2].partition(".")[0]) for file in graph.files]
    named = {(file, name) for file, name in zip(graph.file_of, (made.name for made in graph.definitions), strict=True)}
    shared = {name: words.intersection(held) for name, held in names.items()}
    having = {(file, word) for file, name in named for word in shared[name]}
    having.update((file, word) for file, held in enumerate(paths) for word in words.intersection(held))
    spread = Counter(word for _, word in having)
    rarity = {word: math.log1p(len(graph.files) / max(1, spread[word])) for word in words}
    fits = {name: _fit(held, words, rarity) for name, held in names.items()}
    for name in whole & names.keys():
        if len(name) > 1:
            compound = len(names[name]) > 1 or not name.islower()
            fits[name] = NAMED_RATIO * max(fits[name], 1.0) if compound else 2 * fits[name]
    for number, made in enumerate(graph.definitions):
        if fits[made.name]:
            yield number, False, fits[made.name] ** 2
    for number, held in enumerate(paths):
        fit = _fit(held, words, rarity)
        if fit:
            yield number, True, fit * fit


def _fit(name: Sequence[str], words: set[str], rarity: dict[str, float]) -> float:
    """How well a name fits the words: the telling of those that it has, less for those that it has besides."""
    shared = [word for word in dict.fromkeys(name) if word in words]
    return sum(rarity[word] for word in shared) * len(shared) / len(set(name)) if shared else 0.0


def _words(text: str) -> list[str]:
    """The words in a text, those of identifiers apart, without the ends of plurals."""
    found = (part.lower() for word in _IDENTIFIER.findall(text) for part in parts(word))
    return [word.removesuffix("s") if len(word) > 3 else word for word in found if len(word) > 1]


def _found(graph: CodeGraph, found: Sequence[Span]) -> Iterator[tuple[int, bool, float]]:
    """Definitions (files, where there are none) at the places that were found, by their rank among these."""
    for place, (document, start, end) in enumerate(found, 1):
        file = graph.number(document)
        if file is None:
            continue
        inner = graph.innermost(file, start, end)
        for number in inner:
            yield number, False, 1 / place / len(inner)
        if not inner:
            yield file, True, 1 / place
