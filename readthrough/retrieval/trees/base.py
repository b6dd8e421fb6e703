"""A tree of summaries over the chunks of one document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from readthrough.retrieval.base import Corpus

if TYPE_CHECKING:
    from readthrough.models.base import ModelBackend


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What a model wrote, under the hash of what it was asked; `vector` is its unit vector `[D]`, float32."""

    key: str
    text: str
    vector: np.ndarray


@dataclass(frozen=True, slots=True)
class Node:
    """A summary and the numbers of what it is of."""

    summary: Summary
    children: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """The chunks of a document, numbered by their position, and behind them the summaries, children first.

    A summary may have one child, and where clusters overlap a child may have several parents.
    """

    leaves: int
    nodes: tuple[Node, ...] = ()

    def node(self, number: int) -> Node:
        """The summary with a number."""
        return self.nodes[number - self.leaves]

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """What nothing summarises, in order."""
        inside = {child for node in self.nodes for child in node.children}
        return tuple(number for number in range(self.leaves + len(self.nodes)) if number not in inside)

    @cached_property
    def below(self) -> tuple[np.ndarray, ...]:
        """The positions of the chunks under each summary, ascending; in the order of `nodes`."""
        found: list[np.ndarray] = []
        for node in self.nodes:
            parts = [
                found[child - self.leaves] if child >= self.leaves else np.array([child]) for child in node.children
            ]
            found.append(np.unique(np.concatenate(parts)))
        return tuple(found)

    @cached_property
    def vectors(self) -> np.ndarray:
        """The vectors of the summaries `[len(nodes), D]`."""
        return np.stack([node.summary.vector for node in self.nodes]) if self.nodes else np.empty((0, 0), np.float32)


class TreeStore(Protocol):
    """Where trees are kept, by document and recipe (what must be the same for summaries to be the same)."""

    def summaries(self, recipe: str, document_id: str) -> dict[str, Summary]:
        """What was written of a document, or of an older version of it, by key."""
        ...

    def add(self, recipe: str, document_id: str, made: Iterable[Summary]) -> None:
        """Keep summaries of a document whose tree is being grown."""
        ...

    def finish(self, recipe: str, document_id: str, tree: Tree) -> None:
        """Keep a tree that is complete; summaries that it does not hold are forgotten."""
        ...

    def load(self, recipe: str) -> dict[str, Tree]:
        """The complete trees of the documents that have one."""
        ...


class Ground(Corpus, Protocol):
    """What trees grow on, and are searched in. A `Shelf` is one."""

    @property
    def trees(self) -> TreeStore:
        """Where the trees of these documents are kept."""
        ...

    def document_ids(self) -> Sequence[str]:
        """The documents in order."""
        ...

    def chunk_ids(self, document_id: str | None = None) -> list[int]:
        """The chunk ids of one document, or of all, in reading order."""
        ...

    def count_tokens(self, model: ModelBackend) -> Mapping[int, int]:
        """How many tokens each chunk has for a model."""
        ...
