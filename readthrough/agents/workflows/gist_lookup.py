"""Gist-lookup: pages are remembered by their gists, which are written once; a question looks up the pages it needs.

Source: Lee et al., "A Human-Inspired Reading Agent with Gist Memory of Very Long Contexts" (ReadAgent), arXiv
2402.09727, and its authors' notebook (read-agent/read-agent.github.io), whose prompts have no licence and are not used.

Differs from the paper: pages are runs of the library's chunks, and gists are kept there for the next question. By
default a page ends where its last passage is least like the next one, for which the model is not asked, and pages are
weighed by how much their gists raise the question: small models name the first mark, and the first page. The pages in
which an index finds passages take turns with those. Of the pages that are looked up the passages that raise the
question most are read for the answer, since small models lose it in whole pages.

The paper's form is `pause="choice"`, `by="choice"`, `lookup_tokens` and `memory_tokens` as large as the model's window,
`passage_tokens=None`, `index=None`, `enough_above=None` and `abstain_below=0`, with `pages=5` in parallel or one after
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, PASSAGES, Reply, passages_material
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, quotes_for
from readthrough.agents.reading.finding import find_chunks, weigh
from readthrough.agents.reading.grounding import spans_of
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import in_reading_order, numbered, section_text, shown, within_budget
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.gists.gisting import Gister, Page
from readthrough.agents.workflows.gists.looking_up import rank_by_choice, rank_by_likelihood
from readthrough.agents.workflows.gists.paging import Pager, Pause
from readthrough.errors import LibraryError, PromptTooLongError
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

_FOUND_CHUNKS = 24
# What is read of the index's passages where a budget ends the run before pages are looked up.
_EARLY_TOKENS = 700
_FRAME_TOKENS = 64
_LOOK_CALLS = 3
# What was seen of small models, which write on to the limit: 115 tokens of 128.
_WRITTEN_RATIO = 0.9


class State(TypedDict, total=False):
    """What travels between nodes: the pages' hash, those looked up, what is read of them, the reply's hash."""

    question: str
    choices: list[str] | None
    gisting: bool
    memory: str
    looking: bool
    looked: list[int]
    weighed: dict[int, float]
    passages: list[int]
    stated: float | None
    reply: str


@dataclass(frozen=True)
class GistLookup(Workflow):
    """Remembers every page by a gist, written once, and looks up the pages that a question needs (arXiv 2402.09727).

    Attributes:
        pause: where a page ends: where what follows is least like what comes before (`likeness`), or where the model
            finds it natural to pause (`choice`).
        least_tokens: the tokens of a page before a pause, at least.
        page_tokens: the most tokens of a page.
        gist_tokens: the most tokens of a gist.
        batch: how many pages are remembered side by side.
        lookup: pages are chosen at once (`parallel`), or one after another, each with what was read before
            (`sequential`, which is also what is done where the model gives no logits).
        by: pages are weighed by the `likelihood` of the question after their gists, or by `choice` among them, which
            is also what is done without logits.
        pages: the most pages that are looked up.
        candidates: of more pages, so many gists are weighed, those first in which the index finds passages; without an
            index all are.
        lookup_tokens: the most tokens of gists in a prompt, by `choice`.
        passage_tokens: the most tokens of passages of the looked-up pages that are read for the answer, twice as many
            for a multiple-choice question; None reads pages in full.
        memory_tokens: the most tokens of other gists that are read with them.
        index: the index whose pages take turns with those chosen by gists; None looks up these alone.
        enough_above: pages are looked up one after another until what is read of them states the answer with this
            probability; None looks up all.
        abstain_below: the probability that the answer is stated, below which it is refused.
    """

    name: ClassVar[str] = "gist-lookup"

    pause: Pause = "likeness"
    least_tokens: int = 370
    page_tokens: int = 800
    gist_tokens: int = 128
    batch: int = 8
    lookup: Literal["parallel", "sequential"] = "parallel"
    by: Literal["likelihood", "choice"] = "likelihood"
    pages: int = 3
    candidates: int = 128
    lookup_tokens: int = 4096
    passage_tokens: int | None = 700
    memory_tokens: int = 0
    index: str | None = "hybrid"
    enough_above: float | None = 0.9
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        for name in ("least_tokens", "gist_tokens", "batch", "pages", "candidates", "lookup_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.page_tokens < self.least_tokens:
            raise ValueError("page_tokens must be at least least_tokens")

    @property
    def prepares(self) -> bool:
        """Gists are kept."""
        return True

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: survey, gist (a batch of pages a step), look up (all pages, or one a step), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"survey": self._survey, "gist": self._gist, "lookup": self._lookup, "answer": self._answer})
        graph.add_edge(START, "survey")
        for node in ("survey", "gist"):
            graph.add_conditional_edges(node, _after_gisting, ["gist", "lookup"])
        graph.add_conditional_edges("lookup", _after_looking, ["lookup", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of the pages, the gists and the look-up."""
        return (*super().sources(), *(part.__module__ for part in (Pager, Gister, rank_by_choice)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. What is read of looked-up pages is retrieved, what is passed over skipped; other
        pages are gisted."""
        reply = Reply.kept(services, state["reply"])
        pages = self._pages(state, services) or self._gister.pages(services)
        read = state.get("passages", [])
        looked = [chunk for page in state.get("looked", []) for chunk in pages[page].chunks]
        gisted = [chunk for page in pages for chunk in page.chunks]
        coverage = ledger(services, retrieved=read, skipped=looked, gisted=gisted)
        return reply.to_answer(question, quotes_for(services, question, reply, spans_of(services, read)), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from the pages that were looked up; from passages of the index where there are none yet."""
        question, shelf = Question.of(state), services.shelf
        if state.get("looked"):
            return self._reply(state, services)
        ranked = [] if self.index is None else find_chunks(shelf, question, self.index, _FOUND_CHUNKS)
        found = within_budget(ranked or shelf.chunk_ids(), shelf.count_tokens(services.model), _EARLY_TOKENS)
        if not found:
            return super().finish_early(state, services)
        material = passages_material(services, in_reading_order(services.chunks(found), shelf.document_ids()))
        reply = answer_if_stated(services, material, question, self.abstain_below)
        return {"passages": found, "reply": reply.keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls."""
        return with_spare(answer_cost(services, question, sum(self._room(services, question))))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The pages that have no gist yet; the weighing of gists; a look at each page that is looked up; the answer."""
        tokens = services.shelf.count_tokens(services.model)
        self._check(services, question)
        missing = [tokens[chunk] for run in self._gister.missing(services) for chunk in run]
        last = answer_cost(services, question, min(sum(self._room(services, question)), sum(tokens.values())))
        return self._gisting_cost(services, sum(missing)) + self._lookup_cost(services, question) + last

    def _gisting_cost(self, services: Services, missing_tokens: int) -> Cost:
        pages = self._count(missing_tokens)
        written = round(pages * self.gist_tokens * _WRITTEN_RATIO)
        steps = -(-pages // self.batch)
        cost = Cost(
            calls=pages,
            prompt_tokens=missing_tokens + pages * self._gister.frame_tokens,
            completion_tokens=written,
            beside_tokens=written - written * steps // max(1, pages),
        )
        if self.pause == "choice":
            cost += Cost(pages, pages * (self.page_tokens + 2 * _FRAME_TOKENS))
        return cost

    def _lookup_cost(self, services: Services, question: Question) -> Cost:
        pages = self._count(sum(services.shelf.count_tokens(services.model).values()))
        asked = services.count_tokens([question.with_choices])[0] + _FRAME_TOKENS
        looked = min(self.pages, pages)
        page = (self.least_tokens + self.page_tokens) // 2
        rounds = looked if self._sequential(services) else 1
        weighed = pages if self.index is None else min(pages, self.candidates)
        gists = round(weighed * self.gist_tokens * _WRITTEN_RATIO)
        known = (rounds - 1) * page // 2
        if self._by(services) == "likelihood":
            kept = rounds * weighed * known
            cost = Cost(rounds * (weighed + 1), rounds * (gists + weighed * (asked + known)), cached_tokens=kept)
        else:  # half of the gists go on to each next round; in two orders
            calls = 2 * (-(-2 * gists // self.lookup_tokens))
            cost = Cost(rounds * calls, rounds * (4 * gists + calls * (asked + known)))
        if self.passage_tokens is not None and "logits" in services.model.capabilities:
            passages = looked * page // max(1, self._mean_chunk(services))
            cost += Cost(passages + 1, looked * page + passages * asked)
        if self.enough_above is None or question.choices is not None:
            return cost
        read = min(sum(self._room(services, question)), looked * page)
        kept = 2 * rounds * read if "logits" in services.model.capabilities else 0
        return cost + Cost(_LOOK_CALLS * rounds, _LOOK_CALLS * rounds * (read + asked), cached_tokens=kept)

    def _mean_chunk(self, services: Services) -> int:
        tokens = services.shelf.count_tokens(services.model)
        return sum(tokens.values()) // max(1, len(tokens))

    def _count(self, tokens: int) -> int:
        """About how many pages so many tokens have."""
        return -(-2 * tokens // (self.least_tokens + self.page_tokens))

    @property
    def _gister(self) -> Gister:
        return Gister(Pager(self.pause, self.least_tokens, self.page_tokens), self.gist_tokens)

    def _by(self, services: Services) -> Literal["likelihood", "choice"]:
        return self.by if "logits" in services.model.capabilities else "choice"

    def _sequential(self, services: Services) -> bool:
        return self.lookup == "sequential" or "logits" not in services.model.capabilities

    def _room(self, services: Services, question: Question) -> tuple[int, int]:
        """Tokens of pages, and of gists beside them, in the last prompt."""
        frame = sum(services.count_tokens([PASSAGES, question.with_choices])) + 2 * TEMPLATE_TOKENS
        left = services.model.window_tokens - ANSWER_TOKENS - frame
        read = self.pages * self.page_tokens
        if self.passage_tokens is not None:
            read = min(read, self.passage_tokens if question.choices is None else 2 * self.passage_tokens)
        read = min(left, read)
        return read, min(left - read, self.memory_tokens)

    def _check(self, services: Services, question: Question) -> None:
        """Raise where a page, or what is read of it, has no room in a prompt."""
        largest = max(services.shelf.count_tokens(services.model).values(), default=0)
        page = max(self.page_tokens, largest)
        gisting = services.model.window_tokens - self._gister.frame_tokens - self.gist_tokens
        reading, _ = self._room(services, question)
        for tokens, room in ((page, gisting), (page if self.passage_tokens is None else largest, reading)):
            if tokens > room:
                raise PromptTooLongError(
                    f"{tokens} tokens of text do not fit the {max(room, 0)} that are left in a prompt",
                    hint="set fewer page_tokens, index smaller chunks, or use a model with a larger window",
                )

    def _survey(self, state: State, runtime: Runtime[Services]) -> State:
        """Whether there are pages without a gist."""
        services, question = runtime.context, Question.of(state)
        self._check(services, question)
        if self.index is not None:  # what is loaded on first use must not be loaded when the time runs out
            find_chunks(services.shelf, question, self.index, 1)
        return self._surveyed(services, self._gister.missing(services))

    def _surveyed(self, services: Services, missing: Sequence[Sequence[int]]) -> State:
        """What follows: more gists, or, where no page is without, the look-up with the memory as it stays."""
        if missing:
            return {"gisting": True}
        pages = [asdict(page) for page in self._gister.pages(services)]
        return {"gisting": False, "memory": services.put_json(pages), "looked": [], "weighed": {}, "stated": None}

    def _gist(self, state: State, runtime: Runtime[Services]) -> State:
        """Make and remember the next pages. They stay in the library, whatever ends the run."""
        services, gister = runtime.context, self._gister
        each = services.priced(Cost(1, self.page_tokens, self.gist_tokens))
        most = services.budget.fitting(self.batch, each)
        before = gister.missing(services)
        gister.write(services, gister.pager.first_pages(services, before, most))
        missing = gister.missing(services)
        chunks, left = len(services.shelf.chunk_ids()), sum(map(len, missing))
        if before and left >= sum(map(len, before)):  # nothing was left where a kill came behind the last ones
            raise LibraryError("gists cannot be kept: the document is no longer in the library", hint="ask again")
        services.emit(Event("gist", chunks - left, chunks, "passages"))
        return self._surveyed(services, missing)

    def _lookup(self, state: State, runtime: Runtime[Services]) -> State:
        """Look up pages, all at once or the next one, and weigh their passages; is it stated there?"""
        services, question = runtime.context, Question.of(state)
        pages, sequential = self._pages(state, services), self._sequential(services)
        chosen = self._choose(services, question, pages, state)[: 1 if sequential else self.pages]
        looked = [*state["looked"], *chosen]
        chunks = [chunk for page in chosen for chunk in pages[page].chunks]
        services.chunks(chunks)  # noted as what is read here
        weighed = {**state["weighed"], **self._weigh(services, question, chunks)}
        passages = self._read(services, question, pages, looked, weighed)
        services.emit(Event("look up", len(looked), self.pages, "pages"))
        changed: State = {"looked": looked, "weighed": weighed, "passages": passages}
        going = sequential and bool(chosen) and len(looked) < min(self.pages, len(pages))
        if self.enough_above is None or question.choices is not None or not chosen:
            return {**changed, "looking": going}
        stated = look(services, self._material(services, question, pages, passages), question).stated
        return {**changed, "stated": stated, "looking": going and stated < self.enough_above}

    def _weigh(self, services: Services, question: Question, chunks: Sequence[int]) -> dict[int, float]:
        """How well passages of the looked-up pages fit: by likelihood, or in the order of an index without logits."""
        if self.passage_tokens is None:
            return {}
        if "logits" in services.model.capabilities:
            return weigh(services, question.with_choices, chunks)
        found = [] if self.index is None else find_chunks(services.shelf, question, self.index, _FOUND_CHUNKS)
        return {chunk: -float(found.index(chunk) if chunk in found else len(found)) for chunk in chunks}

    def _read(
        self,
        services: Services,
        question: Question,
        pages: Sequence[Page],
        looked: Sequence[int],
        weighed: Mapping[int, float],
    ) -> list[int]:
        """The chunks of the looked-up pages that are read: the best passages, or those of whole pages."""
        tokens, (room, _) = services.shelf.count_tokens(services.model), self._room(services, question)
        if self.passage_tokens is not None:
            return within_budget(sorted(weighed, key=lambda chunk: -weighed[chunk]), tokens, room)
        sizes = {page: sum(tokens[chunk] for chunk in pages[page].chunks) for page in looked}
        return [chunk for page in within_budget(looked, sizes, room) for chunk in pages[page].chunks]

    def _choose(self, services: Services, question: Question, pages: Sequence[Page], state: State) -> list[int]:
        """The pages to look up next, best first: those of their gists and those of the index, taking turns."""
        shelf, asked, looked = services.shelf, question.with_choices, state["looked"]
        on_page = {chunk: number for number, page in enumerate(pages) for chunk in page.chunks}
        found = [] if self.index is None else find_chunks(shelf, question, self.index, _FOUND_CHUNKS)
        indexed = [page for page in dict.fromkeys(on_page[chunk] for chunk in found) if page not in looked]
        unread = [page for page in range(len(pages)) if page not in looked]
        most = len(unread) if self.index is None else self.candidates
        gists = {page: pages[page].gist for page in sorted(list(dict.fromkeys([*indexed, *unread]))[:most])}
        known = section_text(shelf.get(sorted(state.get("passages", []))))
        if self._by(services) == "likelihood":
            ranked = rank_by_likelihood(services, asked, gists, known)
        else:
            ranked = rank_by_choice(services, asked, gists, known, self._lookup_room(services, known))
            if not ranked:
                return []
        turns = [indexed, ranked] if len(looked) % 2 else [ranked, indexed]
        return take_turns(turns, self.pages)

    def _lookup_room(self, services: Services, known: str) -> int:
        """Tokens of gists in a prompt that also holds what is known."""
        left = services.model.window_tokens - services.count_tokens([known])[0] - ANSWER_TOKENS
        return min(self.lookup_tokens, left)

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self._reply(state, runtime.context)

    def _reply(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from what is read of the pages."""
        question = Question.of(state)
        material = self._material(services, question, self._pages(state, services), state["passages"])
        reply = answer_if_stated(services, material, question, self.abstain_below, stated=state["stated"])
        return {"reply": reply.keep(services)}

    def _material(self, services: Services, question: Question, pages: Sequence[Page], read: Sequence[int]) -> str:
        """What is read, page by page, among the gists nearest to it: as many as there is room for."""
        shelf = services.shelf
        texts: dict[tuple[int, int], str] = {}
        for number, page in enumerate(pages):
            chunks = shelf.get([chunk for chunk in page.chunks if chunk in read])
            if chunks and self.passage_tokens is None:
                texts[number, 0] = section_text(chunks)
            else:
                texts |= {(number, chunk.id): text for chunk, text in zip(chunks, shown(chunks, shelf), strict=True)}
        if self.memory_tokens:
            full = {number for number, _ in texts}
            gists = {number: page.gist for number, page in enumerate(pages) if number not in full}
            lengths = services.count_tokens([f"[100] {gist}\n\n" for gist in gists.values()])
            near = sorted(gists, key=lambda page: min((abs(page - other) for other in full), default=0))
            _, room = self._room(services, question)
            kept = within_budget(near, dict(zip(gists, lengths, strict=True)), room)
            texts |= {(page, 0): gists[page] for page in kept}
        return PASSAGES.format(passages=numbered(text for _, text in sorted(texts.items())))

    def _pages(self, state: Mapping[str, Any], services: Services) -> list[Page]:
        return [Page(**page) for page in services.get_json(state["memory"])] if "memory" in state else []


def _after_gisting(state: State) -> str:
    return "gist" if state["gisting"] else "lookup"


def _after_looking(state: State) -> str:
    return "lookup" if state["looking"] else "answer"
