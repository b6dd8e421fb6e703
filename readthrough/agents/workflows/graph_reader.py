"""GraphReader: facts and their key elements make a graph; agents explore it and keep notebooks.

Source: Li et al., "GraphReader: Building Graph-based Agent to Enhance Long-Context Abilities of Large Language
Models", Findings of EMNLP 2024, arXiv 2406.14550 (no authors' code).

Differs from the paper: the facts are the sentences of the text, joined by the names and the telling words in them.
With `facts="written"` (the paper's form) the model writes them and their key elements; these are kept in the library,
so that the next question about a document extracts nothing, and each points to the sentence it was made from. Initial
nodes are weighed by query likelihood in place of generated scores (in the order of the index for a model without
logits), out of those that keywords and vectors find; one whose facts another shows is passed over. Actions are scored
choices, never parsed. The plan guides what is done next, not what is noted: small models copy it. Paths take their
steps together and do not read a chunk twice. What a path reads is scored: does it state the answer? Where it surely
does, the walk ends, and notebooks made of what does not are left out. Passages of the source are read beside them
(`reading.grounding`). The paper's form is `enough_above` None, `drop_below`, `passage_tokens` and `abstain_below` 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import Span, quotes_for, to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.passages import numbered, prompt_tokens, windows
from readthrough.agents.reading.pointers import sentences
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.graph.exploring import Explorer, Path, Walk, Window
from readthrough.agents.workflows.graph.extracting import (
    extract,
    room_tokens,
    sentence_facts,
    without_facts,
    written_facts,
)
from readthrough.agents.workflows.graph.starting import initial_nodes, rank_facts
from readthrough.models.base import Request
from readthrough.retrieval.elements import key_elements
from readthrough.retrieval.embedding import embed_texts
from readthrough.retrieval.entities import EntityGraph, near_names
from readthrough.retrieval.facts import EXTRACT, recipe
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

PLAN = Prompt(
    """Question: {question}

The answer has to be gathered from a long text. Write a short plan: what must be found out, step by step, and which \
names, things and events it is about. Do not answer the question."""
)

NOTE = Prompt(
    """{text}

Question: {question}
Notebook so far: {notes}

Write the notebook anew: keep what helps to answer the question, and add what the text above says about it, in \
complete sentences. Write the notebook and nothing else."""
)

ACT = Prompt(
    """{text}

Question: {question}
Plan: {plan}
Notebook: {notes}

What should be done next to answer the question?
{options}
Answer with the letter of the best action."""
)

NOTEBOOKS = Prompt(
    """These notebooks were kept while reading a long text.

{notes}"""
)

_FOUND_CHUNKS = 24
_PLAN_TOKENS = 160
_FRAME_TOKENS = 160
# What was seen of the small model: the length of facts beside their text's, and how far paths go.
_FACTS_RATIO = 1.3
_STEPS_RATIO = 0.6


class State(TypedDict, total=False):
    """What travels between nodes: hashes of plans, graph and walk, counters, the reply's hash."""

    question: str
    choices: list[str] | None
    windows: str
    todo: str
    at: int
    left: str
    extracting: bool
    graph: str
    plan: str
    ranked: str
    walk: str
    exploring: bool
    found: list[int]
    reply: str


