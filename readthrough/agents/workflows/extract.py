"""Extract: fills in a JSON Schema from texts of any length, each field with the sentence that it rests on.

Values are looked for one by one in passages found for them; lists of objects by reading everything, window by window.
Whether the text says a field is decided by a scored choice and query likelihood, before anything is written; what is
written is bound to the field's own schema, and held against the text (`readthrough.agents.reading.filling`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import cut_all
from readthrough.agents.reading.extracting import (
    FIELDS,
    ITEMS,
    WORKFLOW,
    Asked,
    Found,
    Writing,
    choices_of,
    choose_values,
    described,
    look_at,
    may_say,
    said,
    unsaid,
    write_items,
    write_values,
)
from readthrough.agents.reading.filling import Filled, Source, assemble, joined
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.passages import in_reading_order, prompt_tokens, section_text, windows, within_budget
from readthrough.agents.reading.pointers import sentence_at
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.reading.schemas import Field, form_of, leaves, load_schema, problems
from readthrough.agents.runs.services import Services
from readthrough.errors import ConfigError, PromptTooLongError, UsageError
from readthrough.retrieval.indexes.hybrid import take_turns
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

# A model without logits is asked for so many fields at once: each call of an endpoint reads its text again.
_TOGETHER = 8
# The most calls that a field takes: two looks by two signs, the value, its place.
_CALLS = 6
# What was seen of values and of items.
_WRITTEN_TOKENS = 24
_LIST_RATIO = 0.25


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the plan, of what was found and of the reply, and how far the plan is done.

    `made` is the newest link of a chain: each holds what a step found, and the hash of the link before it. `cut` is
    the limit that cut a reply, `next` the next node.
    """

    question: str
    choices: list[str] | None
    plan: str
    at: int
    read: int
    made: str | None
    cut: str
    next: str
    reply: str
    marks: str


