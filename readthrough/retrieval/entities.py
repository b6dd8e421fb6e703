"""A graph of what a text is about: nodes are key elements, joined where one fact names them both."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from readthrough.retrieval.analysis import TOKENIZERS, prepare
from readthrough.retrieval.facts import Fact

if TYPE_CHECKING:
    import numpy as np

_DETERMINER = re.compile(r"^(?:the|an?|this|that|these|those|his|her|its|their|my|your|our)\s+(?=\S)")
_FUNCTION_WORDS = """
the a an this that these those and or but not of to in on at by for from with as if so then than he she it they we you
i him her them us me his its their our your my who whom whose which what when where why how be is are was were been has
have had do does did will would shall should can could may might must there here
"""
_NO_NAMES = frozenset(_FUNCTION_WORDS.split())
_EDGES = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True, slots=True)
class Linked:
    """A fact in the graph: `document` is the number of its document, `names` are the nodes that it joins."""

    document: int
    start: int
    end: int
    text: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class EntityGraph:
    """Facts, and the nodes that they join. `shown` is the most usual spelling of each node."""

    facts: tuple[Linked, ...]
    shown: Mapping[str, str]

    @classmethod
    def of(cls, facts: Iterable[tuple[int, Fact]], merged: Mapping[str, str] | None = None) -> EntityGraph:
        """The graph of facts, each with the number of its document; `merged` says which names are another, which may be
        another's in its turn."""
        listed = list(facts)
        spellings: dict[str, Counter[str]] = {}
        for _, fact in listed:
            for element in fact.elements:
                spellings.setdefault(normalise(element), Counter())[element] += 1
        spellings.pop("", None)
        node = {name: singular(name, spellings) for name in spellings}
        node = {name: _last(base, merged or {}) for name, base in node.items()}
        usual: dict[str, Counter[str]] = {}
        for name, counts in spellings.items():
            usual.setdefault(node[name], Counter()).update(counts)
        shown = {name: max(counts, key=lambda each: (counts[each], each)) for name, counts in usual.items()}
        linked = []
        for document, fact in listed:
            names = dict.fromkeys(node[name] for name in map(normalise, fact.elements) if name)
            linked.append(Linked(document, fact.start, fact.end, fact.text, tuple(names)))
        return cls(tuple(linked), shown)

    @cached_property
    def nodes(self) -> dict[str, list[int]]:
        """The numbers of the facts that name each node, in order."""
        found: dict[str, list[int]] = {}
        for number, fact in enumerate(self.facts):
            for name in fact.names:
                found.setdefault(name, []).append(number)
        return found

    def neighbours(self, name: str) -> Counter[str]:
        """The nodes that share facts with a node, and how many."""
        shared = Counter(other for number in self.nodes[name] for other in self.facts[number].names)
        del shared[name]
        return shared

    def search(self, query: str) -> list[int]:
        """The numbers of the facts that share words with `query` in their text or their nodes' names, by BM25."""
        terms = [f'"{word}"' for word in re.findall(r"\w+", prepare(query))]
        table = sqlite3.connect(":memory:", isolation_level=None)
        try:
            table.execute(f"CREATE VIRTUAL TABLE facts USING fts5(text, tokenize='{TOKENIZERS['stems']}')")
            texts = (prepare(" ".join([fact.text, *fact.names])) for fact in self.facts)
            table.executemany("INSERT INTO facts (rowid, text) VALUES (?, ?)", enumerate(texts))
            select = "SELECT rowid FROM facts WHERE facts MATCH ? ORDER BY bm25(facts), rowid"
            return [row for (row,) in table.execute(select, (" OR ".join(terms),))] if terms else []
        finally:
            table.close()

    def to_json(self) -> dict[str, Any]:
        """The graph as plain values."""
        facts = [[fact.document, fact.start, fact.end, fact.text, list(fact.names)] for fact in self.facts]
        return {"facts": facts, "shown": dict(self.shown)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EntityGraph:
        """The graph whose `to_json` gave `values`."""
        facts = (
            Linked(document, start, end, text, tuple(names)) for document, start, end, text, names in values["facts"]
        )
        return cls(tuple(facts), values["shown"])


def normalise(element: str) -> str:
    """A key element as a name: compatibility forms, case and marks at its ends folded, no determiner.

    Empty where nothing is left, or English function words alone, which small models like to call key elements.
    """
    name = " ".join(unicodedata.normalize("NFKC", element).casefold().split())
    name = _DETERMINER.sub("", _EDGES.sub("", name))
    return "" if _NO_NAMES.issuperset(name.split()) else name


def singular(name: str, known: Mapping[str, Any]) -> str:
    """The singular of an English plural, where that is a known name too; so Moses stays Moses."""
    return next((base for base in _singulars(name) if base in known), name)


def _singulars(name: str) -> Iterator[str]:
    if name.endswith("ies"):
        yield name[:-3] + "y"
    if name.endswith("s") and not name.endswith("ss"):
        yield name[:-1]
    if name.endswith("es"):
        yield name[:-2]


def _last(name: str, merged: Mapping[str, str]) -> str:
    """What a name is in the end; of names that are each other's, the first by the alphabet."""
    path: list[str] = []
    while name in merged and name not in path:
        path.append(name)
        name = merged[name]
    return min(path[path.index(name) :]) if name in path else name


def near_names(names: Sequence[str], vectors: np.ndarray, above: float) -> dict[str, str]:
    """Names whose unit vectors `[len(names), D]` have a cosine of `above` or more with an earlier name that stays.

    Returns that earlier name for each. Put the most used names first.
    """
    import numpy as np

    leaders: list[str] = []
    kept = np.empty_like(vectors)
    merged: dict[str, str] = {}
    for name, vector in zip(names, vectors, strict=True):
        near = kept[: len(leaders)] @ vector
        if leaders and near.max() >= above:
            merged[name] = leaders[int(near.argmax())]
        else:
            kept[len(leaders)] = vector
            leaders.append(name)
    return merged
