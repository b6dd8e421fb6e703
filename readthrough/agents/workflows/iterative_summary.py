"""Iterative summary: a summary of a whole text at a chosen length, or an answer from such a summary.

Hierarchical: windows are summarised, then groups of summaries are merged, level by level, until one is left (the
recursive form of RAPTOR's tree, Sarthi et al., arXiv 2401.18059, and of LLMxMapReduce, Zhou et al., arXiv
2410.09342). Rolling: one summary is written anew with every window, in order.

Differs from the papers: neighbours in the text are merged, not clusters of like passages; each sentence of a summary
carries the place in the source that it came from, level by level, so that the last summary has evidence. `rounds`
above 1 reasons over the summary before answering (InftyThink, see `readthrough.agents.reading.rounds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, Reply
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, quotes_for
from readthrough.agents.reading.passages import as_data, prompt_tokens, windows
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.queries import wanted_words, wants_summary
from readthrough.agents.reading.rounds import FROM_PROGRESS, MOST_ROUNDS, Rounds
from readthrough.agents.reading.summarizing import (
    MERGE,
    ROLL,
    SHORTEN,
    WINDOW,
    WORKFLOW,
    Note,
    Part,
    Sizes,
    count_words,
    grouped,
    how,
    joined,
    keep_batch,
    kept_notes,
    levels_cost,
    most_tokens,
    note_tokens,
    roll_cost,
    shortened,
)
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import ConfigError, PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

MATERIAL = Prompt("""This is a summary of a text:

{summary}""")

Form = Literal["hierarchical", "rolling"]

_TOO_LONG_RATIO = 1.3
_LEAST_WORDS = 20
# Parts of a text that is summarised whole get an even share of so many times the length of its summary. Small models
# copy their material from its beginning until they are cut: with more, the end of the text would never be reached.
_SHARED_RATIO = 2.0
_LEAST_SHARE_WORDS = 30
_QUOTES = 3


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the plan, the level and what was made of it, counters, the reply's hash."""

    question: str
    choices: list[str] | None
    plan: str
    words: int
    room: int
    read: int
    level: int
    groups: str
    at: int
    left: int
    made: str | None
    cut: int
    note: str
    rounds: int
    progress: str
    finished: bool
    reply: str


