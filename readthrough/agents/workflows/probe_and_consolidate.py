"""Probe and consolidate: where an answer is at an impasse, probes search on, and what they find is kept and fused.

Source: Wang et al., "ComoRAG: A Cognitive-Inspired Memory-Organized RAG for Stateful Long Narrative Reasoning", arXiv
2508.10419, and the authors' code (EternityJune25/ComoRAG): three layers (veridical: passages with a graph of triples;
semantic: a tree of summaries; episodic: summaries of sliding windows), and a loop of at most 5 cycles: the answer, or
"*" where the model does not know; then at most 3 probes, a cue from what each of them finds, and the half of the memory
pool that is most like the question fused into one summary.

Differs from the paper: whether there is an impasse is decided by how probably passages of the source state the answer
(`impasse="scored"`); with "written", the paper's form, the model says "*". Passages are found by the index. A cue is
written of a probe's three layers together, and only where these probably say something about the probe; it carries the
places that it stands on. By default a window is summarised when a probe first leads to it (`episodes="all"` summarises
all of them before the first answer, as the paper does), and the semantic layer is the trees of summaries that the
library has already (`semantic="grown"` grows what is missing). The answer has passages of the source beside the memory
(`reading.grounding`; `passage_tokens` 0 and `abstain_below` 0 are the paper's form).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, Reply, passages_material
from readthrough.agents.reading.concluding import Span, carry, from_spans, quotes_for, to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.kinds import SUB_QUESTION_TOKENS, new_questions
from readthrough.agents.reading.looking import stated_pairs
from readthrough.agents.reading.passages import as_data, in_reading_order, within_budget
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.probing.layers import EPISODE_WORDS, Layers, keep_told, kept_told, plan_windows
from readthrough.models.base import Request
from readthrough.retrieval.embedding import embed_queries, embed_texts
from readthrough.retrieval.trees.base import Tree
from readthrough.retrieval.trees.growing import UNLIMITED_TOKENS, Grower
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

PROBE = Prompt(
    """{material}

Question: {question}
The passages above do not answer this question.{asked} Write {count} short questions to search the rest of the text \
with: each about something else that would help, with the names of persons, places and things, one a line. Do not \
repeat the question."""
)

TRIED = Prompt(" These questions were tried already: {probes}")

CUE = Prompt(
    """{material}

Question: {question}
What does the text above say about this: {probe}
Write one or two short sentences with its names and facts:"""
)

FUSE = Prompt(
    """Notes on a long text:

{notes}

Question: {question}
Write one short text that puts these notes together. Keep every name, number and fact that may help to answer the \
question, each once:"""
)

TRY = Prompt(
    """{material}

Question: {question}
Answer the question from the text above, in as few words as possible. If it does not say, write * and nothing else."""
)

MEMORY = Prompt(
    """What was found out while a long text was searched for this question:

{memory}"""
)

IMPASSE = "*"

_CUE_SPANS = 4
_FOUND_CHUNKS = 24
_BATCH = 8
_FRAME_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Cue:
    """What a probe found out, or (`fused`) several of them: a text, the places that it stands on, its cycle."""

    probe: str
    text: str
    spans: Sequence[Span]
    cycle: int
    fused: bool = False


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the windows, of their summaries (a chain), of the memory pool, of all
    probes and those of this cycle, and of the chunks that were seen; counters; the next node, the reply's hash."""

    question: str
    choices: list[str] | None
    windows: str
    at: int
    told: str | None
    pool: str
    probes: str
    asked: str
    seen: str
    cycle: int
    next: str
    found: list[int]
    reply: str