@dataclass(frozen=True)
class GraphReader(Grounded):
    """Extracts facts once, then explores their graph from the nodes that fit the question (arXiv 2406.14550).

    Attributes:
        index: the index that finds nodes, with keywords over the facts, and passages for the answer.
        facts: the sentences of the text with their names and telling words, or what the model writes of every chunk
            with the key elements that it names (once a document, about as much as it reads).
        chunk_tokens: the most tokens of a chunk, whose facts are extracted together and which is read whole; and of
            the facts that are read at a node.
        facts_tokens: the most tokens that are written of a chunk's facts.
        batch: how many chunks a step of the extraction asks about.
        merge_above: key elements whose vectors have this cosine are one node; None merges equal names alone.
        candidates: how many nodes are weighed for a start.
        initial_nodes: how many paths start.
        steps_a_path: the most steps of a path: reading facts, reading a chunk, or going to a neighbour.
        chunks_a_node: the most chunks that are chosen from a node's facts.
        notes_tokens: the most tokens of a notebook.
        pointers: the most evidence pointers that travel with a notebook.
        enough_above: all paths end where one reads what states the answer with this probability; None lets them go
            on until each has chosen to stop.
        drop_below: notebooks of paths that read nothing which states the answer with this probability are left out.
    """

    name: ClassVar[str] = "graph-reader"

    facts: Literal["sentences", "written"] = "sentences"
    chunk_tokens: int = 1000
    facts_tokens: int = 2000
    batch: int = 8
    merge_above: float | None = None
    candidates: int = 50
    initial_nodes: int = 5
    steps_a_path: int = 10
    chunks_a_node: int = 3
    notes_tokens: int = 192
    pointers: int = 12
    enough_above: float | None = 0.9
    drop_below: float = 0.15

    @property
    def prepares(self) -> bool:
        """Facts that the model writes are kept."""
        return self.facts == "written"

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: survey (what has no facts yet), extract (a batch a step), connect (the graph), plan, start (the
        initial nodes), explore (a step of all paths), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"survey": self._survey, "extract": self._extract, "connect": self._connect, "plan": self._plan}
        add_nodes(graph, {**nodes, "start": self._start, "explore": self._explore, "answer": self._answer})
        for before, after in ((START, "survey"), ("connect", "plan"), ("plan", "start"), ("start", "explore")):
            graph.add_edge(before, after)
        for node in ("survey", "extract"):
            graph.add_conditional_edges(node, self._after_extracting, ["extract", "connect"])
        graph.add_conditional_edges("explore", self._after_exploring, ["explore", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. Chunks that were read whole are read; those known by their facts are gisted."""
        reply = Reply.kept(services, state["reply"])
        found: list[int] = state.get("found", [])
        walk, plan = self._walk(state, services), self._read_windows(state, services)
        coverage = ledger(
            services,
            read=[chunk for window in walk.read for chunk in plan[window][3]],
            retrieved=found,
            gisted=[chunk for window in walk.gisted for chunk in plan[window][3]],
        )
        spans = [*_spans(walk.paths), *spans_of(services, found)]
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, and the modules of the extraction and the exploring."""
        return (
            *super().sources(),
            *(part.__module__ for part in (extract, initial_nodes, Explorer, EntityGraph, key_elements, recipe)),
        )

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer from all notebooks and their sentences."""
        return with_spare(self._answering(question, services))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The extraction of what has no facts yet; the weighing of nodes; the steps of the paths; the answer."""
        tokens = services.shelf.count_tokens(services.model)
        todo = self._todo(services)
        missing = sum(tokens[chunk] for window in todo for chunk in window)
        frame = services.model.count_tokens([EXTRACT])[0] + _FRAME_TOKENS
        logits = "logits" in services.model.capabilities
        weighed = self.candidates + 1 if logits else 0
        steps = round(self.initial_nodes * self.steps_a_path * _STEPS_RATIO)
        calls_a_step = 5 if logits else 2
        # The calls of a step share their beginning, which is read once.
        shown = min(self.chunk_tokens, sum(tokens.values())) // 2 + calls_a_step * (_FRAME_TOKENS + self.notes_tokens)
        last = self._answering(question, services)
        facts, notes = round(missing * _FACTS_RATIO), steps * self.notes_tokens // 2
        return last + Cost(
            calls=len(todo) + 1 + weighed + steps * calls_a_step,
            prompt_tokens=missing + len(todo) * frame + weighed * _FRAME_TOKENS + steps * shown,
            completion_tokens=facts + _PLAN_TOKENS + notes,
            beside_tokens=facts - facts // self.batch + notes - notes // self.initial_nodes,
        )

    def _answering(self, question: Question, services: Services) -> Cost:
        return self.grounding.cost(services, question, self.initial_nodes * self.notes_tokens)

    def _survey(self, state: State, runtime: Runtime[Services]) -> State:
        """The windows of every document, and those of them that have no facts yet."""
        services, room = runtime.context, self._room(runtime.context)
        tokens, plan = prompt_tokens(services), []
        for number, entry in enumerate(services.shelf.documents):
            chunks = {chunk.id: chunk for chunk in services.shelf.chunks(entry.id)}
            for window in windows(list(chunks), tokens, room):
                plan.append((number, chunks[window[0]].start, chunks[window[-1]].end, window))
        todo = self._todo(services)
        self.grounding.prepare(services, Question.of(state))
        return {
            "windows": services.put_json(plan),
            "todo": services.put_json(todo),
            "at": 0,
            "left": services.put_json([]),
            "extracting": bool(todo),
        }

    def _extract(self, state: State, runtime: Runtime[Services]) -> State:
        """The facts of the next windows; what a cut reply left over is asked about when all others are done."""
        services, at = runtime.context, state["at"]
        todo = services.get_json(state["todo"])
        batch = todo[at : at + self.batch]
        left = [*services.get_json(state["left"]), *extract(services, batch, self.facts_tokens)]
        at += len(batch)
        services.emit(Event("extract", at, len(todo), "windows", f"{len(left)} to go on with" if left else ""))
        if at < len(todo):
            return {"at": at, "left": services.put_json(left), "extracting": True}
        empty = services.put_json([])
        return {"todo": services.put_json(left), "at": 0, "left": empty, "extracting": bool(left)}

    def _after_extracting(self, state: State) -> str:
        return "extract" if state["extracting"] else "connect"

    def _connect(self, state: State, runtime: Runtime[Services]) -> State:
        """The graph of all facts, as it stays for this run."""
        services = runtime.context
        facts = (written_facts if self.facts == "written" else sentence_facts)(services)
        graph = EntityGraph.of(facts)
        if self.merge_above is not None and graph.nodes:
            names = sorted(graph.nodes, key=lambda name: (-len(graph.nodes[name]), name))
            vectors = embed_texts(services.shelf.embedder, names, services.on_event)
            graph = EntityGraph.of(facts, near_names(names, vectors, self.merge_above))
        services.emit(Event("connect", len(graph.nodes), len(graph.nodes), "key elements", f"{len(facts)} facts"))
        return {"graph": services.put_json(graph.to_json())}

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        """The rational plan."""
        request = Request.user(PLAN.format(question=Question.of(state).with_choices), max_tokens=_PLAN_TOKENS)
        return {"plan": runtime.context.put(runtime.context.complete([request])[0].text.strip())}

    def _start(self, state: State, runtime: Runtime[Services]) -> State:
        """Rank facts, weigh the nodes they name, and start a path at each of the best."""
        services = runtime.context
        graph = EntityGraph.from_json(services.get_json(state["graph"]))
        found = services.shelf.get(find_chunks(services.shelf, Question.of(state), self.index, _FOUND_CHUNKS))
        asked = Question.of(state).with_choices
        ranked = rank_facts(services, graph, asked, found)
        explorer = self._explorer({**state, "ranked": services.put_json(ranked)}, services)
        nodes = initial_nodes(services, graph, ranked, asked, self.candidates, self.initial_nodes)
        walk = Walk([Path(node) for node in nodes], visited=list(nodes))
        if not nodes:  # no fact was found: the passages that the index finds are read
            chosen = list(
                dict.fromkeys(explorer.window_at(*place[:2]) for place in to_spans(services, sentences(found)))
            )
            chosen = chosen[: self.chunks_a_node] or [0]
            walk = Walk([Path("", "chunk", chosen[0], chosen[1:])], taken=chosen[:1])
        return {"ranked": services.put_json(ranked), "walk": services.put_json(walk.to_json())}

    def _explore(self, state: State, runtime: Runtime[Services]) -> State:
        """One step of every path."""
        services, walk = runtime.context, self._walk(state, runtime.context)
        self._explorer(state, services).step(walk)
        services.emit(Event("explore", walk.steps, self.steps_a_path, "steps", f"{len(walk.active)} paths"))
        going = bool(walk.active) and walk.steps < self.steps_a_path
        return {"walk": services.put_json(walk.to_json()), "exploring": going}

    def _after_exploring(self, state: State) -> str:
        return "explore" if state["exploring"] else "answer"

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """The answer from all notebooks."""
        return self.reply(state, runtime.context)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The notebooks of paths that read what may state the answer."""
        walk = self._walk(state, services)
        weighed = "logits" in services.model.capabilities
        sure = [path for path in walk.paths if path.notes and not (weighed and path.stated < self.drop_below)]
        written = numbered(dict.fromkeys(path.notes for path in sure))
        return Notes(NOTEBOOKS.format(notes=written), written, _spans(sure))

    def _explorer(self, state: Mapping[str, Any], services: Services) -> Explorer:
        return Explorer(
            services=services,
            graph=EntityGraph.from_json(services.get_json(state["graph"])),
            windows=self._read_windows(state, services),
            ranked=services.get_json(state["ranked"]),
            question=Question.of(state),
            plan=services.get(state["plan"]),
            facts_tokens=self.chunk_tokens,
            notes_tokens=self.notes_tokens,
            chunks_a_node=self.chunks_a_node,
            pointers=self.pointers,
            enough_above=self.enough_above,
            note=NOTE,
            act=ACT,
        )

    def _walk(self, state: Mapping[str, Any], services: Services) -> Walk:
        return Walk.from_json(json.loads(services.get(state["walk"]))) if "walk" in state else Walk([])

    def _read_windows(self, state: Mapping[str, Any], services: Services) -> list[Window]:
        return services.get_json(state["windows"]) if "windows" in state else []

    def _todo(self, services: Services) -> list[list[int]]:
        """The windows whose facts are still to be written."""
        return without_facts(services, self._room(services)) if self.facts == "written" else []

    def _room(self, services: Services) -> int:
        return room_tokens(services, self.chunk_tokens, self.facts_tokens)


def _spans(paths: Iterable[Path]) -> list[Span]:
    return [(document, start, end) for path in paths for document, start, end in path.spans]
