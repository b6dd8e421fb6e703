"""Verify-claim: is a claim about a whole text true, false, or not told? With the sentences for it and against it.

Source: Pham et al., "CLIPPER: Compression Enables Long-Context Synthetic Data Generation", arXiv 2502.14854
(chtmp223/CLIPPER): a book is compressed into an outline of every chapter, and claims are made and checked against
outlines before the text itself; the model that it trains explains in a paragraph, then says true or false.

Differs from the paper: it makes claims to train models with, which then read whole books; here its compressed form
serves to check a given claim without training. Outlines are written once a document and kept in the library, each
event with the sentence it was written from; synopsis, characters and book summary are left out. The claim is looked
for in the outlines first, then in the passages of the chapters that are about it and those that an index finds. The
verdict is decided by scored choices over the sentences that bear on it, and may be that the text does not tell.
`explain_tokens` 200 has the paragraph written before the verdict, as the paper's models do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import Span, cut_all, from_spans, quotes_for, to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.keeping import chunks_within, kept, text_of
from readthrough.agents.reading.passages import as_data, in_reading_order
from readthrough.agents.reading.pointers import Sentence, nearest, sentences
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.claims.judging import signs, verdict
from readthrough.agents.workflows.claims.outlining import (
    EVENT_TOKENS,
    OUTLINE,
    chapters,
    outline,
    outline_recipe,
    rank_events,
    shown_outline,
)
from readthrough.agents.workflows.claims.stating import FALSE, claim_of, reply_of, said_of, sides
from readthrough.models.base import Request
from readthrough.retrieval.facts import Fact
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.retrieval.rerankers.likelihood import raised
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

EXPLAIN = Prompt(
    """{text}

Claim: {claim}

Explain in one paragraph what the text above says about each part of the claim:"""
)

NOTES = Prompt(
    """This is an outline of a text:

{outline}"""
)

_FOUND_CHUNKS = 24
_CANDIDATES = 24
_FRAME_TOKENS = 64
_SENTENCE_TOKENS = 32
_EVENT_WRITTEN_TOKENS = 24


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the chapters, how far they are outlined, chosen ones, places, the reply."""

    question: str
    choices: list[str] | None
    chapters: str
    todo: str
    at: int
    left: int
    chosen: list[int]
    found: list[int]
    speaks: list[Span]
    gainsays: list[Span]
    reply: str