@dataclass(frozen=True)
class ProbeAndConsolidate(Grounded):
    """Answers, or probes on from the impasse and fuses what is found, up to five times (ComoRAG, 2508.10419).

    Attributes:
        cycles: the most cycles; one in which no probe finds anything is the last.
        probes: the most probes of a cycle.
        impasse: it is one where passages do not state the answer (`scored`), or where the model says so (`written`).
        enough_above: the probability that the answer is stated, below which there is an impasse.
        episodes: windows are summarised when a probe leads to them (`near`), or all of them at first (`all`).
        semantic: summaries of trees that the library has (`kept`); missing ones are grown first (`grown`); or `none`.
        probe_tokens: the most tokens of passages that a probe finds.
        cue_tokens: the most tokens of a cue.
        fused_tokens: the most tokens of a fused summary.
        fused_ratio: what share of the pool is fused in a cycle.
        drop_below: the probability that what a probe found says something about it, below which it gives no cue.
    """

    name: ClassVar[str] = "probe-and-consolidate"

    cycles: int = 5
    probes: int = 3
    impasse: Literal["scored", "written"] = "scored"
    enough_above: float = 0.5
    episodes: Literal["near", "all"] = "near"
    semantic: Literal["kept", "grown", "none"] = "kept"
    probe_tokens: int = 500
    cue_tokens: int = 96
    fused_tokens: int = 192
    fused_ratio: float = 0.5
    drop_below: float = 0.3

    def __post_init__(self) -> None:
        for name in ("probes", "probe_tokens", "cue_tokens", "fused_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.cycles < 0 or not 0 < self.fused_ratio <= 1:
            raise ValueError("cycles must not be negative, fused_ratio more than 0 and at most 1")

    @property
    def prepares(self) -> bool:
        """Trees are kept."""
        return self.semantic == "grown"

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: survey (the layers), tell (a batch of windows), try (the answer); probe, recall, fuse: a cycle."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"survey": self._survey, "tell": self._tell, "try": self._try}
        add_nodes(graph, {**nodes, "probe": self._probe, "recall": self._recall, "fuse": self._fuse})
        graph.add_edge(START, "survey")
        for name in ("survey", "tell"):
            graph.add_conditional_edges(name, _next, ["tell", "try"])
        graph.add_conditional_edges("try", _next, {"probe": "probe", "end": END})
        graph.add_conditional_edges("probe", _next, ["recall", "try"])
        graph.add_edge("recall", "fuse")
        graph.add_edge("fuse", "try")
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, and the module of the layers."""
        return (*super().sources(), Layers.__module__)

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. Passages are retrieved; what is known by summaries alone is gisted."""
        reply = Reply.kept(services, state["reply"])
        found, seen = state.get("found", []), _seen(state, services)
        coverage = ledger(services, retrieved=[*found, *seen["tried"], *seen["read"]], gisted=seen["gisted"])
        spans = [*self.notes(state, services).spans, *spans_of(services, found)]
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls over a full memory."""
        return with_spare(self.grounding.cost(services, question, self._memory_tokens))

    @property
    def _memory_tokens(self) -> int:
        return self.probes * self.cue_tokens + self.cycles * self.fused_tokens

    def estimate(self, question: Question, services: Services) -> Cost:
        """All cycles: probes, what each of them finds looked at, told and noted, a fused summary, an answer tried."""
        tokens = services.shelf.count_tokens(services.model)
        asked = services.count_tokens([question.with_choices])[0] + _FRAME_TOKENS
        text = min(self.probe_tokens, sum(tokens.values()))
        windows = plan_windows(services)
        length = sum(tokens.values()) // max(1, len(windows))
        episode = Cost(1, length + asked, EPISODE_WORDS)
        logits = "logits" in services.model.capabilities
        looks = 3 if logits else 1
        one = Cost(looks + 1, (looks + 1) * (text + asked), self.cue_tokens // 2, cached_tokens=looks * text * logits)
        attempt = self.grounding.cost(services, question, self._memory_tokens // 2)
        passages = min(self.passage_tokens, sum(tokens.values()))
        probing = Cost(1, passages + asked, self.probes * SUB_QUESTION_TOKENS // 2)
        fusing = Cost(1, self._memory_tokens // 2 + asked, self.fused_tokens // 2)
        each = one + episode if self.episodes == "near" else one
        cycle = sum([each] * self.probes, probing + fusing + attempt)
        cost = sum([cycle] * self.cycles, attempt)
        if self.episodes == "all":
            cost += sum([episode] * len(windows), Cost())
        if self.semantic == "grown":
            cost += _grower().cost(services.shelf, services.model, as_data)
        return cost

    def _survey(self, state: State, runtime: Runtime[Services]) -> State:
        """The windows of all documents; the trees, where they are to be grown."""
        services = runtime.context
        plan = plan_windows(services)
        self.grounding.prepare(services, Question.of(state))
        if self.semantic == "grown":
            ask, tell = services.complete, services.emit
            _grower().grow(services.shelf, services.model, complete=ask, shown=as_data, on_event=tell)
        empty = services.put_json([])
        seen = services.put_json(_seen({}, services))
        first: State = {"at": 0, "told": None, "cycle": 0, "next": "tell" if self.episodes == "all" else "try"}
        return {**first, "windows": services.put_json(plan), "pool": empty, "probes": empty, "seen": seen}

    def _tell(self, state: State, runtime: Runtime[Services]) -> State:
        """Summarise the next windows."""
        services, layers = runtime.context, self._layers(state, runtime.context)
        at = min(state["at"] + _BATCH, len(layers.windows))
        layers.tell(services, range(state["at"], at))
        services.emit(Event("tell", at, len(layers.windows), "windows"))
        told = keep_told(services, layers.told, state["told"])
        return {"at": at, "told": told, "next": "tell" if at < len(layers.windows) else "try"}

    def _try(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """Answer from passages and memory, or say that this is an impasse; after the last cycle there is none."""
        services, question = runtime.context, Question.of(state)
        least, last = max(self.enough_above, self.abstain_below), state["cycle"] >= self.cycles
        if self.impasse == "written" and question.choices is None:
            tried = self._said(state, services, question)
        elif last:
            tried = self.reply(state, services)
        else:
            grounding = replace(self.grounding, abstain_below=least)
            tried = grounding.answer(services, question, self.notes(state, services))
        reply = Reply.kept(services, tried["reply"])
        stuck = reply.abstained
        if question.choices is not None:  # of what is written the confidence is that it is right, not that it is stated
            stuck = reply.confidence is not None and reply.confidence < least
        seen = _seen(state, services)
        seen["tried"] = list(dict.fromkeys([*seen["tried"], *tried["found"]]))
        return {**tried, "seen": services.put_json(seen), "next": "probe" if stuck and not last else "end"}

    def _said(self, state: State, services: Services, question: Question) -> dict[str, Any]:
        """The paper's form: the model answers, or writes a star."""
        found = find_chunks(services.shelf, question, self.index, _FOUND_CHUNKS)
        found = within_budget(found, services.shelf.count_tokens(services.model), self.probe_tokens)
        prompt = TRY.format(material=self._material(state, services, found), question=question.text)
        said = services.complete([Request.user(prompt, max_tokens=ANSWER_TOKENS)])[0].text.strip()
        stuck = not said or said.strip(" .\"'") == IMPASSE
        reply = Reply.refused() if stuck else Reply(said)
        return {"reply": reply.keep(services), "found": found}

    def _probe(self, state: State, runtime: Runtime[Services]) -> State:
        """Write new probes; where there are none, this was the last cycle."""
        services, question = runtime.context, Question.of(state)
        before: list[str] = services.get_json(state["probes"])
        material = self._material(state, services, state["found"])
        asked = TRIED.format(probes=" ".join(before)) if before else ""
        prompt = PROBE.format(material=material, question=question.with_choices, asked=asked, count=self.probes)
        reply = services.complete([Request.user(prompt, max_tokens=self.probes * SUB_QUESTION_TOKENS)])[0]
        new = new_questions(reply, [question.text, *before], self.probes)
        cycle = state["cycle"] + 1
        services.emit(Event("probe", cycle, self.cycles, "cycles", " / ".join(new)))
        probes = services.put_json([*before, *new])
        if not new:
            return {"cycle": self.cycles, "next": "try"}
        return {"cycle": cycle, "probes": probes, "asked": services.put_json(new), "next": "recall"}

    def _recall(self, state: State, runtime: Runtime[Services]) -> State:
        """Search the layers for every probe, and note what says something; without a note this is the last cycle."""
        services, question = runtime.context, Question.of(state)
        probes: list[str] = services.get_json(state["asked"])
        layers, seen = self._layers(state, services), _seen(state, services)
        found = layers.search(services, probes, [*state["found"], *seen["read"]])
        materials = [one.material(services) for one in found]
        sure = stated_pairs(services, [(text, Question(one)) for text, one in zip(materials, probes, strict=True)])
        worth = [place for place, share in enumerate(sure) if share >= self.drop_below]
        asked = [
            CUE.format(material=materials[place], question=question.with_choices, probe=probes[place])
            for place in worth
        ]
        replies = services.complete([Request.user(prompt, max_tokens=self.cue_tokens) for prompt in asked])
        cues = [
            self._cue(services, probes[place], written(reply)[0], found[place].chunks, state["cycle"])
            for place, reply in zip(worth, replies, strict=True)
        ]
        cues = [cue for cue in cues if cue.text]
        read = [chunk for one in found for chunk in one.chunks]
        gisted = [chunk for one in found for chunk in one.gisted]
        changed: State = {} if cues else {"cycle": self.cycles}
        return {
            **changed,
            "told": keep_told(services, layers.told, state["told"]),
            "pool": _keep(services, [*_pool(state, services), *cues]),
            "seen": services.put_json({**seen, "read": [*seen["read"], *read], "gisted": [*seen["gisted"], *gisted]}),
        }

    def _cue(self, services: Services, probe: str, text: str, chunks: Sequence[int], cycle: int) -> Cue:
        spans = carry(services, probe, text, [], services.shelf.get(chunks), _CUE_SPANS) if text else []
        return Cue(probe, text, spans, cycle)

    def _fuse(self, state: State, runtime: Runtime[Services]) -> State:
        """Fuse the part of the pool that is most like the question into one summary, which is part of the pool then."""
        services, question = runtime.context, Question.of(state)
        pool = _pool(state, services)
        single = [cue for cue in pool if not cue.fused]
        count = math.ceil(len(single) * self.fused_ratio)
        if count < 2:
            return {"pool": state["pool"]}
        embedder = services.shelf.embedder
        alike = embed_texts(embedder, [cue.text for cue in single]) @ embed_queries(embedder, [question.text])[0]
        best = sorted(sorted(range(len(single)), key=lambda place: -alike[place])[:count])
        chosen = [single[place] for place in best]
        prompt = FUSE.format(notes=_shown(chosen), question=question.with_choices)
        reply = services.complete([Request.user(prompt, max_tokens=self.fused_tokens)])[0]
        text = written(reply)[0]
        if not text:
            return {"pool": state["pool"]}
        spans = to_spans(services, dict.fromkeys(from_spans(services, (span for cue in chosen for span in cue.spans))))
        return {"pool": _keep(services, [*pool, Cue(question.text, text, spans, state["cycle"], fused=True)])}

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The memory: all fused summaries, and the cues of the last cycle that had some."""
        pool = _pool(state, services)
        last = max((cue.cycle for cue in pool), default=0)
        kept = [cue for cue in pool if cue.fused or cue.cycle == last]
        text = _shown(kept)
        return Notes(MEMORY.format(memory=text), text, [span for cue in kept for span in cue.spans])

    def _material(self, state: State, services: Services, found: Sequence[int]) -> str:
        """Passages with the memory behind them."""
        chunks = in_reading_order(services.chunks(found), services.shelf.document_ids())
        notes = self.notes(state, services)
        return "\n\n".join(filter(None, [passages_material(services, chunks), notes.text and notes.material]))

    def _layers(self, state: State, services: Services) -> Layers:
        trees: Mapping[str, Tree] = {}
        if self.semantic != "none":
            trees = services.shelf.trees.load(_grower().recipe(services.shelf, services.model))
        windows: list[list[int]] = services.get_json(state["windows"])
        near = self.episodes == "near"
        return Layers(self.index, self.probe_tokens, near, windows, trees, kept_told(services, state["told"]))


def _grower() -> Grower:
    return Grower(most_tokens=UNLIMITED_TOKENS)


def _shown(cues: Sequence[Cue]) -> str:
    return "\n".join(as_data(cue.text if cue.fused else f"{cue.probe} {cue.text}") for cue in cues)


def _keep(services: Services, pool: Sequence[Cue]) -> str:
    return services.put_json([asdict(cue) for cue in pool])


def _pool(state: Mapping[str, Any], services: Services) -> list[Cue]:
    return [Cue(**cue) for cue in services.get_json(state["pool"])] if "pool" in state else []


def _seen(state: Mapping[str, Any], services: Services) -> dict[str, list[int]]:
    """The chunks that probes read, those that they know by summaries, and those that answers were tried from."""
    nothing: dict[str, list[int]] = {"read": [], "gisted": [], "tried": []}
    return services.get_json(state["seen"]) if "seen" in state else nothing


def _next(state: State) -> str:
    return state["next"]
