"""Entities: the persons and things of episodes, their names reconciled, and a summary of what each did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from readthrough.agents.reading.concluding import Span
from readthrough.agents.reading.keeping import keep, kept
from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.episodic.extracting import Episode
from readthrough.models.base import Request
from readthrough.retrieval.embedding import embed_texts
from readthrough.retrieval.entities import EntityGraph, Linked, near_names
from readthrough.retrieval.facts import Fact, recipe_of

SUMMARY = Prompt(
    """What a text says of {name}, in its order:

{episodes}

Write in two or three sentences who or what {name} is, what {name} did, and where and when. Use nothing else:"""
)


def reconciled(services: Services, facts: Sequence[tuple[int, Fact]], merge_above: float | None) -> EntityGraph:
    """The graph of episodes, whose nodes are the persons and things in them.

    A name that is the beginning or the end of one longer name, and of no other, is that one's (`Weller` is `Ann
    Weller`); with `merge_above` so are names whose vectors have this cosine.
    """
    named = [(number, _named(fact)) for number, fact in facts]
    graph = EntityGraph.of(named)
    merged = parts_of_one(graph.shown)
    if merged:
        graph = EntityGraph.of(named, merged)
    if merge_above is not None and graph.nodes:  # of what is left, so that no name is merged into one that is gone
        names = sorted(graph.nodes, key=lambda name: (-len(graph.nodes[name]), name))
        vectors = embed_texts(services.shelf.embedder, names, services.on_event)
        near = near_names(names, vectors, merge_above)
        graph = EntityGraph.of(named, {**merged, **near}) if near else graph
    return graph


def parts_of_one(shown: Mapping[str, str]) -> dict[str, str]:
    """For each proper name that begins or ends one longer name alone: the longest such name.

    `shown` has the usual spelling of each name; a proper name begins with a capital.
    """
    proper = [name for name in shown if shown[name][:1].isupper()]
    longer: dict[str, set[str]] = {name: set() for name in proper}
    for name in proper:
        own = name.split()
        for count in range(1, len(own)):
            for part in {" ".join(own[:count]), " ".join(own[-count:])} & longer.keys():
                longer[part].add(name)
    found: dict[str, str] = {}
    for name, names in longer.items():
        longest = [each for each in names if not longer[each] & names]
        if len(longest) == 1:
            found[name] = longest[0]
    return found


def summarize(services: Services, graph: EntityGraph, names: Sequence[str], most: int, max_tokens: int) -> list[str]:
    """A summary of what is told of each of some entities, of at most `most` episodes, evenly taken.

    Each is kept in the library under what was asked, and not asked again while its episodes stay the same.
    """
    lines = {name: _spread(graph.nodes[name], most) for name in names}
    prompts = [_prompt(graph, name, [graph.facts[number] for number in lines[name]]) for name in names]
    recipes = [recipe_of(services.model, prompt, max_tokens) for prompt in prompts]
    places = [_place(graph, name) for name in names]
    known = [kept(services, recipe).get(place) for recipe, place in zip(recipes, places, strict=True)]
    new = [at for at, facts in enumerate(known) if facts is None]
    replies = services.complete([Request.user(prompts[at], max_tokens=max_tokens) for at in new])
    for at, reply in zip(new, replies, strict=True):
        known[at] = (Fact(written(reply)[0], (names[at],), *places[at][1:]),)
        keep(services, recipes[at], [(places[at], known[at] or ())])
    return [facts[0].text if facts else "" for facts in known]


def _named(fact: Fact) -> Fact:
    episode = Episode(*fact.elements)
    return Fact(fact.text, tuple(filter(None, (episode.who, episode.whom))), fact.start, fact.end)


def _prompt(graph: EntityGraph, name: str, episodes: Sequence[Linked]) -> str:
    listed = as_data("\n".join(f"- {episode.text}" for episode in episodes))
    return SUMMARY.format(name=as_data(graph.shown[name]), episodes=listed)


def _place(graph: EntityGraph, name: str) -> Span:
    first = graph.facts[graph.nodes[name][0]]
    return first.document, first.start, first.end


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    count = min(most, len(numbers))
    return [numbers[at * len(numbers) // count] for at in range(count)]
