"""Retrieve, then reason: pick the sentences that bear on the question, hop by hop, and reason from these alone.

Source: Li et al., "ALR2: A Retrieve-then-Reason Framework for Long-context Question Answering", arXiv 2410.03227 (no
code): one model first writes down the sentences that support the answer, then answers from them.

Differs from the paper: the model does not copy sentences (a model that was not trained for it invents most of them);
it picks them. A candidate is scored by how much it raises the question beside what was picked before (query
likelihood), and each pick becomes a query that finds more candidates. `select="written"` is the paper's first stage:
the model writes the sentences; what is not in the source is dropped, counted and told. In both the evidence is cut
from the source. The paper reads the whole context at once and trains the model; here an index finds the candidates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import PASSAGES, Reply, answer_from
from readthrough.agents.reading.concluding import Span, answer_cost, cut_all, from_spans, to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data, in_reading_order, numbered, unwrap, unwrapped
from readthrough.agents.reading.pointers import Sentence, point, sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.retrieval.rerankers.likelihood import raised
from readthrough.types import Answer, Chunk, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

WHICH_SENTENCE = Prompt(
    """{sentences}

Question: {question}
Known so far: {known}
Which of the numbered sentences says most that is still missing to answer the question? Reply with its number, or \
with 0 if none does."""
)

WRITE_SENTENCES = Prompt(
    """{passages}

Question: {question}
Known so far: {known}
Copy from the passages the sentences that support the answer to the question, word for word, one a line:"""
)

REASON = Prompt(
    """{material}

Question: {question}
Reason step by step, in few words, from what the passages say to the answer:"""
)

REASONED = Prompt(
    """{material}

