"""Write long: a report, a glossary or an index of a text, step by step, each step in a dialogue of its own.

Source: Holt et al., "L2MAC: Large Language Model Automatic Computer for Extensive Code Generation", arXiv 2310.02003
(samholt/L2MAC, `prompts/book.yaml`): the model writes a program of instructions; each is carried out in a fresh
dialogue that knows the task, the step, the names of the files so far and a summary of the step before, and writes
files; a step whose dialogue is too long is begun again from its progress.

Differs from the paper: there is a source. A step reads the passages that an index finds for it in place of earlier
files, a sentence that these do not make likelier is left out (the paper has the model run checks), and each sentence
carries the place that it came from. The plan is one list of titles, a step is over when its reply ends by itself (the
paper asks the model), and only what was cut goes on. The terms of a glossary and of an index are found by their use,
not written. With `least_gain` None, and a plan as long as the paper's, this is its loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply, answer_from
from readthrough.agents.reading.concluding import answer_cost, quotes_for
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.reading.summarizing import PLAIN, WINDOW, Note, most_tokens, written
from readthrough.agents.reading.writing import (
    WORKFLOW,
    Form,
    References,
    Section,
    composed,
    files,
    form_of,
    joined,
    keep,
    kept,
    section_names,
    whole_name,
)
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.writing.drafting import PLAN, Drafting, overview_of, plan_titles
from readthrough.agents.workflows.writing.folder import Folder
from readthrough.agents.workflows.writing.terms import define, locate, terms_of
from readthrough.errors import ConfigError, PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

_SUMMARY_WORDS = 40
_TITLE_TOKENS = 12
# What was seen of replies, beside their limit.
_WRITTEN_RATIO = 0.6
_LOOK_CALLS = 3


class State(TypedDict, total=False):
    """What travels between nodes.

    Hashes of the plan, of the chain of sections that are written, of the one that is begun, of the summary of the last
    one, of what is known of the files, and of the reply; which step is next, and how many replies the one begun has.
    """

    question: str
    choices: list[str] | None
    plan: str
    steps: int
    at: int
    made: str | None
    begun: str
    replies: int
    summary: str
    files: str
    reply: str


@dataclass(frozen=True)
class WriteLong(Workflow):
    """Writes a long report, a glossary or an index, step by step, each sentence with its source (arXiv 2310.02003).

    Attributes:
        form: what is written; None takes what the question names (`Write a glossary ...`), else a report.
        into: a folder that files are written into after each step; None writes none.
        overwrite: whether files that are in the folder already may be overwritten; else such a file is an error.
        index: the index that finds passages, by its name in the catalogue.
        sections: the most sections of a report.
        paragraphs: how many paragraphs a section is asked for.
        passage_tokens: the most tokens of passages that a section, or a term, is written from.
        section_tokens: the most tokens of a reply.
        replies: the most replies of a section, each going on where its limit cut the one before.
        terms: the most terms of a glossary or an index.
        term_tokens: the most tokens of a term's explanation.
        places: the most places of a term in an index.
        batch: how many terms a step is about.
        plan_tokens: the most tokens of the sentences that a report is planned from.
        least_gain: a sentence that its passages do not make likelier by so many nats a token is left out; None keeps
            all.
        abstain_below: the probability that its passages say what a term is, below which a glossary leaves it out.
    """

    name: ClassVar[str] = WORKFLOW

    form: Form | None = None
    into: str | None = None
    overwrite: bool = False
    index: str = "hybrid"
    sections: int = 6
    paragraphs: int = 2
    passage_tokens: int = 900
    section_tokens: int = 384
    replies: int = 2
    terms: int = 24
    term_tokens: int = 64
    places: int = 6
    batch: int = 8
    plan_tokens: int = 1200
    least_gain: float | None = 0.5
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        least_one = ("sections", "paragraphs", "passage_tokens", "section_tokens", "replies", "terms", "term_tokens")
        for name in (*least_one, "places", "batch", "plan_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{self.name}.{name} = {getattr(self, name)}: must be at least 1")
        if self.into is not None:  # the run may be resumed from another folder
            object.__setattr__(self, "into", str(Path(self.into).expanduser().absolute()))

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (the steps), write (a reply of a step, or a batch of terms), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"plan": self._plan, "write": self._write, "answer": self._answer})
        graph.add_edge(START, "plan")
        for node in ("plan", "write"):
            graph.add_conditional_edges(
                node, lambda state: "write" if state["at"] < state["steps"] else "answer", ["write", "answer"]
            )
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of what is written, of drafts, terms and summaries."""
        return (*super().sources(), *(part.__module__ for part in (Section, Drafting, define, Note)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The whole text with numbered references, which are the numbers of the evidence, from 1."""
        reply = Reply.kept(services, state["reply"])
        sections = self._sections(state, services)
        read = [chunk for section in self._begun(state, services) for chunk in section.chunks]
        looked = services.get_json(state["plan"])["looked"] if "plan" in state else []
        coverage = ledger(services, retrieved=read, skipped=looked)
        if question.choices is not None:
            spans = [span for section in sections for said in section.sentences for span in said.spans]
            return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)
        references = References()
        text = joined(self._form(question), composed(self._form(question), sections, references))
        return reply.to_answer(question, references.evidence(services, text) if sections else (), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """What is written so far."""
        if not self._sections(state, services):
            return super().finish_early(state, services)
        return {"reply": self._reply(state, services).keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """Nothing, but where one of several choices is to be taken."""
        if question.choices is None:
            return Cost()
        return with_spare(answer_cost(services, question, self.sections * self.section_tokens))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The plan; each section with its check and its summary, or each term with a look, its sentence and a check."""
        form, tokens = self._form(question), sum(services.shelf.count_tokens(services.model).values())
        if form == "index":
            return Cost()
        logits = "logits" in services.model.capabilities
        read = min(self.passage_tokens, tokens)
        if form == "glossary":
            calls = 1 + (_LOOK_CALLS if logits else 1) + (2 if logits and self.least_gain is not None else 0)
            written_tokens = self.terms * int(self.term_tokens * _WRITTEN_RATIO)
            prompt = self.terms * (calls * TEMPLATE_TOKENS + (calls - 2 if logits else calls) * read)
            return Cost(self.terms * calls, prompt, written_tokens, beside_tokens=written_tokens * 7 // 8)
        reply = int(self.section_tokens * _WRITTEN_RATIO)
        sentences = reply // 24 if logits and self.least_gain is not None else 0
        frame = self.plan_tokens // 4 + TEMPLATE_TOKENS
        prompt = read + frame + sentences * (read + 2 * TEMPLATE_TOKENS) + reply + TEMPLATE_TOKENS
        each = Cost(2 + 2 * sentences, prompt, reply + _SUMMARY_WORDS, cached_tokens=sentences * read)
        planned = Cost(1, min(self.plan_tokens, tokens) + frame, self.sections * _TITLE_TOKENS)
        cost = sum([each] * self.sections, planned)
        if question.choices is None:
            return cost
        return cost + answer_cost(services, question, self.sections * reply)

    def _form(self, question: Question) -> Form:
        return self.form or form_of(question.text)

    def _drafting(self, form: Form) -> Drafting:
        reply = self.section_tokens if form == "report" else self.term_tokens
        return Drafting(self.index, self.passage_tokens, reply, self.paragraphs, self.least_gain)

    def _begun(self, state: Mapping[str, Any], services: Services) -> list[Section]:
        """Every section so far, with the one that is begun, and those of which nothing is left."""
        begun = [Section.of(services.get_json(state["begun"]))] if state.get("begun") else []
        return [*kept(services, state.get("made")), *begun]

    def _sections(self, state: Mapping[str, Any], services: Services) -> list[Section]:
        """The sections so far that say something."""
        return [section for section in self._begun(state, services) if section.paragraphs]

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        """The steps: a report's titles by the model, or the terms of the text in batches."""
        services, question = runtime.context, Question.of(state)
        form, names, looked = self._form(question), [whole_name(self._form(question))], list[int]()
        folder = self._folder()
        if folder is not None:
            folder.check(names, {})
        if form == "report":
            room = self._room_tokens(question, services)
            overview, looked = overview_of(services, question, self.index, room)
            titles = plan_titles(services, question, overview, self.sections)
            names += section_names(titles)
            steps = [[title] for title in titles]
        else:
            terms = terms_of(services, self.terms)
            steps = [terms[at : at + self.batch] for at in range(0, len(terms), self.batch)]
            looked = services.shelf.chunk_ids() if form == "index" else []
        if folder is not None:
            folder.check(names, {})
        services.emit(Event("plan", len(steps), len(steps), "steps"))
        plan = services.put_json({"steps": steps, "looked": looked})
        begun: State = {"plan": plan, "steps": len(steps), "at": 0, "made": None, "begun": "", "replies": 0}
        return {**begun, "summary": services.put(""), "files": services.put_json({})}

    def _room_tokens(self, question: Question, services: Services) -> int:
        """The most tokens of an overview; the passages of a section must fit the window as well."""
        task = services.model.count_tokens([question.with_choices])[0]
        written_tokens = self.sections * _TITLE_TOKENS + (self.replies + 1) * self.section_tokens
        frame = services.model.count_tokens([PLAN])[0] + 3 * TEMPLATE_TOKENS + task + written_tokens
        longest = max(services.shelf.count_tokens(services.model).values(), default=0)
        room = services.model.window_tokens - frame
        if room < max(self.passage_tokens, longest):
            needed = max(self.passage_tokens, longest)
            raise PromptTooLongError(
                f"{max(room, 0)} tokens of a window are left for passages, {needed} are needed",
                hint="ask for fewer section_tokens or passage_tokens, or use a model with a larger window",
            )
        return min(self.plan_tokens, room)

    def _folder(self) -> Folder | None:
        return None if self.into is None else Folder(Path(self.into), self.overwrite)

    def _write(self, state: State, runtime: Runtime[Services]) -> State:
        """One reply of a report's section, or one batch of terms; then the files."""
        services, form = runtime.context, self._form(Question.of(state))
        step = services.get_json(state["plan"])["steps"][state["at"]]
        drafting = self._drafting(form)
        changed: State
        if form == "report":
            changed = self._section(state, services, step[0], drafting)
        else:
            defines = form == "glossary"
            found = (
                define(services, step, drafting, self.abstain_below) if defines else locate(services, step, self.places)
            )
            changed = {"at": state["at"] + 1, "made": keep(services, found, state["made"])}
        services.emit(Event("write", state["at"] + 1, state["steps"], "steps", step[0]))
        return {**changed, "files": self._files({**state, **changed}, services)}

    def _section(self, state: State, services: Services, title: str, drafting: Drafting) -> State:
        """The next reply of a section, which is over when a reply ends by itself, or when it has had all of them."""
        task, done = state["question"], kept(services, state["made"])
        if state["begun"]:
            begun = Section.of(services.get_json(state["begun"]))
        else:
            used = {chunk for section in done for chunk in section.chunks}
            begun = Section(title, chunks=drafting.find(services, task, title, used))
        before = [section for section in done if section.paragraphs]
        section, cut = drafting.write(services, task, before, services.get(state["summary"]), begun)
        replies = state["replies"] + 1
        if cut and replies < self.replies:
            return {"begun": services.put_json(asdict(section)), "replies": replies}
        summary = self._summary(services, section) if section.paragraphs else services.get(state["summary"])
        return {
            "at": state["at"] + 1,
            "made": keep(services, [section], state["made"]),
            "begun": "",
            "replies": 0,
            "summary": services.put(summary),
        }

    def _summary(self, services: Services, section: Section) -> str:
        """What a section says, for the dialogue of the next one."""
        prompt = WINDOW.format(text=section.text, words=_SUMMARY_WORDS, how=PLAIN.format())
        return written(services.complete([Request.user(prompt, max_tokens=most_tokens(_SUMMARY_WORDS))])[0])[0]

    def _files(self, state: Mapping[str, Any], services: Services) -> str:
        """Write what there is so far into the folder; what is known of the files."""
        folder, own = self._folder(), services.get_json(state["files"])
        sections, question = self._sections(state, services), Question.of(state)
        if folder is None or not sections:
            return str(state["files"])
        titles = [title for step in services.get_json(state["plan"])["steps"] for title in step]
        names = dict(zip(titles, section_names(titles), strict=True))
        texts = files(services, self._form(question), question.text, sections, names)
        return services.put_json(folder.write(texts, own))

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        if self.into is not None:
            names = services.get_json(state["files"])
            services.emit(Event("written", len(names), len(names), "files", self.into))
        return {"reply": self._reply(state, services).keep(services)}

    def _reply(self, state: Mapping[str, Any], services: Services) -> Reply:
        """The whole text; one of the choices, where there are any, by what it says."""
        sections, question = self._sections(state, services), Question.of(state)
        text = joined(self._form(question), composed(self._form(question), sections, References()))
        if question.choices is not None:
            return answer_from(services, text, question)
        return Reply(text) if sections else Reply.refused()
