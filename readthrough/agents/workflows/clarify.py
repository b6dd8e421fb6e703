"""Clarify: the model asks itself what it must know first, points back to the paragraphs that say it, and answers that.

Source: Zhuang et al., "Self-Taught Agentic Long Context Understanding" (AgenticLU), arXiv 2502.15920, and the authors'
code (EvanZhuang/AgenticLU): the context in numbered paragraphs of 512 tokens, then in one chat: a clarifying question,
the paragraphs that are relevant for it, its answer, the final answer, and "have you provided the correct answer?",
whose reply is not used. Their training data come from a tree search with a width of 8 and a depth of at most 3.

Differs from the paper: its models are trained for this, others are not. The loop is a real one: a round asks `width`
questions, each of their answers is scored by how probably the paragraphs behind it state the final answer, the best is
kept, and the rounds end where that is enough, or after `depth` of them. Paragraphs are pointed to by a scored choice,
which takes turns with the index, and answers are written from those alone; a text that does not fit is represented by
what the index finds. A first look at the paragraphs that fit the question itself comes before all rounds: where they
surely state the answer none is needed. Every prompt over the whole context begins with it, so that it is read once.
The paper's form is `width` 1, `depth` 1, `enough_above` None, `point` "written", `read` "context", `abstain_below` 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, PASSAGES, Reply
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, cut_all
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.kinds import SUB_QUESTION_TOKENS, new_questions
from readthrough.agents.reading.looking import stated_each, where_each
from readthrough.agents.reading.passages import as_data, numbered, shown, shown_tokens, windows, within_budget
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.types import Answer, Chunk, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

ASK = Prompt(
    """{context}

Question: {question}
{known}Write at most {count} simpler questions about the text above that must be answered first, to answer this one: \
each short and about something else, one a line. Do not repeat the question."""
)

WRITE_PASSAGES = Prompt(
    """{context}

Question: {question}
Which of the passages above help to answer this question? Write their numbers and nothing else."""
)

ANSWER_ONE = Prompt(
    """{material}

Question: {question}
Answer in one short sentence from the text above."""
)

CLARIFIED = Prompt(
    """{material}

These questions were asked and answered on the way. Where an answer says otherwise, the text above is right.

{clarified}"""
)

KNOWN = Prompt("Known so far:\n{clarified}\n")

POINTED = Prompt(
    """{context}

The passages that matter: {numbers}"""
)

_FOUND_CHUNKS = 200
_ONE_TOKENS = 64
_NUMBERS_TOKENS = 32
# A paragraph whose probability is at least this share of the best one's is pointed to as well.
_POINTED_SHARE = 0.3
# The answer that passages surely state is written from them alone: a model mixes both.
_SURELY = 0.9
_FRAME_TOKENS = 128
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Clarification:
    """A question on the way, the numbers of the paragraphs that were pointed to (from 0), and what they say."""

    question: str
    paragraphs: Sequence[int]
    answer: str


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the paragraphs, of the clarifications and of those of this round; the
    paragraphs pointed to for the question, whether all of them stood in a prompt, rounds, probabilities, the next node,
    the reply's hash."""

    question: str
    choices: list[str] | None
    paragraphs: str
    whole: bool
    pointed: list[int]
    over: bool
    known: str
    round: int
    asked: str
    stated: float
    next: str
    reply: str


