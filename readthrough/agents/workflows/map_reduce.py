"""Map-reduce with confidence: every part of the text is read alone, and a reply is made from what the parts say.

Source: Zhou et al., "LLMxMapReduce: Simplified Long-Sequence Processing using Large Language Models", arXiv
2410.09342, and the authors' code (thunlp/LLMxMapReduce, version 1): chunks of 3,900 tokens are mapped to extracted
information, rationale, answer and confidence (0 to 5, with scored examples in the prompt); chunks with no information
are dropped; what is left is collapsed while it is over budget, then reduced, weighed by confidence.

Differs from the paper: with `confidence="scored"` (the default) how sure a window is to state the answer is scored by
logits before anything is written; a window that is not gets no note, and the others a short one. (A note cannot be
scored in its window's place: it repeats the question, whatever its window says.) `confidence="written"` is the paper's
form. In both, windows are cut at passage borders, evidence pointers are found at map time, passages of
the source are read beside the notes (`reading.grounding`; `passage_tokens` 0 leaves them out), and the reply is refused
where these do not state it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, Reply
from readthrough.agents.reading.concluding import Span, carry, quotes_for
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.forms import fill
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.looking import stated_each
from readthrough.agents.reading.passages import evened, numbered, prompt_tokens, section_text, windows, within_budget
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.models.structured import prompted
from readthrough.types import Answer, Chunk, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph import StateGraph
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

EXTRACT = Prompt(
    """{text}

This is one part of a longer text. A question about the whole text: {question}
Write down, as briefly as possible, everything in this part that helps to answer the question: each name, number and \
fact, in the words of the text. Write nothing else:"""
)

MAP = Prompt(
    """{text}

This is one part of a longer text. A question about the whole text: {question}

Fill in:
information: what this part says that helps to answer the question, or NO INFORMATION.
rationale: how the answer follows from it.
answer: the answer as far as this part gives it, or NO INFORMATION.
confidence: from 0 to 5, how sure the answer is from this part alone.

Examples of confidence, for the question "In which year was the bridge built?":
"The bridge was built in 1911." answer 1911, confidence 5.
"The bridge was opened two years before the war." answer: two years before the war, confidence 3.
"The bridge is older than the station." answer: before the station, confidence 1.
"The bridge is long." answer NO INFORMATION, confidence 0."""
)

COLLAPSE = Prompt(
    """{parts}

These notes were taken from consecutive parts of a longer text, to answer this question: {question}
Put them together into one shorter note. Keep every name, number and fact that helps to answer the question, each \
once; where notes contradict each other keep what is surer. Write nothing else:"""
)

REDUCE = Prompt(
    """A long text was read in parts. These notes say what the parts hold about the question, each with how sure \
it is (0 to 1), the surest first; several may speak of the same thing.