@dataclass(frozen=True)
class Extract(Workflow):
    """Fills in a JSON Schema, each field with the sentence it rests on, and says null where the text says nothing.

    Attributes:
        schema: a JSON Schema of an object, its JSON text, or the path of a file that holds it; without one there is
            one field, `answer`, for what the question asks.
        index: the index to search, by its name in the catalogue.
        k: how many chunks the index is asked for, a field.
        whole_tokens: a text of no more tokens is read whole.
        passage_tokens: the most tokens of passages that are read for a field of a longer text.
        window_tokens: the most tokens of text that are read at once for lists of objects.
        value_tokens: the most tokens of a field's value as it is written.
        list_tokens: the most tokens of a list.
        parallel: how many fields, or windows, are read in one step.
        abstain_below: the probability that the text says a field, below which it is null.
    """

    name: ClassVar[str] = WORKFLOW

    schema: dict[str, Any] | str | None = field(default=None, hash=False)
    index: str = "hybrid"
    k: int = 20
    whole_tokens: int = 2000
    passage_tokens: int = 700
    window_tokens: int = 2000
    value_tokens: int = 160
    list_tokens: int = 1024
    parallel: int = 8
    abstain_below: float = 0.3

    def __post_init__(self) -> None:
        for name in ("k", "passage_tokens", "window_tokens", "value_tokens", "list_tokens", "parallel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{self.name}.{name} = {getattr(self, name)}: must be at least 1")
        if self.schema is not None:  # the run log keeps what the file said, not where it is
            object.__setattr__(self, "schema", load_schema(self.schema))
            _form_of(json.dumps(self.schema))

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (passages and windows), fill (a batch of fields), read (a batch of windows), join."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"plan": self._plan, "fill": self._fill, "read": self._read, "join": self._join})
        graph.add_edge(START, "plan")
        for node in ("plan", "fill", "read"):
            graph.add_conditional_edges(node, lambda state: state["next"], ["fill", "read", "join"])
        graph.add_edge("join", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of schemas and of what is done with values."""
        return (*super().sources(), *(part.__module__ for part in (Asked, Filled, Field)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The JSON with its evidence: `Evidence.supports` counts the leaf fields of the JSON in order, from 0."""
        marks = services.get_json(state["marks"]) if "marks" in state else []
        pointers = [
            (sentence_at(services.shelf.document(place[0]), place[1], place[2]), [number])
            for number, (_, place) in enumerate(marks)
            if place
        ]
        plan = services.get_json(state["plan"]) if "plan" in state else dict[str, Any](fill=[], read=[], whole=True)
        filled = [chunk for _, chunks in plan["fill"][: state.get("at", 0)] for chunk in chunks]
        read = [chunk for _, chunks in plan["read"][: state.get("read", 0)] for chunk in chunks]
        coverage = ledger(services, read=[*read, *filled] if plan["whole"] else read, retrieved=filled)
        return Reply.kept(services, state["reply"]).to_answer(question, cut_all(services, pointers), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The form with what was found so far."""
        return self._joined(state, services)

    def estimate(self, question: Question, services: Services) -> Cost:
        """Each field's look and its value; each window's, for every list of objects."""
        form, logits = self._form(question), "logits" in services.model.capabilities
        tokens = sum(services.shelf.count_tokens(services.model).values())
        plain, lists = _sorted(form)
        whole = self._whole(services)
        text = tokens if whole else min(tokens, self.passage_tokens, self._space(services))
        asked = services.model.count_tokens([FIELDS, described(form)])
        frame = asked[0] + asked[1] // (len(plain) + len(lists)) + TEMPLATE_TOKENS
        groups = len(plain) if logits else math.ceil(len(plain) / _TOGETHER)
        read = len(lists) * math.ceil(tokens / self._room(form, services)) if lists else 0
        # A look by two signs, one of them without the text too, and the value.
        calls = 4 if logits else 1
        prompt = max(1, calls - 1) * (groups * text + len(lists) * tokens) + calls * (groups + read) * frame
        kept = 2 * (groups * text + len(lists) * tokens) if logits else 0
        kept += max(0, groups - 1) * text if logits and whole else 0
        written = len(plain) * _WRITTEN_TOKENS + int(read * self.list_tokens * _LIST_RATIO)
        beside = written * (self.parallel - 1) // self.parallel
        return Cost(calls * (groups + read), prompt, written, cached_tokens=kept, beside_tokens=beside)

    def _form(self, question: Question) -> Field:
        """The form to fill in.

        Raises:
            UsageError: the question has choices, and there is a schema.
        """
        if self.schema is not None and question.choices is not None:
            hint = "put the choices into it: an `enum`"
            raise UsageError(f"{self.name} fills in a schema and cannot choose", hint=hint)
        return _form_of(json.dumps(self._schema(question)))

    def _schema(self, question: Question) -> dict[str, Any]:
        if isinstance(self.schema, dict):
            return self.schema
        value = {"type": "string"} if question.choices is None else {"enum": list(question.choices)}
        return {
            "type": "object",
            "properties": {"answer": {**value, "description": question.text}},
            "required": ["answer"],
        }

    def _whole(self, services: Services) -> bool:
        tokens = sum(services.shelf.count_tokens(services.model).values())
        return tokens <= min(self.whole_tokens, self._space(services))

    def _space(self, services: Services) -> int:
        """Tokens of text that fit a prompt for values, beside instructions that are as long and a list."""
        return max(1, (services.model.window_tokens - self.list_tokens) // 2)

    def _room(self, form: Field, services: Services) -> int:
        """Tokens of text in a window beside the longest list's instructions and its items."""
        asked = [ITEMS + blank.asked() + described(blank) for blank in form.blanks() if not blank.plain]
        frame = max(services.model.count_tokens(asked)) + TEMPLATE_TOKENS
        room = min(self.window_tokens, services.model.window_tokens - frame - self.list_tokens)
        longest = max(prompt_tokens(services).values(), default=0)
        if room < longest:
            raise PromptTooLongError(
                f"a window of {max(room, 0)} tokens has no room for a passage of {longest}",
                hint="set fewer list_tokens or more window_tokens, or use a model with a larger window",
            )
        return room

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        services, question = runtime.context, Question.of(state)
        shelf, form = services.shelf, self._form(question)
        plain, lists = _sorted(form)
        together = 1 if "logits" in services.model.capabilities else _TOGETHER
        numbers = list(plain)
        groups = [numbers[at : at + together] for at in range(0, len(numbers), together)]
        found = [self._chunks(services, question, [plain[number] for number in group]) for group in groups]
        every: list[list[int]] = []
        if lists:
            every = windows(shelf.chunk_ids(), prompt_tokens(services), self._room(form, services))
        plan = {
            "whole": self._whole(services),
            "fill": list(zip(groups, found, strict=True)),
            "read": [([number], window) for window in every for number in lists],
        }
        services.emit(Event("find", len(plain), len(plain), "fields"))
        return {"plan": services.put_json(plan), "at": 0, "read": 0, "made": None, "cut": "", "next": _next(plan, 0, 0)}

    def _chunks(self, services: Services, question: Question, blanks: Sequence[Field]) -> list[int]:
        """The chunks that some fields are filled in from: all, or those found for them, in reading order."""
        shelf = services.shelf
        if self._whole(services):
            return shelf.chunk_ids()
        asked = [Question(blank.asked(), question.choices) for blank in blanks]
        ranked = take_turns([find_chunks(shelf, each, self.index, self.k) for each in asked], len(blanks) * self.k)
        budget = min(len(blanks) * self.passage_tokens, self._space(services))
        kept = within_budget(ranked, shelf.count_tokens(services.model), budget)
        if ranked and not kept:
            raise PromptTooLongError(f"no passage fits {budget} tokens", hint="raise passage_tokens")
        return [chunk.id for chunk in in_reading_order(shelf.get(kept), [entry.id for entry in shelf.documents])]

    def _fill(self, state: State, runtime: Runtime[Services]) -> State:
        """Fill in a batch of values: choices by letters, the rest as JSON."""
        services, question = runtime.context, Question.of(state)
        plan, at, read = services.get_json(state["plan"]), state["at"], state["read"]
        batch = plan["fill"][at : at + self._fitting(services)]
        groups = self._asked(services, question, batch)
        logits = "logits" in services.model.capabilities and question.choices is None
        found: list[Found] = []
        if logits:
            looked = look_at(services, [each for group in groups for each in group])
            found = [unsaid(each) for each in looked if not may_say(each)]
            groups = [[each] for each in looked if may_say(each)]
        by_letter = logits or question.choices is not None
        chosen = [each for group in groups for each in group if by_letter and choices_of(each.field)]
        written = [rest for group in groups if (rest := [each for each in group if each not in chosen])]
        values, limit = write_values(services, written, question.text, self._writing)
        values += choose_values(services, chosen)
        if logits:
            values = said(services, [each for group in groups for each in group], values, self.abstain_below)
        at += len(batch)
        services.emit(Event("fill", at, len(plan["fill"]), "fields"))
        made = services.link(state["made"], found=[each.keep() for each in (*found, *values)])
        return {"at": at, "made": made, "cut": limit or state["cut"], "next": _next(plan, at, read)}

    def _read(self, state: State, runtime: Runtime[Services]) -> State:
        """Read a batch of windows for the items of lists; one with more items than fit a reply is divided."""
        services, question = runtime.context, Question.of(state)
        plan, at, read = services.get_json(state["plan"]), state["at"], state["read"]
        batch = plan["read"][read : read + self._fitting(services)]
        asked = [each for group in self._asked(services, question, batch) for each in group]
        if "logits" in services.model.capabilities:
            asked = look_at(services, asked)
        items = write_items(services, asked, question.text, self._writing)
        found, limit, left = list[Found](), state["cut"], list[list[Any]]()
        for (numbers, ids), (each, cut) in zip(batch, items, strict=True):
            if cut and len(ids) > 1:
                left += [[numbers, ids[: len(ids) // 2]], [numbers, ids[len(ids) // 2 :]]]
            else:
                found.append(each)
                limit = self._writing.limit([asked[0].field]) if cut else limit
        read += len(batch)
        plan = {**plan, "read": [*plan["read"][:read], *left, *plan["read"][read:]]}
        services.emit(Event("read", read, len(plan["read"]), "windows"))
        made = services.link(state["made"], found=[each.keep() for each in found])
        changed: State = {"plan": services.put_json(plan)} if left else {}
        return {**changed, "read": read, "made": made, "cut": limit, "next": _next(plan, at, read)}

    def _asked(self, services: Services, question: Question, batch: Sequence[Sequence[Any]]) -> list[list[Asked]]:
        """The fields of a batch of the plan, each group with its text; one that several share is read once."""
        blanks = list(self._form(question).blanks())
        texts: dict[tuple[int, ...], tuple[Source, str]] = {}
        groups = []
        for numbers, ids in batch:
            if tuple(ids) not in texts:
                chunks = services.chunks(ids)
                texts[tuple(ids)] = (Source(chunks), section_text(chunks))
            groups.append([Asked(number, blanks[number], *texts[tuple(ids)]) for number in numbers])
        return groups

    def _fitting(self, services: Services) -> int:
        """How many fields or windows go out together: fewer, where a budget is nearly spent."""
        each = Cost(1, self.passage_tokens, _WRITTEN_TOKENS)
        return max(1, services.budget.fitting(self.parallel * _CALLS, each) // _CALLS)

    @property
    def _writing(self) -> Writing:
        return Writing(self.value_tokens, self.list_tokens)

    def _join(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """The whole form."""
        joined = self._joined(state, runtime.context)
        runtime.context.say(Reply.kept(runtime.context, joined["reply"]).text)
        return joined

    def _joined(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The form with all that was found so far: its reply and its marks for the state."""
        question = Question.of(state)
        form = self._form(question)
        found, unsaid_share = _found(services, state.get("made"), list(form.blanks()))
        filled = assemble(form, found, unsaid_share)
        sure = [mark.confidence for mark in filled.marks if mark.confidence is not None]
        for (path, value), mark in zip(leaves(filled.value), filled.marks, strict=True):
            signs = {} if mark.confidence is None else {"confidence": mark.confidence}
            services.decide(f"{path} is {value!r:.80}", **signs)
        lacking = problems(filled.value, self._schema(question))
        for path in lacking:
            services.decide(f"{path} was not found, and the schema requires it")
        nothing = all(value is None for _, value in leaves(filled.value))
        text = json.dumps(filled.value, ensure_ascii=False, separators=(",", ":"))
        text = text if question.choices is None else str(filled.value["answer"])
        least = min(sure, default=None)
        reply = Reply(text, least, abstained=bool(lacking) or nothing, stopped=state.get("cut") or None)
        return {"reply": reply.keep(services), "marks": services.put_json(filled.keep()[1])}


@lru_cache(maxsize=16)
def _form_of(schema: str) -> Field:
    return form_of(json.loads(schema))


def _sorted(form: Field) -> tuple[dict[int, Field], dict[int, Field]]:
    """The blanks of a form by number: those that passages are found for, and lists that everything is read for."""
    blanks = dict(enumerate(form.blanks()))
    plain = {number: blank for number, blank in blanks.items() if blank.plain}
    return plain, {number: blank for number, blank in blanks.items() if not blank.plain}


def _next(plan: Mapping[str, Any], at: int, read: int) -> str:
    if at < len(plan["fill"]):
        return "fill"
    return "read" if read < len(plan["read"]) else "join"


def _found(services: Services, link: str | None, blanks: Sequence[Field]) -> tuple[dict[str, Filled], dict[str, float]]:
    """What was found up to a link, by the keys of fields; and how probable it is that others are not said."""
    every = [Found.kept(*each) for held in services.links(link) for each in held["found"]]
    missing = {blanks[each.blank].key: each.unsaid for each in every if each.filled is None and each.unsaid is not None}
    parts: dict[str, list[Filled]] = {}
    for each in every:
        if each.filled is not None:
            parts.setdefault(blanks[each.blank].key, []).append(each.filled)
    order = {entry.id: number for number, entry in enumerate(services.shelf.documents)}
    return {key: joined(filled, order) for key, filled in parts.items()}, missing