@dataclass(frozen=True)
class Clarify(Workflow):
    """Asks itself clarifying questions, points back to the paragraphs that answer them, then answers (2502.15920).

    Attributes:
        index: the index that finds what stands for a text that does not fit.
        context_tokens: the most tokens of the context: of a longer text what the index finds, in reading order.
        paragraph_tokens: the most tokens of a paragraph.
        width: how many clarifying questions a round asks; the answer that helps most is kept.
        depth: the most rounds.
        points: the most paragraphs that are pointed to for one question.
        point: paragraphs are pointed to by score and by the index (`scored`), or the model writes numbers (`written`).
        read: answers are written from the paragraphs pointed to (`pointed`), or from the whole context (`context`).
        enough_above: the probability that the answer is stated, at which no further round is taken; None takes all.
        abstain_below: the probability that the answer is stated, below which it is refused.
        quotes: the most sentences quoted as evidence.
    """

    name: ClassVar[str] = "clarify"

    index: str = "hybrid"
    context_tokens: int = 6000
    paragraph_tokens: int = 512
    width: int = 2
    depth: int = 2
    points: int = 2
    point: Literal["scored", "written"] = "scored"
    read: Literal["pointed", "context"] = "pointed"
    enough_above: float | None = 0.9
    abstain_below: float = 0.2
    quotes: int = 3

    def __post_init__(self) -> None:
        for name in ("context_tokens", "paragraph_tokens", "width", "depth", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (the paragraphs), look (at those that fit the question), ask, clarify (a round), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"plan": self._plan, "look": self._look, "ask": self._ask, "clarify": self._clarify}
        add_nodes(graph, {**nodes, "answer": self._answer})
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "look")
        graph.add_conditional_edges("look", _next, ["ask", "answer"])
        graph.add_conditional_edges("ask", _next, ["clarify", "answer"])
        graph.add_conditional_edges("clarify", _next, ["ask", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply; its evidence is taken from the paragraphs that were pointed to."""
        reply = Reply.kept(services, state["reply"])
        coverage = ledger(
            services, **{"read" if state.get("whole") else "retrieved": self._seen(state, services, reply)}
        )
        if reply.abstained:
            return reply.to_answer(question, (), coverage)
        paragraphs = self._paragraphs(state, services)
        read = [chunk for number in self._numbers(state, services) for chunk in paragraphs[number]]
        among = sentences(services.shelf.get(read))
        pointers = point(question.text, reply.said(question), among, self.quotes)
        return reply.to_answer(question, cut_all(services, pointers), coverage)

    def _seen(self, state: Mapping[str, Any], services: Services, reply: Reply) -> list[int]:
        """The chunks that stood in a prompt: all, or what a budget left of them."""
        paragraphs = self._paragraphs(state, services)
        if not state.get("over"):
            numbers = self._numbers(state, services) if paragraphs and reply.reached else []
            paragraphs = [paragraphs[number] for number in numbers]
        return [chunk for paragraph in paragraphs for chunk in paragraph]

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """An answer from the paragraphs that were pointed to so far, or from those that the index finds first."""
        return dict(self._reply(state, services)) if "paragraphs" in state else super().finish_early(state, services)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls."""
        return with_spare(answer_cost(services, question, self._last_tokens(services)))

    def estimate(self, question: Question, services: Services) -> Cost:
        """All rounds: a prompt over the context for each question and each pointing, answers and looks; the answer."""
        tokens = sum(services.shelf.count_tokens(services.model).values())
        context = min(self._room(question, services), tokens)
        pointed = min(self.points * self.paragraph_tokens, context)
        asked = services.count_tokens([question.with_choices])[0] + _FRAME_TOKENS
        over = 1 + self.depth * (1 + self.width)  # the first is read, the others share it
        each = pointed if self.read == "pointed" else context
        beside = self.depth * self.width
        looks = (1 + beside) * (3 if "logits" in services.model.capabilities else 1)
        return answer_cost(services, question, self._last_tokens(services)) + Cost(
            calls=over + beside + looks,
            prompt_tokens=over * (context + asked) + beside * (each + asked) + looks * (pointed + asked),
            completion_tokens=beside * (SUB_QUESTION_TOKENS + _ONE_TOKENS) // 2,
            cached_tokens=(over - 1) * context if "logits" in services.model.capabilities else 0,
            beside_tokens=self.depth * (self.width - 1) * _ONE_TOKENS // 2,
        )

    def _last_tokens(self, services: Services) -> int:
        """The most tokens that the answer is written from."""
        pointed = (1 + self.depth) * self.points * self.paragraph_tokens
        shown = self.context_tokens if self.read == "context" else min(pointed, self.context_tokens)
        return min(shown + self.depth * (_ONE_TOKENS + SUB_QUESTION_TOKENS), services.model.window_tokens * 3 // 4)

    def _room(self, question: Question, services: Services) -> int:
        """The most tokens of the context: the option, or what the model's window leaves beside all that is added."""
        asked = services.count_tokens([question.with_choices])[0]
        added = self.depth * (_ONE_TOKENS + SUB_QUESTION_TOKENS) + max(ANSWER_TOKENS, self.width * SUB_QUESTION_TOKENS)
        left = services.model.window_tokens - asked - added - _FRAME_TOKENS - TEMPLATE_TOKENS
        return min(self.context_tokens, left)

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        """The whole text in paragraphs, or what the index finds of it; a paragraph has no gap."""
        services, question = runtime.context, Question.of(state)
        tokens, room = services.shelf.count_tokens(services.model), self._room(question, services)
        ids, whole = services.shelf.chunk_ids(), sum(tokens.values()) <= room
        sizes = shown_tokens(services, ids if whole else self._found(services, question))
        if not whole or sum(sizes.values()) > room:
            whole, found = False, [chunk for chunk in self._found(services, question) if chunk in sizes]
            kept = set(within_budget(found, sizes, room))
            if ids and not kept:
                raise PromptTooLongError(
                    f"the context has room for {max(room, 0)} tokens, no chunk that was found has so few",
                    hint="set more context_tokens, or use a model with a larger window",
                )
            ids = [chunk for chunk in ids if chunk in kept]
        size = max([self.paragraph_tokens, *(sizes[chunk] for chunk in ids)])
        paragraphs = [part for run in _runs(services.shelf.get(ids)) for part in windows(run, sizes, size)]
        return {"paragraphs": services.put_json(paragraphs), "whole": whole, "round": 0, "known": services.put_json([])}

    def _found(self, services: Services, question: Question) -> list[int]:
        return find_chunks(services.shelf, question, self.index, _FOUND_CHUNKS) or services.shelf.chunk_ids()

    def _look(self, state: State, runtime: Runtime[Services]) -> State:
        """Point to paragraphs for the question itself, and look whether they state the answer."""
        services, question = runtime.context, Question.of(state)
        pointed = self._point(services, state, [question])[0]
        over = len(self._paragraphs(state, services)) > 1
        if self.enough_above is None:
            return {"pointed": pointed, "over": over, "next": "ask"}
        stated = stated_each(services, [self._passages(services, state, pointed)], question)[0]
        enough = stated >= self.enough_above
        return {"pointed": pointed, "over": True, "stated": stated, "next": "answer" if enough else "ask"}

    def _ask(self, state: State, runtime: Runtime[Services]) -> State:
        """Ask what must be known first; where nothing new is asked the rounds are over."""
        services, question = runtime.context, Question.of(state)
        known = self._known(state, services)
        told = KNOWN.format(clarified=_shown(known)) if known else ""
        prompt = ASK.format(
            context=self._context(services, state), question=question.text, known=told, count=self.width
        )
        reply = services.complete([Request.user(prompt, max_tokens=self.width * SUB_QUESTION_TOKENS)])[0]
        new = new_questions(reply, [question.text, *(one.question for one in known)], self.width)
        services.emit(Event("clarify", state["round"], self.depth, "rounds", "; ".join(new)))
        return {"asked": services.put_json(new), "over": True, "next": "clarify" if new else "answer"}

    def _clarify(self, state: State, runtime: Runtime[Services]) -> State:
        """Answer what was asked from the paragraphs that are pointed to; keep what helps the question most."""
        services, question = runtime.context, Question.of(state)
        asked = [Question(text) for text in services.get_json(state["asked"])]
        pointed = self._point(services, state, asked)
        prompts = [
            ANSWER_ONE.format(material=self._material(services, state, numbers), question=one.text)
            for one, numbers in zip(asked, pointed, strict=True)
        ]
        replies = services.complete([Request.user(prompt, max_tokens=_ONE_TOKENS) for prompt in prompts])
        made = [
            Clarification(one.text, numbers, reply.text.strip())
            for one, numbers, reply in zip(asked, pointed, replies, strict=True)
        ]
        best, changed = 0, State(round=state["round"] + 1)
        if self.enough_above is not None or len(made) > 1:
            so_far = self._numbers(state, services)
            texts = [self._passages(services, state, [*so_far, *one.paragraphs]) for one in made]
            stated = stated_each(services, texts, question)
            best = max(range(len(made)), key=stated.__getitem__)
            changed["stated"] = stated[best]
        known = [*self._known(state, services), made[best]]
        enough = self.enough_above is not None and changed["stated"] >= self.enough_above
        changed["next"] = "answer" if enough or changed["round"] == self.depth else "ask"
        changed["known"] = services.put_json([asdict(one) for one in known])
        return changed

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        return self._reply(state, runtime.context)

    def _reply(self, state: Mapping[str, Any], services: Services) -> State:
        """The answer from what was pointed to, with what was clarified where that alone does not surely state it."""
        question, stated = Question.of(state), state.get("stated")
        pointed = state.get("pointed") or self._first(services, state, question)
        material = self._material(services, state, self._numbers({**state, "pointed": pointed}, services))
        known = self._known(state, services)
        if known and (stated is None or stated < _SURELY):
            material = CLARIFIED.format(material=material, clarified=_shown(known))
        reply = answer_if_stated(services, material, question, self.abstain_below, stated=stated)
        over = state.get("over", False) or self.read == "context"
        return {"pointed": pointed, "over": over, "reply": reply.keep(services)}

    def _point(self, services: Services, state: Mapping[str, Any], questions: Sequence[Question]) -> list[list[int]]:
        """The numbers of the paragraphs that are pointed to for each question, best first."""
        count = len(self._paragraphs(state, services))
        if count == 1:
            return [[0]] * len(questions)
        context = self._context(services, state)
        if self.point == "scored":
            shares = where_each(services, context, questions, count)
            found = [self._first(services, state, one) for one in questions]
            return [take_turns(each, self.points) for each in zip(map(_likely, shares), found, strict=True)]
        prompts = [WRITE_PASSAGES.format(context=context, question=one.with_choices) for one in questions]
        replies = services.complete([Request.user(prompt, max_tokens=_NUMBERS_TOKENS) for prompt in prompts])
        written = [[int(number) - 1 for number in _NUMBER.findall(reply.text)] for reply in replies]
        return [
            [at for at in dict.fromkeys(numbers) if 0 <= at < count][: self.points] or self._first(services, state, one)
            for numbers, one in zip(written, questions, strict=True)
        ]

    def _first(self, services: Services, state: Mapping[str, Any], question: Question) -> list[int]:
        """The paragraphs in which the index finds most: no model is asked."""
        place = {chunk: at for at, ids in enumerate(self._paragraphs(state, services)) for chunk in ids}
        found = (place[chunk] for chunk in self._found(services, question) if chunk in place)
        return list(dict.fromkeys(found))[: self.points] or [0]

    def _numbers(self, state: Mapping[str, Any], services: Services) -> list[int]:
        """All paragraphs that were pointed to, in reading order."""
        known = (number for one in self._known(state, services) for number in one.paragraphs)
        return sorted({*state.get("pointed", []), *known})

    def _paragraphs(self, state: Mapping[str, Any], services: Services) -> list[list[int]]:
        found: list[list[int]] = services.get_json(state["paragraphs"]) if "paragraphs" in state else []
        return found

    def _known(self, state: Mapping[str, Any], services: Services) -> list[Clarification]:
        return [Clarification(**one) for one in json.loads(services.get(state["known"]))]

    def _context(self, services: Services, state: Mapping[str, Any]) -> str:
        return self._passages(services, state, range(len(self._paragraphs(state, services))))

    def _passages(self, services: Services, state: Mapping[str, Any], numbers: Iterable[int]) -> str:
        """Paragraphs as numbered passages, in reading order."""
        paragraphs = self._paragraphs(state, services)
        texts = [
            "\n".join(shown(services.chunks(paragraphs[number]), services.shelf)) for number in sorted(set(numbers))
        ]
        return PASSAGES.format(passages=numbered(texts))

    def _material(self, services: Services, state: Mapping[str, Any], numbers: Sequence[int]) -> str:
        """What an answer is written from."""
        if self.read == "pointed":
            return self._passages(services, state, numbers)
        named = ", ".join(f"[{number + 1}]" for number in sorted(set(numbers)))
        return POINTED.format(context=self._context(services, state), numbers=named)


def _likely(shares: Sequence[float]) -> list[int]:
    """The numbers of the paragraphs that are nearly as probable as the best one, best first."""
    order = sorted(range(len(shares)), key=lambda at: -shares[at])
    return [at for at in order if shares[at] >= _POINTED_SHARE]


def _shown(known: Sequence[Clarification]) -> str:
    return as_data("\n".join(f"- {one.question} {one.answer}" for one in known))


def _runs(chunks: Sequence[Chunk]) -> list[list[int]]:
    """The ids of chunks that follow each other."""
    runs: list[list[int]] = []
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        if before is None or (before.document, before.end) != (chunk.document, chunk.start):
            runs.append([])
        runs[-1].append(chunk.id)
    return runs


def _next(state: State) -> str:
    return state["next"]