{parts}"""
)

NO_INFORMATION = "NO INFORMATION"

# What was seen of models that are not asked for a length: most extractions are much shorter than the limit.
_PART_RATIO = 0.5
# A written form has several fields.
_FORM = 4
# Of a text that is not read whole so many chunks say which windows are; one of this rank counts half as the first.
_FOUND_CHUNKS = 200
_RANKS = 60
# Notes are put together into one of at most a fifth of the room, so that a prompt holds four of these.
_SHRINK = 5


@dataclass(frozen=True, slots=True)
class Part:
    """What one window, or several, say: a text, how sure it is (0 to 1), and the places that it stands on."""

    text: str
    confidence: float
    spans: Sequence[Span]


class State(TypedDict, total=False):
    """What travels between nodes: the plan's hash, windows read, the parts' hash, the next node, the reply's hash.

    `parts` is the newest link of a chain: each holds the parts of one step, and the hash of the link before it.
    """

    question: str
    choices: list[str] | None
    plan: str
    at: int
    parts: str | None
    next: str
    found: list[int]
    reply: str


@dataclass(frozen=True)
class MapReduce(Grounded):
    """Reads every part alone, in parallel, and answers from what all of them say, weighed by confidence (2410.09342).

    Attributes:
        most_tokens: the most tokens of text that are read: of a longer one the windows in which the index finds most,
            best first. 0 reads all.
        window_tokens: the most tokens of text in a prompt: of a window, and of notes that are put together.
        part_tokens: the most tokens of the note on a window.
        parallel: how many windows are read in one step; fewer where a budget leaves no room for as many.
        confidence: `scored` by logits, or `written` by the model (0 to 5); without logits it is written.
        drop_below: the confidence below which a window has no note.
        pointers: the most evidence pointers of a note.
    """

    name: ClassVar[str] = "map-reduce"

    most_tokens: int = 0
    window_tokens: int = 3900
    part_tokens: int = 96
    parallel: int = 8
    confidence: Literal["scored", "written"] = "scored"
    drop_below: float = 0.15
    pointers: int = 6

    def __post_init__(self) -> None:
        for name in ("window_tokens", "part_tokens", "parallel", "pointers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.most_tokens < 0:
            raise ValueError(f"most_tokens must not be negative, got {self.most_tokens}")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (the windows), map (a batch of windows a step), collapse (while over budget), reduce."""
        from langgraph.graph import START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        graph.add_edge(START, self.add_to(graph))
        return graph.compile()

    def add_to(self, graph: StateGraph[Any, Services, Any, Any]) -> str:
        """Add the nodes to a graph whose state holds this one's; returns the name of the first."""
        from langgraph.graph import END

        nodes = {"plan": self._plan, "map": self._map, "collapse": self._collapse, "reduce": self._reduce}
        add_nodes(graph, nodes)
        graph.add_edge("plan", "map")
        graph.add_conditional_edges("map", _next, ["map", "collapse", "reduce"])
        graph.add_conditional_edges("collapse", _next, ["collapse", "reduce"])
        graph.add_edge("reduce", END)
        return "plan"

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with the quotes that stand for it, out of the places that the notes stand on."""
        reply = Reply.kept(services, state["reply"])
        done = services.get_json(state["plan"])[: state["at"]] if "plan" in state else []
        found = state.get("found", [])
        coverage = ledger(services, read=[chunk for window in done for chunk in window], retrieved=found)
        spans = [span for part in _parts(services, state.get("parts")) for span in part.spans]
        spans += spans_of(services, found)
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The reply's calls over as many notes as fit."""
        return with_spare(self.grounding.cost(services, question, self._notes_room(question, services)))

    def estimate(self, question: Question, services: Services) -> Cost:
        """Every window once, its note, and the reply. Scoring a window reads nothing again but the question."""
        count = len(self._windows(question, services))
        text = sum(services.shelf.count_tokens(services.model).values())
        if 0 < self.most_tokens < text:
            count, text = math.ceil(count * self.most_tokens / text), self.most_tokens
        frame = services.model.count_tokens([self._ask(question)])[0] + TEMPLATE_TOKENS
        calls_a_window = 3 if self._scored(services) else 1
        written = int(count * self.part_tokens * _PART_RATIO)
        notes = min(self._notes_room(question, services), written)
        last = self.grounding.cost(services, question, notes)
        kept = (calls_a_window - 1) * text
        beside = written * (count - -(-count // self.parallel)) // max(1, count)
        return Cost(count * calls_a_window, calls_a_window * (text + count * frame), written, 0.0, kept, beside) + last

    def _scored(self, services: Services) -> bool:
        return self.confidence == "scored" and "logits" in services.model.capabilities

    def _ask(self, question: Question, text: str = "", prompt: str = EXTRACT) -> str:
        options = "" if question.choices is None else f" ({'; '.join(question.choices)})"
        return prompt.format(text=text, question=question.text + options)

    def _room(self, question: Question, services: Services) -> int:
        """Tokens of text that a prompt has room for beside what is written."""
        written, asked = self.part_tokens, Request.user(self._ask(question, prompt=EXTRACT))
        if not self._scored(services):  # where a server knows no schema, it stands in the prompt
            written = _FORM * self.part_tokens
            asked = prompted(Request.user(self._ask(question, prompt=MAP), schema=_form(self.part_tokens)))
        frame = services.model.count_tokens([asked.messages[-1].content])[0]
        return min(self.window_tokens, services.model.window_tokens - frame - written - TEMPLATE_TOKENS)

    def _notes_room(self, question: Question, services: Services) -> int:
        """Tokens of notes that a prompt has room for beside the note, or the answer, that is made of them."""
        room = self._room(question, services)
        return min(room - room // _SHRINK, services.model.window_tokens - ANSWER_TOKENS - 2 * TEMPLATE_TOKENS)

    def _windows(self, question: Question, services: Services) -> list[list[int]]:
        tokens = prompt_tokens(services)
        room = self._room(question, services)
        if room < max(tokens.values(), default=0) or self._notes_room(question, services) < 2 * self.part_tokens:
            raise PromptTooLongError(
                f"a window of {min(self.window_tokens, services.model.window_tokens)} tokens has no room for the text",
                hint="set fewer part_tokens or more window_tokens, or use a model with a larger window",
            )
        return windows(services.shelf.chunk_ids(), tokens, room)

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        question = Question.of(state)
        plan = self._best(services, question, self._windows(question, services))
        self.grounding.prepare(services, question)
        return {"plan": services.put_json(plan), "at": 0, "parts": None, "next": "map"}

    def _best(self, services: Services, question: Question, plan: list[list[int]]) -> list[list[int]]:
        """As many windows as `most_tokens` holds, one at least: those in which the index finds most, best first."""
        tokens = services.shelf.count_tokens(services.model)
        sizes = {place: sum(tokens[chunk] for chunk in window) for place, window in enumerate(plan)}
        if not 0 < self.most_tokens < sum(sizes.values()):
            return plan
        found = find_chunks(services.shelf, question, self.index, _FOUND_CHUNKS)
        worth = {chunk: 1 / (_RANKS + rank) for rank, chunk in enumerate(found)}
        order = sorted(sizes, key=lambda place: -sum(worth.get(chunk, 0.0) for chunk in plan[place]))
        return [plan[place] for place in within_budget(order, sizes, self.most_tokens) or order[:1]]

    def _map(self, state: State, runtime: Runtime[Services]) -> State:
        """Read a batch of windows; after the last, bring the parts of all steps together."""
        services, question = runtime.context, Question.of(state)
        plan = services.get_json(state["plan"])
        batch = plan[state["at"] : state["at"] + self._fitting(services)]
        chunks = services.chunks([chunk for window in batch for chunk in window])
        read: list[list[Chunk]] = []
        for window in batch:
            read.append(chunks[: len(window)])
            chunks = chunks[len(window) :]
        parts = self._noted(services, question, read)
        at = state["at"] + len(batch)
        services.emit(Event("read", at, len(plan), "windows"))
        linked = _link(services, parts, state["parts"])
        if at < len(plan):
            return {"at": at, "parts": linked, "next": "map"}
        every = _parts(services, linked)
        return {"at": at, "parts": _link(services, every), "next": self._after(services, question, every)}

    def _fitting(self, services: Services) -> int:
        """How many windows go out together: one where time is limited and nothing is known of the pace yet."""
        calls = 3 if self._scored(services) else 1
        kept = (calls - 1) * self.window_tokens
        each = Cost(calls, self.window_tokens + kept, self.part_tokens, cached_tokens=kept)
        return services.budget.fitting(self.parallel, each)

    def _noted(self, services: Services, question: Question, read: Sequence[Sequence[Chunk]]) -> list[Part]:
        texts = [section_text(chunks) for chunks in read]
        if not self._scored(services):
            return self._written(services, [self._ask(question, text, MAP) for text in texts], question, read)
        sure = stated_each(services, texts, question)
        worth = [place for place, share in enumerate(sure) if share >= self.drop_below]
        requests = [Request.user(self._ask(question, texts[place]), max_tokens=self.part_tokens) for place in worth]
        notes = [written(completion)[0] for completion in services.complete(requests)]
        return [
            Part(note, round(sure[place], 4), carry(services, question.text, note, [], read[place], self.pointers))
            for place, note in zip(worth, notes, strict=True)
            if note
        ]

    def _written(
        self, services: Services, prompts: Sequence[str], question: Question, read: Sequence[Sequence[Chunk]]
    ) -> list[Part]:
        """The paper's form: information, rationale, answer and confidence as the model writes them."""
        schema = _form(self.part_tokens)
        forms = fill(
            services, [Request.user(each, max_tokens=_FORM * self.part_tokens, schema=schema) for each in prompts]
        )
        parts = []
        for form, chunks in zip(forms, read, strict=True):
            said = [form[key].strip() for key in ("information", "rationale", "answer")]
            sure = form["confidence"] / 5
            if not said[0] or NO_INFORMATION in (said[0].upper(), said[2].upper()) or sure < self.drop_below:
                continue
            note = " ".join(filter(None, said))
            parts.append(Part(note, sure, carry(services, question.text, note, [], chunks, self.pointers)))
        return parts

    def _after(self, services: Services, question: Question, parts: Sequence[Part]) -> str:
        """What follows notes on the whole text: `reduce` where they fit a prompt."""
        fit = len(parts) <= 1 or sum(_lengths(services, parts)) <= self._notes_room(question, services)
        return "reduce" if fit else "collapse"

    def _collapse(self, state: State, runtime: Runtime[Services]) -> State:
        """One round: consecutive notes are put together, two or more each time, so that rounds come to an end."""
        services, question = runtime.context, Question.of(state)
        parts = _parts(services, state["parts"])
        lengths = _lengths(services, parts)
        room = max(self._notes_room(question, services), 2 * max(lengths))
        groups = [[parts[at] for at in group] for group in evened(range(len(parts)), dict(enumerate(lengths)), room)]
        asked = [COLLAPSE.format(parts=_shown(group), question=question.text) for group in groups if len(group) > 1]
        completions = services.complete([Request.user(each, max_tokens=room // _SHRINK) for each in asked])
        texts = iter(completion.text.strip() for completion in completions)
        shorter = [
            group[0] if len(group) == 1 else self._merge(services, question, group, next(texts)) for group in groups
        ]
        services.emit(Event("collapse", len(shorter), len(parts), "notes"))
        return {"parts": _link(services, shorter), "next": self._after(services, question, shorter)}

    def _merge(self, services: Services, question: Question, group: Sequence[Part], written: str) -> Part:
        """Several notes as the one that was written of them; the surest where nothing was."""
        surest = max(group, key=lambda part: part.confidence)
        if not written:
            return surest
        spans = [span for part in group for span in part.spans]
        return Part(written, surest.confidence, carry(services, question.text, written, spans, [], 2 * self.pointers))

    def _reduce(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The surest notes. With no passages beside them, the surest says whether there is an answer."""
        question = Question.of(state)
        parts = _parts(services, state.get("parts"))
        surest = sorted(range(len(parts)), key=lambda place: -parts[place].confidence)
        stated = parts[surest[0]].confidence if parts else 0.0
        lengths = dict(enumerate(_lengths(services, parts)))
        kept = within_budget(surest, lengths, self._notes_room(question, services))
        shown = _shown([parts[place] for place in kept])
        spans = [span for place in kept for span in parts[place].spans]
        return Notes(REDUCE.format(parts=shown or NO_INFORMATION), shown, spans, stated)


def _next(state: State) -> str:
    return state["next"]


def _shown(parts: Sequence[Part]) -> str:
    return numbered(f"({part.confidence:.2f}) {part.text}" for part in parts)


def _lengths(services: Services, parts: Sequence[Part]) -> list[int]:
    """The tokens of notes as they stand in a prompt."""
    return services.model.count_tokens([f"{_shown([part])}\n\n" for part in parts])


def _link(services: Services, parts: Sequence[Part], before: str | None = None) -> str:
    return services.link(before, parts=[asdict(part) for part in parts])


def _parts(services: Services, link: str | None) -> list[Part]:
    """The notes of a link and of those before it, in the order in which they were read."""
    return [Part(**part) for held in services.links(link) for part in held["parts"]]


def _form(most_characters: int) -> dict[str, Any]:
    text = {"type": "string", "maxLength": most_characters}
    return {
        "type": "object",
        "properties": {
            "information": text,
            "rationale": text,
            "answer": text,
            "confidence": {"type": "integer", "minimum": 0, "maximum": 5},
        },
        "required": ["information", "rationale", "answer", "confidence"],
        "additionalProperties": False,
    }
