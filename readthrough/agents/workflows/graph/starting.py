"""Where the exploring of a graph of facts begins: facts ranked by the question, nodes weighed by theirs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from readthrough.agents.reading.passages import as_data
from readthrough.agents.runs.services import Services
from readthrough.retrieval.entities import EntityGraph
from readthrough.retrieval.indexes.hybrid import fuse
from readthrough.retrieval.rerankers.likelihood import raised
from readthrough.types import Chunk

_RANKED_FACTS = 1_000
_NODE_FACTS = 6


def rank_facts(services: Services, graph: EntityGraph, query: str, found: Sequence[Chunk]) -> list[int]:
    """The numbers of the facts that fit a query best: by their own words, and by the `found` chunks they stand in."""
    numbers = {entry.id: number for number, entry in enumerate(services.shelf.documents)}
    chunks = sorted((numbers[chunk.document], chunk.start, chunk.end, rank) for rank, chunk in enumerate(found))
    within: list[tuple[int, int]] = []
    for number, fact in enumerate(graph.facts):
        at = bisect_right(chunks, (fact.document, fact.start), key=lambda chunk: chunk[:2]) - 1
        if at >= 0 and chunks[at][0] == fact.document and fact.start < chunks[at][2]:
            within.append((chunks[at][3], number))
    lists = (graph.search(query), [number for _, number in sorted(within)])
    return [number for number, _ in fuse(([(n, 0.0) for n in each], 1.0) for each in lists)[:_RANKED_FACTS]]


def initial_nodes(
    services: Services, graph: EntityGraph, ranked: Sequence[int], asked: str, candidates: int, most: int
) -> list[str]:
    """The nodes that raise the question most, each with facts that no better one shows.

    The `candidates` nodes of the facts that fit best (`ranked` has their numbers) are weighed by query likelihood, or
    taken as they come where the model gives no logits.
    """
    places = {fact: place for place, fact in enumerate(ranked)}
    most_used = sorted(graph.nodes, key=lambda name: (-len(graph.nodes[name]), name))
    named = (name for fact in ranked for name in graph.facts[fact].names)
    names = list(dict.fromkeys([*named, *most_used]))[:candidates]
    shown = {
        name: sorted(graph.nodes[name], key=lambda fact: (places.get(fact, len(ranked)), fact))[:_NODE_FACTS]
        for name in names
    }
    if "logits" in services.model.capabilities and names:
        lines = [[graph.shown[name], *(graph.facts[fact].text for fact in facts)] for name, facts in shown.items()]
        texts = [as_data("\n".join(each)) for each in lines]
        weights = dict(zip(names, raised(services, asked, texts), strict=True))
        services.decide("initial nodes", **{repr(name): weight for name, weight in weights.items()})
        names.sort(key=lambda name: -weights[name])
    nodes: list[str] = []
    for name in names:
        if len(nodes) < most and not any(set(shown[name]) <= set(shown[node]) for node in nodes):
            nodes.append(name)
    return nodes
