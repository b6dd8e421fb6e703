"""Tree-walk: trees of summaries are grown once, and walked from the top to the passages that a question needs.

Sources: Gupta et al., "LLM-guided Hierarchical Retrieval" (LATTICE), arXiv 2510.13217, and its authors' code
(nilesh2797/lattice, b24930d); Sarthi et al., "RAPTOR: Recursive Abstractive Processing for Tree-Organized Retrieval",
arXiv 2401.18059.

Differs from the papers: LATTICE ends with a ranking of texts; here the best are read and answered from, and the walk
ends where they surely state the answer. A node is weighed by how much it raises the question (the slates of siblings
with calibrated scores are `by="choice"`), and nothing is generated for it. Passages that an index finds take turns
with those that the walk comes to. Trees are of one document each, and of many documents those are grown and walked
that the index finds first. What else differs stands in `retrieval/trees` and `retrieval/indexes/walk.py`.

LATTICE's form is `by="choice"`, `steps=20`, `index=None`, `enough_above=None` and `abstain_below=0`; RAPTOR's
`search="collapsed"`, `clustering="mixture"`, `overview_tokens=1000`, `passage_tokens=1000`, `index=None` and
`abstain_below=0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply, passages_material
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, quotes_for
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.grounding import spans_of
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data, in_reading_order, numbered, unwrap, within_budget
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.models.base import Completion, Request
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.retrieval.indexes.tree import TreeIndex
from readthrough.retrieval.indexes.walk import Place, Walk, WalkIndex, Walking
from readthrough.retrieval.rerankers.choices import WHICH
from readthrough.retrieval.rerankers.likelihood import CHAT_TOKENS
from readthrough.retrieval.trees.base import Tree
from readthrough.retrieval.trees.clustering import Clustering
from readthrough.retrieval.trees.growing import UNLIMITED_TOKENS, Grower
from readthrough.types import Answer, Cost

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

OVERVIEW = Prompt(
    """Summaries of longer parts of a text:

{summaries}

{passages}"""
)

_FOUND_CHUNKS = 24
_MOST_FOUND = 500
_FRAME_TOKENS = 64
_LOOK_CALLS = 3
# What a choice is replied with, and the form of it that endpoints are shown.
_CHOICE_TOKENS = 256
# What was seen of small models, which write on to the limit: 115 tokens of 128.
_WRITTEN_RATIO = 0.9
# What was seen of walks that may end early: the share of their steps that are taken.
_STEPS_RATIO = 0.6


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the documents and of the walk, what is read, the reply's hash."""

    question: str
    choices: list[str] | None
    documents: str
    walk: str
    walking: bool
    passages: list[int]
    stated: float | None
    told: list[tuple[int, int]]
    reply: str