Reasoning: {steps}"""
)

NOTHING_YET = "(nothing yet)"

_FRAME_TOKENS = 96
_SENTENCES = 4  # in a chunk, as a rule
_LEAST_WORDS = 3  # of a written sentence, to be looked for in the source
_MOST_WRITTEN = 8  # sentences that are taken from one reply
_NUMBER = re.compile(r"^\s*(?:>\s*)?(?:\[\d+\]|\d+[.)]|[-*•])\s+")


class State(TypedDict, total=False):
    """What travels between nodes: hops taken, candidate and looked-at chunks, picked spans, counters, hashes."""

    question: str
    choices: list[str] | None
    hop: int
    candidates: list[int]
    looked: list[int]
    picked: list[Span]
    written: int
    invented: int
    stated: float
    next: str
    steps: str
    reply: str


@dataclass(frozen=True)
class RetrieveThenReason(Workflow):
    """Picks the sentences that bear on the question, hop by hop, then reasons from them alone (arXiv 2410.03227).

    Attributes:
        select: sentences are picked by score (`scored`), or written by the model and found in the source (`written`).
        index: the index to search, by its name in the catalogue.
        k: how many chunks a hop looks at.
        hops: the most hops.
        picks: the most sentences that a hop picks.
        least_gain: how much a sentence must raise the question beside those picked before (nats a token).
        enough_above: the probability that the picked sentences state the answer, at which no further hop is taken.
        neighbours: how many sentences of its passage are read before and after a picked one.
        reason_tokens: the most tokens of the reasoning; 0 answers without.
        written_tokens: the most tokens of written sentences, a hop.
        abstain_below: the probability that the sentences state the answer, below which the answer is refused.
    """

    name: ClassVar[str] = "retrieve-then-reason"

    select: Literal["scored", "written"] = "scored"
    index: str = "hybrid"
    k: int = 12
    hops: int = 3
    picks: int = 2
    least_gain: float = 0.05
    enough_above: float = 0.97
    neighbours: int = 1
    reason_tokens: int = 160
    written_tokens: int = 256
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        for name in ("k", "hops", "picks", "written_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: find (candidates) and pick (sentences), a hop each time; reason; answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"find": self._find, "pick": self._pick, "reason": self._reason, "answer": self._answer})
        graph.add_edge(START, "find")
        graph.add_edge("find", "pick")
        graph.add_conditional_edges("pick", _next, ["find", "reason", "answer"])
        graph.add_edge("reason", "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply; its evidence are the picked sentences, those that it rests on first."""
        reply = Reply.kept(services, state["reply"])
        picked = from_spans(services, state.get("picked", []))
        held = [chunk.id for chunk in _chunks_of(services, state.get("looked", []), picked)]
        coverage = ledger(services, retrieved=held, skipped=state.get("looked", []))
        if reply.abstained:
            return reply.to_answer(question, (), coverage)
        pointers = point(question.text, reply.said(question), picked, most=len(picked))
        named = {sentence for sentence, _ in pointers}
        pointers += [(sentence, []) for sentence in picked if sentence not in named]
        return reply.to_answer(question, cut_all(services, pointers), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """An answer from the sentences that were picked so far."""
        if not state.get("picked"):
            return super().finish_early(state, services)
        reply = answer_from(services, self._material(state, services), Question.of(state), state.get("stated"))
        return {"reply": reply.keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls over as many sentences as can be picked."""
        return with_spare(answer_cost(services, question, self._most_tokens(services)))

    def estimate(self, question: Question, services: Services) -> Cost:
        """As many hops as are allowed: each candidate sentence once a hop, and a look; the reasoning; the answer."""
        asked = services.model.count_tokens([question.text])[0] + _FRAME_TOKENS
        tokens = services.shelf.count_tokens(services.model)
        chunks = min(self.k, len(tokens))
        read = chunks * max(tokens.values(), default=0)
        scored = self.select == "scored" and "logits" in services.model.capabilities
        calls = chunks * _SENTENCES + 2 if scored else 1
        last = answer_cost(services, question, self._most_tokens(services))
        written = self.reason_tokens // 2 + (0 if scored else self.hops * self.written_tokens // 2)
        return Cost(self.hops * (calls + 3) + 1, self.hops * (read + calls * asked), written) + last

    def _most_tokens(self, services: Services) -> int:
        """Of all the sentences that can be picked, with their neighbours."""
        longest = max(services.shelf.count_tokens(services.model).values(), default=0)
        return min(self.hops * self.picks * longest + self.reason_tokens, services.model.window_tokens // 2)

    def _find(self, state: State, runtime: Runtime[Services]) -> State:
        """Candidates for the question, and for the question with each picked sentence, taking turns."""
        services, question = runtime.context, Question.of(state)
        queries = [question]
        for sentence in from_spans(services, state.get("picked", [])):
            queries.append(Question(f"{question.text} {_text(services, sentence)}"))
        ranked = [find_chunks(services.shelf, query, self.index, self.k) for query in queries]
        candidates = take_turns(ranked, self.k)
        looked = list(dict.fromkeys([*state.get("looked", []), *candidates]))
        hop = state.get("hop", 0) + 1
        services.emit(Event("find", hop, self.hops, "hops"))
        return {"hop": hop, "candidates": candidates, "looked": looked}

    def _pick(self, state: State, runtime: Runtime[Services]) -> State:
        """Pick the sentences that say most beside those picked before; look whether that is enough."""
        services, question = runtime.context, Question.of(state)
        documents = services.shelf.document_ids()
        chunks = in_reading_order(services.chunks(state["candidates"]), documents)
        picked = from_spans(services, state.get("picked", []))
        changed: State = {}
        if self.select == "written":
            found, written, invented = self._written(services, question, chunks, picked)
            services.decide("sentences written, and not in the source", written=written, invented=invented)
            changed = {"written": state.get("written", 0) + written, "invented": state.get("invented", 0) + invented}
        else:
            found = self._scored(services, question, chunks, picked)
        changed["picked"] = to_spans(services, [*picked, *found])
        services.emit(Event("pick", len(changed["picked"]), None, "sentences"))
        return {**changed, **self._enough({**state, **changed}, bool(found), services)}

    def _enough(self, state: State, found: bool, services: Services) -> State:
        """How probable it is that the picked sentences state the answer, and what to do next."""
        question = Question.of(state)
        if not state["picked"]:
            return {"stated": 0.0, "next": "answer"}
        stated = look(services, self._material(state, services), question).stated if found else state["stated"]
        if found and state["hop"] < self.hops and stated < self.enough_above:
            return {"stated": stated, "next": "find"}
        refused = question.choices is None and stated < self.abstain_below
        return {"stated": stated, "next": "answer" if refused or not self.reason_tokens else "reason"}

    def _scored(
        self, services: Services, question: Question, chunks: Sequence[Chunk], picked: Sequence[Sentence]
    ) -> list[Sentence]:
        """The sentences that raise the question most beside what was picked; without logits the one that is chosen."""
        among = [sentence for sentence in sentences(chunks) if sentence not in picked]
        texts = [_text(services, sentence) for sentence in among]
        if not among:
            return []
        asked = question.with_choices
        if "logits" not in services.model.capabilities:
            shown = WHICH_SENTENCE.format(sentences=numbered(texts), question=asked, known=_known(services, picked))
            options = [str(number) for number in range(len(among) + 1)]
            best = services.choose([Request.user(shown)], [options])[0].best
            return [among[best - 1]] if best else []
        known = f"{_known(services, picked)} " if picked else ""
        base, *gains = raised(services, asked, [known, *(known + text for text in texts)])
        ranked = sorted(range(len(among)), key=lambda place: -gains[place])[: self.picks]
        for place in ranked:
            services.decide("does it add to what is known?", gain=gains[place] - base)
        return [among[place] for place in ranked if gains[place] - base >= self.least_gain]

    def _written(
        self, services: Services, question: Question, chunks: Sequence[Chunk], picked: Sequence[Sentence]
    ) -> tuple[list[Sentence], int, int]:
        """The sentences that the model copied and that are in the source; how many it wrote; how many it invented."""
        prompt = WRITE_SENTENCES.format(
            passages=numbered(unwrapped(chunks, services.shelf)),
            question=question.text,
            known=_known(services, picked),
        )
        completion = services.complete([Request.user(prompt, max_tokens=self.written_tokens)])[0]
        among = {sentence: _text(services, sentence) for sentence in sentences(chunks)}
        found, written, invented = matched(completion.text.splitlines(), among)
        return [sentence for sentence in found if sentence not in picked][:_MOST_WRITTEN], written, invented

    def _reason(self, state: State, runtime: Runtime[Services]) -> State:
        """Reason step by step from the sentences with their neighbours."""
        services, question = runtime.context, Question.of(state)
        asked = question.text if question.choices is None else f"{question.text} ({'; '.join(question.choices)})"
        prompt = REASON.format(material=self._material(state, services), question=asked)
        completion = services.complete([Request.user(prompt, max_tokens=self.reason_tokens)])[0]
        return {"steps": services.put(completion.text.strip())}

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        services, question, stated = runtime.context, Question.of(state), state["stated"]
        if question.choices is None and (not state["picked"] or stated < self.abstain_below):
            return {"reply": Reply.refused(stated).keep(services)}
        material = self._material(state, services)
        if state.get("steps"):
            material = REASONED.format(material=material, steps=as_data(services.get(state["steps"])))
        return {"reply": answer_from(services, material, question, stated).keep(services)}

    def _material(self, state: Mapping[str, Any], services: Services) -> str:
        """The picked sentences with their neighbours, in reading order, as numbered passages."""
        picked = from_spans(services, state["picked"])
        rank = {entry.id: number for number, entry in enumerate(services.shelf.documents)}
        spans: list[tuple[str, int, int]] = []
        for document, start, end in sorted(
            (self._widened(services, sentence, state["looked"]) for sentence in picked),
            key=lambda span: (rank[span[0]], span[1]),
        ):
            if spans and spans[-1][0] == document and start <= spans[-1][2]:
                spans[-1] = (document, spans[-1][1], max(end, spans[-1][2]))
            else:
                spans.append((document, start, end))
        texts = [unwrap(services.shelf.document(document).text[start:end]) for document, start, end in spans]
        return PASSAGES.format(passages=numbered(texts))

    def _widened(self, services: Services, sentence: Sentence, looked: Sequence[int]) -> tuple[str, int, int]:
        """A sentence with its neighbours in the chunk that holds it."""
        around = sentences(_chunks_of(services, looked, [sentence]))
        place = around.index(sentence)
        near = around[max(0, place - self.neighbours) : place + self.neighbours + 1]
        return sentence.document, near[0].start, near[-1].end


def matched(lines: Sequence[str], among: Mapping[Sentence, str]) -> tuple[list[Sentence], int, int]:
    """Written sentences, looked for in the source: those found, how many were written, how many are not in it.

    A line is in the source where its words stand in a sentence in the same order, with nothing between, or a whole
    sentence's stand so in the line. Lines of fewer than three words are no sentences.
    """
    sources = {sentence: _joined(text) for sentence, text in among.items()}
    written = [line for line in map(_joined, lines) if line.count(" ") > _LEAST_WORDS]
    found: dict[Sentence, None] = {}
    invented = 0
    for line in written:
        holding = [
            sentence
            for sentence, text in sources.items()
            if line in text or (text in line and text.count(" ") > _LEAST_WORDS)
        ]
        found.update(dict.fromkeys(holding))
        invented += not holding
    return list(found), len(written), invented


def _joined(text: str) -> str:
    """Words with a space around each, so that one text in another means whole words."""
    return f" {' '.join(words(_NUMBER.sub('', text)))} "


def _next(state: State) -> str:
    return state["next"]


def _text(services: Services, sentence: Sentence) -> str:
    text = services.shelf.document(sentence.document).text[sentence.start : sentence.end]
    return as_data(unwrap(text))


def _known(services: Services, picked: Sequence[Sentence]) -> str:
    return " ".join(_text(services, sentence) for sentence in picked) or NOTHING_YET


def _chunks_of(services: Services, among: Sequence[int], picked: Sequence[Sentence]) -> list[Chunk]:
    """The chunks, of those with the ids `among`, that hold a picked sentence."""
    places = {(sentence.document, sentence.start) for sentence in picked}
    return [
        chunk
        for chunk in services.shelf.get(list(among))
        if any(document == chunk.document and chunk.start <= start < chunk.end for document, start in places)
    ]