@dataclass(frozen=True)
class VerifyClaim(Grounded):
    """Says whether a claim is true, false or not told, with the sentences for it and against it (arXiv 2502.14854).

    With the choices true and false (or yes and no) it is one of these. A question, or one with other choices, is
    answered from the outlines and the passages.

    Attributes:
        chapter_tokens: the most tokens of a part that has an outline of its own.
        events: the most events of an outline.
        batch: how many outlines are written side by side.
        chapters: in how many chapters the claim is looked for.
        picks: how many sentences are judged.
        explain_tokens: the most tokens of a paragraph that is written before the verdict; 0 for none.
        quotes: the most sentences for the claim, and against it, that are quoted.
    """

    name: ClassVar[str] = "verify-claim"

    chapter_tokens: int = 2000
    events: int = 7
    batch: int = 8
    chapters: int = 2
    picks: int = 6
    explain_tokens: int = 0
    quotes: int = 2

    def __post_init__(self) -> None:
        for option in ("chapter_tokens", "events", "batch", "chapters", "picks", "quotes"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, got {getattr(self, option)}")

    @property
    def prepares(self) -> bool:
        """Outlines are kept."""
        return True

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: survey (chapters without an outline), outline (a batch a step), locate, then judge or answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"survey": self._survey, "outline": self._outline, "locate": self._locate}
        add_nodes(graph, {**nodes, "judge": self._judge, "answer": self._answer})
        graph.add_edge(START, "survey")
        for node in ("survey", "outline"):
            graph.add_conditional_edges(node, self._more, ["outline", "locate"])
        graph.add_conditional_edges("locate", self._next, ["judge", "answer"])
        for node in ("judge", "answer"):
            graph.add_edge(node, END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, and the modules of outlines and verdicts."""
        return (*super().sources(), *(part.__module__ for part in (outline, verdict, claim_of, kept)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The verdict with the sentences for and against; chapters that are known by their outline are gisted."""
        reply, found = Reply.kept(services, state["reply"]), state.get("found", [])
        outlined = [
            chunk for chapter in self._chosen(state, services) for chunk in chunks_within(services.shelf, chapter)
        ]
        coverage = ledger(services, retrieved=found, gisted=outlined)
        if claim_of(question) is None:
            spans = [*self.notes(state, services).spans, *spans_of(services, found)]
            return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)
        if reply.abstained:
            return reply.to_answer(question, (), coverage)
        first, second = (from_spans(services, state.get(name, [])) for name in ("speaks", "gainsays"))
        pointers = [(sentence, [0] if question.choices else [0, 1]) for sentence in first]
        pointers += [(sentence, [] if question.choices else [2]) for sentence in second]
        return reply.to_answer(question, cut_all(services, pointers), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The verdict from the sentences that share most words with the claim; of a question what is known."""
        claim = claim_of(Question.of(state))
        return super().finish_early(state, services) if claim is None else self._verdict(state, services, claim, True)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The verdict, or the answer."""
        if claim_of(question) is None:
            return with_spare(self.grounding.cost(services, question, self.chapters * self.events * EVENT_TOKENS))
        return self._judging(question, services, 0)

    def estimate(self, question: Question, services: Services) -> Cost:
        """The outlines that are missing, a look at outlines, the verdict or the answer."""
        plan, known = chapters(services, self._room(services)), self._known(services)
        todo = [chapter for chapter in plan if chapter not in known]
        tokens = services.shelf.count_tokens(services.model)
        missing = sum(tokens[chunk] for chapter in todo for chunk in chunks_within(services.shelf, chapter))
        frame = services.model.count_tokens([OUTLINE])[0] + _FRAME_TOKENS
        events = self.events * _EVENT_WRITTEN_TOKENS
        cost = Cost(
            len(todo),
            missing + len(todo) * frame,
            len(todo) * events,
            beside_tokens=(len(todo) - -(-len(todo) // self.batch)) * events,
        )
        if "logits" in services.model.capabilities and len(plan) > self.chapters:
            weighed = min(_CANDIDATES, len(plan))
            cost += Cost(weighed + 1, weighed * (events + _FRAME_TOKENS))
        if claim_of(question) is None:
            return cost + self.grounding.cost(services, question, self.chapters * events)
        judged = self._judging(question, services, self.passage_tokens // _SENTENCE_TOKENS)
        return cost + judged + Cost(int(self.explain_tokens > 0), 0, self.explain_tokens // 2)

    def _judging(self, question: Question, services: Services, weighed: int) -> Cost:
        """What a verdict takes, after so many sentences were weighed."""
        asked = services.model.count_tokens([question.text])[0] + _FRAME_TOKENS
        logits = "logits" in services.model.capabilities
        calls = (self.picks + 3) * (2 if logits else 1) + (weighed + 2 if logits else 0)
        text = 4 * self.picks * _SENTENCE_TOKENS + 2 * self.chapters * self.events * EVENT_TOKENS
        return Cost(calls, calls * asked + text + weighed * _SENTENCE_TOKENS)

    def _room(self, services: Services) -> int:
        frame = services.model.count_tokens([OUTLINE])[0] + _FRAME_TOKENS
        return min(self.chapter_tokens, services.model.window_tokens - frame - self.events * EVENT_TOKENS)

    def _known(self, services: Services) -> dict[Span, tuple[Fact, ...]]:
        return kept(services, outline_recipe(services, self.events))

    def _survey(self, state: State, runtime: Runtime[Services]) -> State:
        """The chapters, and those of them that have no outline yet."""
        services = runtime.context
        plan, known = chapters(services, self._room(services)), self._known(services)
        todo = [chapter for chapter in plan if chapter not in known]
        self.grounding.prepare(services, Question.of(state))
        return {"chapters": services.put_json(plan), "todo": services.put_json(todo), "at": 0, "left": len(todo)}

    def _outline(self, state: State, runtime: Runtime[Services]) -> State:
        """The outlines of the next chapters."""
        services, at = runtime.context, state["at"]
        todo = services.get_json(state["todo"])
        each = services.priced(Cost(1, self.chapter_tokens, self.events * EVENT_TOKENS))
        batch = todo[at : at + services.budget.fitting(self.batch, each)]
        outline(services, batch, self.events)
        at += len(batch)
        services.emit(Event("outline", at, len(todo), "chapters"))
        return {"at": at, "left": len(todo) - at}

    def _more(self, state: State) -> str:
        return "outline" if state["left"] else "locate"

    def _locate(self, state: State, runtime: Runtime[Services]) -> State:
        """The chapters that the claim is about, by their outlines."""
        services, question = runtime.context, Question.of(state)
        plan = [(number, start, end) for number, start, end in services.get_json(state["chapters"])]
        places, outlines = {chapter: at for at, chapter in enumerate(plan)}, self._known(services)
        known = {chapter: outlines[chapter] for chapter in plan if outlines.get(chapter)}
        asked = claim_of(question) or question.with_choices
        named = list(dict.fromkeys(places[chapter] for chapter, _ in rank_events(asked, known)))
        holding = {chunk: at for at, chapter in enumerate(plan) for chunk in chunks_within(services.shelf, chapter)}
        hits = find_chunks(services.shelf, Question(asked), self.index, _FOUND_CHUNKS)
        hit = [at for at in dict.fromkeys(holding[chunk] for chunk in hits) if plan[at] in known]
        ranked = take_turns([hit, named], _CANDIDATES)
        if "logits" in services.model.capabilities and len(ranked) > self.chapters:
            texts = [shown_outline(services, plan[at], known[plan[at]]) for at in ranked]
            weights = dict(zip(ranked, raised(services, asked, texts), strict=True))
            services.decide("which chapters?", **{str(at): weight for at, weight in weights.items()})
            ranked.sort(key=lambda at: -weights[at])
        services.emit(Event("locate", min(self.chapters, len(ranked)), len(plan), "chapters"))
        return {"chosen": sorted(ranked[: self.chapters])}

    def _next(self, state: State) -> str:
        return "answer" if claim_of(Question.of(state)) is None else "judge"

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def _judge(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """The verdict over the sentences that bear on the claim, and what each of them says."""
        return self._verdict(state, runtime.context, claim_of(Question.of(state)) or "", False)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The outlines of the chosen chapters, and the places of their events, those nearest to the claim first."""
        known = self._known(services)
        chosen = {chapter: known[chapter] for chapter in self._chosen(state, services)}
        texts = [shown_outline(services, chapter, events) for chapter, events in chosen.items()]
        asked = claim_of(Question.of(state)) or state["question"]
        spans = [(chapter[0], event.start, event.end) for chapter, event in rank_events(asked, chosen)]
        text = "\n\n".join(texts)
        return Notes(NOTES.format(outline=text), text, spans)

    def _chosen(self, state: Mapping[str, Any], services: Services) -> list[Span]:
        if not state.get("chosen"):
            return []
        plan = services.get_json(state["chapters"])
        return [(plan[at][0], plan[at][1], plan[at][2]) for at in state["chosen"]]

    def _verdict(self, state: Mapping[str, Any], services: Services, claim: str, hurried: bool) -> dict[str, Any]:
        """The reply, the passages that were found, the places that speak for the verdict and those that gainsay it.

        In a hurry the sentences are those that share most words with the claim, and nothing is explained.
        """
        question, notes = Question.of(state), self.notes(state, services)
        found = self.grounding.find(services, Question(claim), notes)
        passages = in_reading_order(services.chunks(found), services.shelf.document_ids())
        among = list(dict.fromkeys([*sentences(passages), *from_spans(services, notes.spans[: self.picks])]))
        picked = self._pick(services, claim, among, hurried)
        if not picked:
            return {"reply": Reply.refused().keep(services), "found": found}
        texts = _texts(services, picked)
        whole = "\n".join(texts[at] for at in sorted(range(len(picked)), key=lambda at: among.index(picked[at])))
        outlined = f"{notes.text}\n\n{whole}" if notes.text else whole
        explained = ""
        if self.explain_tokens and not hurried:
            prompt = EXPLAIN.format(text=outlined, claim=claim)
            explained, _ = written(services.complete([Request.user(prompt, max_tokens=self.explain_tokens)])[0])
            outlined = f"{outlined}\n\n{as_data(explained)}"
        together, with_outline, *each = signs(services, claim, [whole, outlined, *texts])
        decided = verdict(services, [together, with_outline, each[0]])
        both = sides(each, said_of(decided, question))
        places = [to_spans(services, [picked[at] for at in side[: self.quotes]]) for side in both]
        reply = reply_of(decided, question, len(places[0]), len(places[1]), explained)
        if said_of(decided, question) == FALSE:
            places.reverse()
        return {"reply": reply.keep(services), "found": found, "speaks": places[0], "gainsays": places[1]}

    def _pick(self, services: Services, claim: str, among: Sequence[Sentence], hurried: bool) -> list[Sentence]:
        """The sentences that raise the claim most, the first most of all."""
        if hurried or "logits" not in services.model.capabilities:
            ranked = nearest(claim, among)
        else:
            weights = raised(services, claim, _texts(services, among))
            ranked = sorted(range(len(among)), key=lambda at: -weights[at])
        return [among[at] for at in ranked[: self.picks]]


def _texts(services: Services, among: Sequence[Sentence]) -> list[str]:
    """Sentences as they may stand in a prompt."""
    return [text_of(services.shelf, span) for span in to_spans(services, among)]