@dataclass(frozen=True)
class TreeWalk(Workflow):
    """Walks trees of summaries from the top to the passages that a question needs (arXiv 2510.13217, 2401.18059).

    Attributes:
        search: trees are walked from the top (`walk`), or all their summaries and chunks ranked by vectors (RAPTOR's
            `collapsed` tree), for which the model is not asked.
        by: nodes are weighed by the `likelihood` of the question, or by `choice` among those side by side, which is
            also what is done where the model gives no logits.
        beam: how many summaries are opened in a step.
        steps: the most steps of a walk.
        own_share: what a node's own score weighs beside its parent's path.
        clustering: what is summarised together: `neighbours` that are alike, or RAPTOR's `mixture`.
        children: the most neighbours of one summary.
        read_tokens: the most tokens that are summarised at once.
        summary_tokens: the most tokens of a summary.
        batch: how many summaries are written side by side.
        documents: of more documents, so many are walked: those that the index finds first.
        index: the index whose passages take turns with those of the walk; None reads the walk's alone.
        passage_tokens: the most tokens of passages that are read in the end, twice as many for a multiple-choice
            question.
        overview_tokens: the most tokens of summaries that are read with them; 0 reads passages alone.
        enough_above: the walk ends where its best passages state the answer with this probability; None takes all
            steps.
        abstain_below: the probability that the answer is stated, below which it is refused.
    """

    name: ClassVar[str] = "tree-walk"

    search: Literal["walk", "collapsed"] = "walk"
    by: Literal["likelihood", "choice"] = "likelihood"
    beam: int = 2
    steps: int = 10
    own_share: float = 0.5
    clustering: Clustering = "neighbours"
    children: int = 8
    read_tokens: int = 2048
    summary_tokens: int = 128
    batch: int = 8
    documents: int = 32
    index: str | None = "hybrid"
    passage_tokens: int = 700
    overview_tokens: int = 0
    enough_above: float | None = 0.9
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        if self.documents < 1 or self.passage_tokens < 1 or self.overview_tokens < 0:
            raise ValueError("documents and passage_tokens must be at least 1, overview_tokens at least 0")
        self._grower()  # it and the walk say what is wrong with the other options
        self._walking(self.by)

    @property
    def prepares(self) -> bool:
        """Trees are kept."""
        return True

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: grow (what is missing of the trees), walk (a step of the beam), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"grow": self._grow, "walk": self._walk} if self.search == "walk" else {"grow": self._grow}
        add_nodes(graph, {**nodes, "answer": self._answer})
        graph.add_edge(START, "grow")
        if self.search == "walk":
            graph.add_edge("grow", "walk")
            graph.add_conditional_edges("walk", _after_walking, ["walk", "answer"])
        else:
            graph.add_edge("grow", "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of the trees and of the search in them."""
        return (*super().sources(), *(part.__module__ for part in (Grower, Walk, TreeIndex)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. What was weighed and not read is skipped; what lies under a summary that the
        model has seen is gisted."""
        reply = Reply.kept(services, state["reply"])
        passages: list[int] = state.get("passages", [])
        trees = self._trees(services)
        numbers = services.shelf.document_ids()
        told = [(numbers[number], node) for number, node in state.get("told", [])]
        weighed = [place for place in _walk_of(state, services).seen if place[0] in trees]
        skipped, gisted = list[int](), list[int]()
        for document, number in (*told, *weighed):
            tree, ids = trees[document], services.shelf.chunk_ids(document)
            if number < tree.leaves:
                skipped.append(ids[number])
            else:
                gisted += [ids[position] for position in tree.below[number - tree.leaves]]
        coverage = ledger(services, retrieved=passages, skipped=skipped, gisted=gisted)
        return reply.to_answer(question, quotes_for(services, question, reply, spans_of(services, passages)), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from the passages that were come to so far; the index's alone, where there are no trees yet."""
        return self._reply(state, services)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls."""
        return with_spare(answer_cost(services, question, self._budget(services, question) + self.overview_tokens))

    def estimate(self, question: Question, services: Services) -> Cost:
        """What is missing of the trees, the steps of the walk with a look at each, and the answer."""
        growing = self._grower().cost(
            services.shelf, services.model, _shown, services.shelf.document_ids()[: self.documents]
        )
        growing = replace(
            growing,
            completion_tokens=round(growing.completion_tokens * _WRITTEN_RATIO),
            beside_tokens=round(growing.beside_tokens * _WRITTEN_RATIO),
        )
        last = answer_cost(services, question, self._budget(services, question) + self.overview_tokens)
        return growing + self._walking_cost(question, services) + last

    def _walking_cost(self, question: Question, services: Services) -> Cost:
        if self.search == "collapsed":
            return Cost()
        tokens = services.shelf.count_tokens(services.model)
        asked = services.count_tokens([question.with_choices])[0] + _FRAME_TOKENS
        mean = (sum(tokens.values()) // max(1, len(tokens)) + round(self.summary_tokens * _WRITTEN_RATIO)) // 2
        early = self.enough_above is not None and question.choices is None
        steps = max(1, round(self.steps * (_STEPS_RATIO if early else 1)))
        tops = min(self.documents, len(services.shelf.documents))
        nodes = min(tops + steps * self.beam * self.children * 3 // 4, 2 * len(tokens))
        looks = _LOOK_CALLS * steps if early else 0
        passages = self._budget(services, question)
        if self._by(services) == "choice":  # in slates, each in two orders
            slates = 2 * (1 + steps * self.beam)
            weighing = Cost(slates, 2 * nodes * mean + slates * asked)
        else:
            weighing = Cost(nodes + steps, nodes * mean + (nodes + steps) * asked)
        kept = passages * looks * (_LOOK_CALLS - 1) // _LOOK_CALLS if "logits" in services.model.capabilities else 0
        return weighing + Cost(looks, looks * (passages + asked), cached_tokens=kept)

    def _grower(self) -> Grower:
        return Grower(
            clustering=self.clustering,
            children=self.children,
            read_tokens=self.read_tokens,
            summary_tokens=self.summary_tokens,
            batch=self.batch,
            most_tokens=UNLIMITED_TOKENS,
        )

    def _walking(self, by: Literal["likelihood", "choice"]) -> Walking:
        return Walking(by=by, beam=self.beam, steps=self.steps, own_share=self.own_share)

    def _by(self, services: Services) -> Literal["likelihood", "choice"]:
        return self.by if "logits" in services.model.capabilities else "choice"

    def _trees(self, services: Services) -> dict[str, Tree]:
        return services.shelf.trees.load(self._grower().recipe(services.shelf, services.model))

    def _budget(self, services: Services, question: Question) -> int:
        tokens = self.passage_tokens if question.choices is None else 2 * self.passage_tokens
        return min(tokens, services.model.window_tokens // 4)

    def _documents(self, services: Services, question: Question) -> list[str]:
        """The documents that are walked, in their order."""
        known = services.shelf.document_ids()
        if len(known) <= self.documents:
            return known
        chunks = [] if self.index is None else find_chunks(services.shelf, question, self.index, _MOST_FOUND)
        found = dict.fromkeys([*(chunk.document for chunk in services.shelf.get(chunks)), *known])
        first = set(list(found)[: self.documents])
        return [document for document in known if document in first]

    def _grow(self, state: State, runtime: Runtime[Services]) -> State:
        """Make what is missing of the trees. Every batch stays in the library, whatever ends the run."""
        services, question = runtime.context, Question.of(state)
        if self.index is not None:  # what is loaded on first use must not be loaded when the time runs out
            find_chunks(services.shelf, question, self.index, 1)
        documents = self._documents(services, question)
        self._grower().grow(
            services.shelf,
            services.model,
            complete=lambda requests: self._complete(services, requests),
            shown=_shown,
            on_event=services.emit,
            documents=documents,
        )
        return {"documents": services.put_json(documents)}

    def _complete(self, services: Services, requests: Sequence[Request]) -> list[Completion]:
        """The replies to the first of a batch: all of it, where a budget leaves room."""
        each = services.priced(Cost(1, self.read_tokens, self.summary_tokens))
        return services.complete(requests[: services.budget.fitting(len(requests), each)])

    def _walk(self, state: State, runtime: Runtime[Services]) -> State:
        """One step: what lies below the beam is weighed. Then a look, whether the best passages are enough."""
        services, question = runtime.context, Question.of(state)
        walk = _walk_of(state, services)
        index = self._index(services, question.with_choices)
        index.step(walk, question.with_choices, services.get_json(state["documents"]))
        changed: State = {"walk": services.put_json(walk.to_json()), "walking": bool(walk.beam)}
        if self.enough_above is None or question.choices is not None or not index.hits(walk, 1):
            return changed
        passages = self._passages({**state, **changed}, services)
        if passages == state.get("passages"):
            return changed
        chunks = in_reading_order(services.chunks(passages), services.shelf.document_ids())
        stated = look(services, passages_material(services, chunks), question).stated
        walking = changed["walking"] and stated < self.enough_above
        return {**changed, "walking": walking, "passages": passages, "stated": stated}

    def _index(self, services: Services, asked: str = "") -> WalkIndex:
        """`asked` is what nodes are weighed for, where they are."""
        frame = services.count_tokens([WHICH + asked])[0] + CHAT_TOKENS + _CHOICE_TOKENS
        walking = replace(self._walking(self._by(services)), room_tokens=services.model.window_tokens - frame)
        trees = self._trees(services)
        return WalkIndex(services.shelf, trees, services, walking, shown=_shown, on_event=services.emit)

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self._reply(state, runtime.context)

    def _reply(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from the best passages, and from summaries where these are asked for."""
        question, shelf = Question.of(state), services.shelf
        passages = self._passages(state, services)
        if not passages:
            return {"reply": Reply.refused().keep(services)}
        material = passages_material(services, in_reading_order(services.chunks(passages), shelf.document_ids()))
        stated = state.get("stated") if passages == state.get("passages") else None
        told = self._told(state, services)
        if told:
            trees = self._trees(services)
            summaries = [trees[document].node(number).summary.text for document, number in told]
            material, stated = OVERVIEW.format(summaries=numbered(summaries), passages=material), None
        reply = answer_if_stated(services, material, question, self.abstain_below, stated=stated)
        numbers = {document: number for number, document in enumerate(shelf.document_ids())}
        kept = [(numbers[document], number) for document, number in told]
        return {"reply": reply.keep(services), "passages": passages, "told": kept}

    def _passages(self, state: Mapping[str, Any], services: Services) -> list[int]:
        """The best chunks of the trees and those of the index, taking turns, as many as there is room for."""
        question, shelf = Question.of(state), services.shelf
        found = [] if self.index is None else find_chunks(shelf, question, self.index, _FOUND_CHUNKS)
        ranked = take_turns([self._hits(state, services), found], 2 * _FOUND_CHUNKS)
        # a walk that was cut short at its beginning has come to no passage
        ranked = ranked or shelf.chunk_ids()[:_FOUND_CHUNKS]
        return within_budget(ranked, shelf.count_tokens(services.model), self._budget(services, question))

    def _hits(self, state: Mapping[str, Any], services: Services) -> list[int]:
        """The best chunks of the trees."""
        if self.search == "walk":
            hits = self._index(services).hits(_walk_of(state, services), _FOUND_CHUNKS)
        elif "documents" in state:
            asked, among = Question.of(state).with_choices, services.get_json(state["documents"])
            hits = TreeIndex(services.shelf, self._trees(services)).search(asked, _FOUND_CHUNKS, among)
        else:
            hits = []
        return [chunk for chunk, _ in hits]

    def _told(self, state: Mapping[str, Any], services: Services) -> list[Place]:
        """The best summaries, as many as `overview_tokens` hold."""
        if not self.overview_tokens or "documents" not in state:
            return []
        trees = self._trees(services)
        if self.search == "walk":
            seen = self._index(services).ranked(_walk_of(state, services))
            ranked = [(document, number) for (document, number), _ in seen if number >= trees[document].leaves]
        else:
            asked, among = Question.of(state).with_choices, services.get_json(state["documents"])
            found = TreeIndex(services.shelf, trees).summaries(asked, _FOUND_CHUNKS, among)
            ranked = [(document, number) for document, number, _ in found]
        texts = [trees[document].node(number).summary.text for document, number in ranked]
        sizes = dict(enumerate(services.count_tokens(texts)))
        return [ranked[at] for at in within_budget(range(len(ranked)), sizes, self.overview_tokens)]


def _after_walking(state: State) -> str:
    return "walk" if state["walking"] else "answer"


def _walk_of(state: Mapping[str, Any], services: Services) -> Walk:
    return Walk.from_json(services.get_json(state["walk"])) if "walk" in state else Walk()


def _shown(text: str) -> str:
    return as_data(unwrap(text))