@dataclass(frozen=True)
class IterativeSummary(Workflow):
    """Summarises a whole text at a chosen length, sentence by sentence with its source, or answers from the summary.

    A question that asks for a summary gets it; any other makes it the focus and is answered from it.

    Attributes:
        form: `hierarchical` (windows, then groups of summaries) or `rolling` (one summary, written anew a window).
        words: the length of the summary, where the question names none; a short text gets a shorter one.
        window_tokens: the most tokens of text, or of summaries, that are summarised at once.
        summary_tokens: the most tokens of a summary of a part.
        batch: how many parts are summarised side by side.
        rounds: the most rounds of reasoning over the summary, the last of which answers; 1 answers at once.
        round_tokens: the most tokens of one such round.
        abstain_below: the probability that the summary states the answer, below which a question is refused.
    """

    name: ClassVar[str] = WORKFLOW

    form: Form = "hierarchical"
    words: int = 200
    window_tokens: int = 4096
    summary_tokens: int = 320
    batch: int = 8
    rounds: int = 1
    round_tokens: int = 512
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        for option in ("words", "window_tokens", "summary_tokens", "batch", "rounds", "round_tokens"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{self.name}.{option} = {getattr(self, option)}: must be at least 1")
        if self.rounds > MOST_ROUNDS:
            raise ConfigError(f"{self.name}.rounds = {self.rounds}: {MOST_ROUNDS} at most")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan; summarize (a batch a step) and level, or roll (a window); think (a round); answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"plan": self._plan, "think": self._think, "answer": self._answer})
        graph.add_edge(START, "plan")
        if self.form == "rolling":
            add_nodes(graph, {"roll": self._roll})
            graph.add_edge("plan", "roll")
            graph.add_conditional_edges("roll", self._after, ["roll", "think", "answer"])
        else:
            add_nodes(graph, {"summarize": self._summarize, "level": self._level})
            graph.add_edge("plan", "summarize")
            graph.add_conditional_edges("summarize", self._more, ["summarize", "level"])
            graph.add_conditional_edges("level", self._after, ["summarize", "think", "answer"])
        graph.add_conditional_edges("think", self._after, ["think", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of the summaries and the rounds."""
        return (*super().sources(), *(part.__module__ for part in (Note, Rounds)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The summary, or the answer from it, with the places that its sentences came from."""
        reply = Reply.kept(services, state["reply"])
        done = services.get_json(state["plan"])[: state["read"]] if "plan" in state else []
        coverage = ledger(services, read=[chunk for window in done for chunk in window])
        spans = Note.kept(services, state["note"]).spans if "note" in state else ()
        most = _QUOTES if question.choices else max(_QUOTES, len(sentence_spans(reply.text)))
        return reply.to_answer(question, quotes_for(services, question, reply, spans, most), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """A summary of the summaries so far, or an answer from them."""
        question = Question.of(state)
        so_far = [Note.kept(services, state["note"])] if "note" in state else self._so_far(state, services)
        notes = shortened(so_far, note_tokens(services, so_far), state["room"]) if so_far else []
        if not notes:
            return super().finish_early(state, services)
        part = Part.of(notes)
        note = Note(part.text, part.spans)
        if wants_summary(question) and len(notes) > 1:
            note = part.note(services, question.text, services.write(self._request(state, part, MERGE, last=True)))
            note = joined(notes, state["words"]) if note.cut else note
        reply = _reply_of(note, state) if wants_summary(question) else self._reply(state, services, note)
        return {"note": note.keep(services), "reply": reply.keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """One summary of the summaries so far, or the answer's calls."""
        sizes = self._sizes(question, services)
        parts = -(-sum(services.shelf.count_tokens(services.model).values()) // sizes.room_tokens)
        prompt = min(sizes.room_tokens, max(parts * self.summary_tokens, sizes.summary_tokens))
        if wants_summary(question):
            return Cost(1, prompt + sizes.frame_tokens, sizes.summary_tokens)
        return with_spare(answer_cost(services, question, prompt + self._rounds().progress_tokens))

    def estimate(self, question: Question, services: Services) -> Cost:
        """A call a window, a call a group of every level, and the answer's."""
        sizes = self._sizes(question, services)
        tokens = sum(services.shelf.count_tokens(services.model).values())
        if self.form == "rolling":
            cost = roll_cost(tokens, sizes)
        else:
            parts = max(1, -(-tokens // sizes.room_tokens))
            cost = levels_cost(tokens, self._part(question, sizes.words, parts)[1], sizes, self.batch)
        if wants_summary(question):
            return cost
        thinking = self._rounds().cost(self.rounds - 1, sizes.summary_tokens)
        return cost + thinking + answer_cost(services, question, sizes.summary_tokens)

    def _sizes(self, question: Question, services: Services) -> Sizes:
        tokens = services.shelf.count_tokens(services.model)
        # A summary is shorter than its text, however short that is.
        wanted = wanted_words(question.text) if wants_summary(question) else None
        words = min(wanted or self.words, max(_LEAST_WORDS, sum(tokens.values()) // 3))
        summary = most_tokens(words)
        frame = ROLL.format(text="", before="", words=words, how=how(question.text))
        frame_tokens = services.model.count_tokens([frame])[0] + TEMPLATE_TOKENS
        # A summary may stand in the prompt of the next one, which is as long, or in that of an answer.
        held = max(2 * summary, self.summary_tokens, ANSWER_TOKENS) + (2 * self.round_tokens if self.rounds > 1 else 0)
        room = min(self.window_tokens, services.model.window_tokens - frame_tokens - held)
        needed = max(prompt_tokens(services).values(), default=0)
        if self.form == "hierarchical" and sum(tokens.values()) > room:
            needed = max(needed, 2 * self.summary_tokens)
        if room < needed:
            raise PromptTooLongError(
                f"{max(room, 0)} tokens of a window are left for text, {needed} are needed",
                hint="ask for fewer words or summary_tokens, or use a model with a larger window",
            )
        return Sizes(words, summary, room, frame_tokens)

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        sizes = self._sizes(Question.of(state), services)
        plan = windows(services.shelf.chunk_ids(), prompt_tokens(services), sizes.room_tokens)
        digest = services.put_json(plan)
        counters: State = {"words": sizes.words, "room": sizes.room_tokens, "read": 0, "level": 0, "at": 0, "cut": 0}
        return {**counters, "plan": digest, "groups": digest, "left": len(plan), "made": None, "rounds": 0}

    def _summarize(self, state: State, runtime: Runtime[Services]) -> State:
        """Summarise a batch of windows, or of groups of summaries, side by side."""
        services, at, level = runtime.context, state["at"], state["level"]
        groups = services.get_json(state["groups"])
        each = services.priced(Cost(1, state["room"], self.summary_tokens))
        batch = groups[at : at + services.budget.fitting(self.batch, each)]
        if level == 0:
            notes = self._notes(state, services, [Part.read(services.chunks(ids)) for ids in batch], WINDOW)
        else:
            notes = self._merged(state, services, batch)
        made = keep_batch(services, notes, state["made"])
        at += len(batch)
        services.emit(Event("merge" if level else "read", at, len(groups), "groups" if level else "windows"))
        read = state["read"] if level else at
        # The cut of a text that is summarised at once is told in the answer.
        cut = 0 if level == 0 and len(groups) == 1 else sum(note.cut for note in notes)
        return {"at": at, "left": len(groups) - at, "made": made, "read": read, "cut": state["cut"] + cut}

    def _merged(self, state: State, services: Services, batch: Sequence[Sequence[Mapping[str, Any]]]) -> list[Note]:
        """One note of each group; a note that is alone stays as it is, and was counted where it was cut."""
        groups = [[Note(**note) for note in group] for group in batch]
        merged = iter(self._notes(state, services, [Part.of(group) for group in groups if len(group) > 1], MERGE))
        notes = [next(merged) if len(group) > 1 else replace(group[0], cut=False) for group in groups]
        words, _ = self._lengths(state, _is_last(state))
        # A merge that its limit cut has not come to the end of the text.
        return [
            replace(joined(group, words), cut=True) if note.cut else note
            for note, group in zip(notes, groups, strict=True)
        ]

    def _notes(self, state: State, services: Services, parts: Sequence[Part], prompt: str) -> list[Note]:
        last = _is_last(state)
        requests = [self._request(state, part, prompt, last) for part in parts]
        if last and wants_summary(Question.of(state)):
            completions = [services.write(request) for request in requests]
        else:
            completions = services.complete(requests)
        return [
            part.note(services, state["question"], completion)
            for part, completion in zip(parts, completions, strict=True)
        ]

    def _request(self, state: Mapping[str, Any], part: Part, prompt: str, last: bool, before: str = "") -> Request:
        """What asks for a summary of a part: the `last` one has the length that was asked for."""
        words, most = self._lengths(state, last)
        content = prompt.format(text=part.text, before=as_data(before), words=words, how=how(state["question"]))
        return Request.user(content, max_tokens=most)

    def _lengths(self, state: Mapping[str, Any], last: bool) -> tuple[int, int]:
        """The words that are asked of a summary, and its most tokens."""
        if last:
            return state["words"], most_tokens(state["words"])
        return self._part(Question.of(state), state["words"], state["at"] + state["left"])

    def _part(self, question: Question, words: int, parts: int) -> tuple[int, int]:
        """The words that are asked of one summary among so many, and its most tokens."""
        most = self.summary_tokens // 2
        if wants_summary(question):  # the answer of a question may stand in any of them, and gets all the room there is
            most = min(most, max(_LEAST_SHARE_WORDS, int(words * _SHARED_RATIO / parts)))
        return most, min(self.summary_tokens, 2 * most_tokens(most))

    def _more(self, state: State) -> str:
        return "summarize" if state["left"] else "level"

    def _level(self, state: State, runtime: Runtime[Services]) -> State:
        """The groups of the next level, or the end, where one summary is left."""
        services = runtime.context
        notes = kept_notes(services, state["made"])
        if len(notes) <= 1:
            note = notes[0] if notes else Note("", [])
            return {"note": replace(note, cut=note.cut and state["level"] == 0).keep(services)}
        groups = grouped(notes, note_tokens(services, notes), state["room"])
        digest = services.put_json([[asdict(note) for note in group] for group in groups])
        return {"groups": digest, "level": state["level"] + 1, "at": 0, "left": len(groups), "made": None}

    def _roll(self, state: State, runtime: Runtime[Services]) -> State:
        """Write the summary anew with one more window."""
        services, at = runtime.context, state["at"]
        plan = services.get_json(state["plan"])
        before = Note.kept(services, state["note"]) if at else Note("", [])
        part = Part.read(services.chunks(plan[at]), before.spans)
        request = self._request(state, part, ROLL if before.text else WINDOW, last=True, before=before.text)
        streamed = at + 1 == len(plan) and wants_summary(Question.of(state))
        completion = services.write(request) if streamed else services.complete([request])[0]
        note = part.note(services, state["question"], completion)
        note = note if note.text else before
        services.emit(Event("read", at + 1, len(plan), "windows"))
        left = len(plan) - at - 1
        cut = state["cut"] + int(note.cut and left > 0)
        return {"at": at + 1, "left": left, "read": at + 1, "cut": cut, "note": note.keep(services)}

    def _after(self, state: State) -> str:
        if state["left"]:
            return "roll" if self.form == "rolling" else "summarize"
        over = self.rounds == 1 or state.get("finished") or wants_summary(Question.of(state))
        return "answer" if over else "think"

    def _rounds(self) -> Rounds:
        return Rounds(self.round_tokens, max(1, self.round_tokens // 2))

    def _think(self, state: State, runtime: Runtime[Services]) -> State:
        """One round of reasoning over the summary."""
        services, done = runtime.context, state["rounds"] + 1
        material = MATERIAL.format(summary=as_data(Note.kept(services, state["note"]).text))
        before = services.get(state["progress"]) if "progress" in state else ""
        progress, over = self._rounds().think(services, material, Question.of(state), before)
        services.emit(Event("think", done, self.rounds - 1, "rounds"))
        return {"progress": services.put(progress), "rounds": done, "finished": over or done >= self.rounds - 1}

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        """The summary at its length, or the answer from it."""
        services = runtime.context
        note = Note.kept(services, state["note"])
        if state["cut"]:
            what = (
                f"{state['cut']} summaries were cut at their limit; one of summaries is then made of their beginnings"
            )
            services.emit(Event("warning", state["cut"], note=what))
        if not wants_summary(Question.of(state)):
            return {"reply": self._reply(state, services, note).keep(services)}
        note = self._fitted(state, services, note)
        return {"note": note.keep(services), "reply": _reply_of(note, state).keep(services)}

    def _fitted(self, state: State, services: Services, note: Note) -> Note:
        """A summary that is much too long, written once more, shorter."""
        length = count_words(note.text)
        if length <= state["words"] * _TOO_LONG_RATIO:
            return note
        part = Part.of([note])
        request = self._request(state, part, SHORTEN, last=True)
        shorter = part.note(services, state["question"], services.complete([request])[0])
        services.decide("is it shorter?", words=length, words_now=count_words(shorter.text))
        return shorter if 0 < count_words(shorter.text) < length else note

    def _reply(self, state: Mapping[str, Any], services: Services, note: Note) -> Reply:
        if not note.text:
            return Reply.refused()
        material = MATERIAL.format(summary=as_data(note.text))
        if state.get("progress"):
            material = FROM_PROGRESS.format(material=material, progress=as_data(services.get(state["progress"])))
        return answer_if_stated(services, material, Question.of(state), self.abstain_below)

    def _so_far(self, state: Mapping[str, Any], services: Services) -> list[Note]:
        """The summaries of the level that a budget cut short, and those of the level before that it did not reach."""
        notes = kept_notes(services, state["made"]) if state.get("made") else []
        if state.get("level"):
            rest = services.get_json(state["groups"])[state["at"] :]
            notes += [Note(**note) for group in rest for note in group]
        return notes


def _is_last(state: Mapping[str, Any]) -> bool:
    """Whether the level has one summary alone."""
    return bool(state["at"] == 0 and state["left"] == 1)


def _reply_of(note: Note, state: Mapping[str, Any]) -> Reply:
    """A summary as the answer; `stopped` says so where its limit cut it."""
    if not note.text:
        return Reply.refused()
    return Reply(note.text, stopped=f"words={state['words']}" if note.cut else None)
