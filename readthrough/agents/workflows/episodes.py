"""Episodes: who did what, where and when, noted of a few sentences at a time; entities reconciled and summarised.

Source: "Beyond Fact Retrieval: Episodic Memory for RAG with Generative Semantic Workspaces", AAAI 2026, arXiv
2511.07587 (roychowdhuryresearch/gsw-memory, without a licence: its prompts were read, nothing is taken): an operator
extracts actors, roles, states, verb phrases, times and places from chunks of three sentences, one of them shared; a
reconciler merges entities over chunks; a summary of each entity is written; a question is answered from the summaries
that fit it best.

Differs from the paper: pronouns are not rewritten by a call of their own and no context is written for a chunk; the
sentences before it are shown in its prompt. A verb phrase is one flat entry whose fields are the questions that the
paper asks of it (who, whom, where, when), with its actor's role and state. What an entry says that shares no word
with the text is dropped, and each entry points to its sentence. Names are reconciled by their words, with
`merge_above` by their vectors, never by a model. Summaries are written for the entities that fit the question, which
are weighed by query likelihood, in place of all; both entries and summaries are kept in the library. Single entries
that fit, and passages of the source (`reading.grounding`), are read beside the summaries. The paper's form is
`sentences` 3, `overlap` 1, `entities` 17, `merge_above` 0.9, `episodes` 0, `passage_tokens` 0 and `abstain_below` 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import quotes_for
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.keeping import kept
from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.episodic.entities import reconciled, summarize
from readthrough.agents.workflows.episodic.extracting import (
    EPISODE_TOKENS,
    EPISODES,
    episodes_recipe,
    extract,
    parts,
)
from readthrough.agents.workflows.graph.starting import initial_nodes, rank_facts
from readthrough.retrieval.entities import EntityGraph
from readthrough.retrieval.facts import Fact
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

NOTES = Prompt(
    """This is what is known of persons and things in a long text:

{notes}"""
)

_FOUND_CHUNKS = 24
_CANDIDATES = 32
_NODE_FACTS_TOKENS = 120
# What was seen of the small model: entries for a part, tokens of an entry, and of a line that shows one.
_WRITTEN_RATIO = 0.5
_EPISODE_WRITTEN_TOKENS = 48
_LINE_TOKENS = 20


class State(TypedDict, total=False):
    """What travels between nodes: hashes of parts, graph, matches, summaries and reply; counters."""

    question: str
    choices: list[str] | None
    todo: str
    at: int
    left: int
    graph: str
    matched: str
    summaries: str
    found: list[int]
    reply: str


@dataclass(frozen=True)
class Episodes(Grounded):
    """Notes who did what, where and when, once a document, and answers from what persons and things did (2511.07587).

    Attributes:
        sentences: how many sentences have their episodes written together.
        overlap: how many of them belong to the part before as well.
        most: the most episodes of a part.
        batch: how many parts a step of the extraction asks about, and how many summaries are written side by side.
        merge_above: names whose vectors have this cosine are one entity; None merges by words alone.
        entities: the most entities whose summaries are read.
        summary_tokens: the most tokens of a summary.
        summary_episodes: the most episodes that a summary is made of, taken evenly from all of its entity's.
        episodes: how many single episodes are read beside the summaries.
    """

    name: ClassVar[str] = "episodes"

    sentences: int = 5
    overlap: int = 1
    most: int = 6
    batch: int = 16
    merge_above: float | None = None
    entities: int = 6
    summary_tokens: int = 96
    summary_episodes: int = 40
    episodes: int = 12

    def __post_init__(self) -> None:
        for option in ("sentences", "most", "batch", "entities", "summary_tokens", "summary_episodes"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, got {getattr(self, option)}")
        if not 0 <= self.overlap < self.sentences:
            raise ValueError(f"overlap must be at least 0 and less than sentences, got {self.overlap}")

    @property
    def prepares(self) -> bool:
        """Episodes are kept."""
        return True

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: survey, extract (a batch a step), reconcile, match (entities), summarize (a batch a step), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"survey": self._survey, "extract": self._extract, "reconcile": self._reconcile, "match": self._match}
        add_nodes(graph, {**nodes, "summarize": self._summarize, "answer": self._answer})
        for before, after in ((START, "survey"), ("reconcile", "match"), ("answer", END)):
            graph.add_edge(before, after)
        for node in ("survey", "extract"):
            graph.add_conditional_edges(node, self._after_extracting, ["extract", "reconcile"])
        for node in ("match", "summarize"):
            graph.add_conditional_edges(node, self._after_matching, ["summarize", "answer"])
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, and the modules of episodes and entities."""
        return (
            *super().sources(),
            *(part.__module__ for part in (extract, summarize, initial_nodes, EntityGraph, kept)),
        )

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. Chunks known by episodes of the entities that were read of are gisted."""
        reply, found = Reply.kept(services, state["reply"]), state.get("found", [])
        places = self.notes(state, services).spans
        shelf = services.shelf
        told = dict.fromkeys(shelf.chunk_at(shelf.documents[number].id, start) for number, start, _ in places)
        coverage = ledger(services, retrieved=found, gisted=list(told))
        spans = [*places, *spans_of(services, found)]
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer from all summaries and episodes."""
        return with_spare(self._answering(question, services))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The extraction of what has no episodes yet, the weighing of entities, their summaries, the answer."""
        todo, tokens = self._missing(services), services.shelf.count_tokens(services.model)
        characters = sum(entry.characters for entry in services.shelf.documents)
        missing = round(sum(end - start for *_, start, end in todo) * sum(tokens.values()) / max(1, characters))
        frame = services.model.count_tokens([EPISODES])[0] + TEMPLATE_TOKENS
        written = round(len(todo) * self.most * _WRITTEN_RATIO * _EPISODE_WRITTEN_TOKENS)
        weighed = _CANDIDATES + 1 if "logits" in services.model.capabilities else 0
        told = self.entities * self.summary_tokens // 2
        cost = Cost(
            calls=len(todo) + weighed + self.entities,
            prompt_tokens=2 * missing
            + len(todo) * frame
            + weighed * _NODE_FACTS_TOKENS
            + self.entities * 4 * _LINE_TOKENS,
            completion_tokens=written + told,
            beside_tokens=written - written // self.batch + told - told // self.entities,
        )
        return cost + self._answering(question, services)

    def _answering(self, question: Question, services: Services) -> Cost:
        notes = self.entities * self.summary_tokens + self.episodes * _LINE_TOKENS
        return self.grounding.cost(services, question, notes)

    def _missing(self, services: Services) -> list[tuple[int, int, int, int]]:
        """The parts that have no episodes yet: document, where the part before it begins, start, end."""
        known = kept(services, episodes_recipe(services, self.most))
        plan = parts(services, self.sentences, self.overlap)
        before = {part: ahead[1] for ahead, part in pairwise(plan) if ahead[0] == part[0]}
        return [(part[0], before.get(part, part[1]), *part[1:]) for part in plan if part not in known]

    def _survey(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        todo = self._missing(services)
        self.grounding.prepare(services, Question.of(state))
        return {"todo": services.put_json(todo), "at": 0, "left": len(todo)}

    def _extract(self, state: State, runtime: Runtime[Services]) -> State:
        """The episodes of the next parts."""
        services, at = runtime.context, state["at"]
        todo = services.get_json(state["todo"])
        each = services.priced(Cost(1, 2 * self.sentences * _LINE_TOKENS, self.most * EPISODE_TOKENS))
        batch = todo[at : at + services.budget.fitting(self.batch, each)]
        extract(
            services,
            [(number, start, end) for number, _, start, end in batch],
            [(number, before, start) for number, before, start, _ in batch],
            self.most,
        )
        at += len(batch)
        services.emit(Event("extract", at, len(todo), "parts"))
        return {"at": at, "left": len(todo) - at}

    def _after_extracting(self, state: State) -> str:
        return "extract" if state["left"] else "reconcile"

    def _reconcile(self, state: State, runtime: Runtime[Services]) -> State:
        """The graph of all episodes, as it stays for this run."""
        services = runtime.context
        known = kept(services, episodes_recipe(services, self.most))
        facts: list[tuple[int, Fact]] = []
        before: set[str] = set()
        for part in parts(services, self.sentences, self.overlap):
            said = known.get(part, ())
            facts += [(part[0], fact) for fact in said if fact.text not in before]  # two parts may tell what they share
            before = {fact.text for fact in said}
        graph = reconciled(services, facts, self.merge_above)
        services.emit(Event("reconcile", len(graph.nodes), len(graph.nodes), "entities", f"{len(facts)} episodes"))
        return {"graph": services.put_json(graph.to_json())}

    def _match(self, state: State, runtime: Runtime[Services]) -> State:
        """The entities that fit the question, and the episodes in which they are that fit it best."""
        services, asked = runtime.context, Question.of(state).with_choices
        graph = self._graph(state, services)
        found = services.shelf.get(find_chunks(services.shelf, Question.of(state), self.index, _FOUND_CHUNKS))
        ranked = rank_facts(services, graph, asked, found)
        chosen = initial_nodes(services, graph, ranked, asked, _CANDIDATES, self.entities)
        services.emit(Event("match", len(chosen), len(graph.nodes), "entities"))
        own = {number for name in chosen for number in graph.nodes[name]}
        best = [number for number in ranked if number in own][: self.episodes]
        digest = services.put_json([chosen, best])
        return {"matched": digest, "summaries": services.put_json([]), "at": 0, "left": len(chosen)}

    def _after_matching(self, state: State) -> str:
        return "summarize" if state["left"] else "answer"

    def _summarize(self, state: State, runtime: Runtime[Services]) -> State:
        """The summaries of the next entities."""
        services, at = runtime.context, state["at"]
        graph, (chosen, _) = self._graph(state, services), services.get_json(state["matched"])
        each = services.priced(Cost(1, self.summary_episodes * _LINE_TOKENS, self.summary_tokens))
        names = chosen[at : at + services.budget.fitting(self.batch, each)]
        made = summarize(services, graph, names, self.summary_episodes, self.summary_tokens)
        at += len(names)
        services.emit(Event("summarize", at, len(chosen), "entities"))
        summaries = services.put_json([*services.get_json(state["summaries"]), *made])
        return {"at": at, "left": len(chosen) - at, "summaries": summaries}

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The summaries of the entities, then single episodes; the places of these, then of the others of theirs."""
        if "matched" not in state:
            return Notes("", "")
        graph, (chosen, best) = self._graph(state, services), services.get_json(state["matched"])
        summaries = zip(chosen, services.get_json(state["summaries"]), strict=False)
        told = [f"{graph.shown[name]}: {summary}" for name, summary in summaries if summary]
        listed = [f"- {graph.facts[number].text}" for number in sorted(best)]
        others = [number for name in chosen for number in graph.nodes[name]]
        facts = [graph.facts[number] for number in dict.fromkeys([*best, *others])]
        text = "\n\n".join(filter(None, ["\n\n".join(told), "\n".join(listed)]))
        spans = [(fact.document, fact.start, fact.end) for fact in facts]
        return Notes(NOTES.format(notes=as_data(text)), text, spans)

    def _graph(self, state: Mapping[str, Any], services: Services) -> EntityGraph:
        return EntityGraph.from_json(services.get_json(state["graph"]))
