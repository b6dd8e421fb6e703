"""A graph of passages and the names in them, and where a walk from some of both comes to.

A name is joined to every passage that holds it, and to the names that share a sentence (or a written fact) with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from readthrough.retrieval.entities import normalise
from readthrough.retrieval.pagerank import pagerank

_WORD = re.compile(r"\w+(?:[-'\u2019]\w{2,})*")
_NAME_WORDS = 6
_BLOCK_ROWS = 1024

Together = Sequence[Sequence[str]]
"""Names of one passage, in the groups in which they stand together."""

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sources, targets and weights, each `[E]`."""


@dataclass(frozen=True, slots=True)
class PassageGraph:
    """Nodes are passages, numbered as they were given, and behind them names.

    Attributes:
        passages: how many passages there are.
        names: the node of each name.
        holders: how many passages hold each name, in the order of `names`.
        edges: in both directions.
    """

    passages: int
    names: Mapping[str, int]
    holders: np.ndarray
    edges: Edges

    @classmethod
    def of(cls, passages: Sequence[Together]) -> PassageGraph:
        """The graph of passages, each given by its names.

        An edge between a passage and a name weighs 1; a name shares out another 1 among those of its group, a group.
        """
        count = len(passages)
        names: dict[str, int] = {}
        held: list[tuple[int, int]] = []
        beside: Counter[tuple[int, int]] = Counter()
        for passage, groups in enumerate(passages):
            numbered = [[names.setdefault(name, count + len(names)) for name in group] for group in groups]
            held += [(passage, name) for name in dict.fromkeys(name for group in numbered for name in group)]
            for group in numbered:
                for pair in permutations(group, 2):
                    beside[pair] += 1 / (len(group) - 1)  # type: ignore[assignment]  # a Counter of floats
        ends = np.array([*held, *((name, passage) for passage, name in held), *beside], dtype=np.int64).reshape(-1, 2)
        weights = np.array([*[1.0] * (2 * len(held)), *beside.values()])
        holders = np.bincount([name - count for _, name in held], minlength=len(names))
        return cls(count, names, holders, (ends[:, 0], ends[:, 1], weights))

    def with_synonyms(self, vectors: np.ndarray, above: float) -> PassageGraph:
        """The graph with an edge between names whose unit vectors `[len(names), D]` have a cosine of `above` or more.

        The edge weighs the cosine.
        """
        found: list[Edges] = [self.edges]
        for start in range(0, len(vectors), _BLOCK_ROWS):
            cosines = vectors[start : start + _BLOCK_ROWS] @ vectors.T
            rows, columns = np.nonzero(cosines >= above)
            other = rows + start != columns
            rows, columns = rows[other], columns[other]
            found.append((rows + start + self.passages, columns + self.passages, cosines[rows, columns]))
        joined = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
        return PassageGraph(self.passages, self.names, self.holders, (joined[0], joined[1], joined[2]))

    def named(self, text: str) -> list[str]:
        """The names that a text holds, whatever its capitals; a name within a longer one is a name too."""
        words = _WORD.findall(normalise(text))
        spans = (
            " ".join(words[start : start + size]) for size in range(1, _NAME_WORDS + 1) for start in range(len(words))
        )
        return list(dict.fromkeys(name for name in map(normalise, spans) if name in self.names))

    def walk(self, passages: Mapping[int, float], names: Iterable[str], damping: float) -> np.ndarray:
        """The rank of each passage, float64 `[passages]`, of a walk that begins, and begins again, at given nodes.

        Args:
            passages: the weights of passages to begin at.
            names: names to begin at; each weighs 1 over the number of passages that hold it.
            damping: how likely the walk goes on along an edge.

        Raises:
            ValueError: there is nowhere to begin.
        """
        restart = np.zeros(self.passages + len(self.names))
        restart[list(passages)] = list(passages.values())
        for name in names:
            node = self.names[name]
            restart[node] += 1 / self.holders[node - self.passages]
        if not restart.any():
            raise ValueError("a walk needs a passage or a name to begin at")
        rank: np.ndarray = pagerank(*self.edges, restart, damping)[: self.passages]
        return rank
