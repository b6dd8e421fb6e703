"""A conversation about the texts of a Book, with a memory: made by `Book.chat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.asof import AsOf
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import BudgetError, UsageError
from readthrough.memory.conversations import FILE, Conversations, Fact, Read, Session, Turn
from readthrough.memory.recall import Recall
from readthrough.types import Answer, Event, Evidence, Limits, Usage, can_go_on

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from readthrough.agents.reading.following import Exchange
    from readthrough.api import Book
    from readthrough.memory.runs import Run, Step
    from readthrough.working import OnText, Prepared

UNDERSTANDING = "understand"
"""The node's name in the run log, of the step that finds out what a question is about, and puts it anew."""

ASKED_AS = "asked as"
"""The stage of the event whose note is the question as it is answered, where that is not as it was typed."""

_SAID_BELOW = 0.3
"""With the small model 0.64 or more where it was said, 0.13 at most where it was not (seven questions)."""

_LAST_TURNS = 3
_OLDER_TURNS = 2


@dataclass(frozen=True, slots=True)
class _Understood:
    """A question so that it stands alone, what it is probably about, and the step in which that was found out."""

    question: str
    shares: Mapping[str, float] = field(default_factory=dict)
    step: Step | None = None

    @property
    def of_conversation(self) -> bool:
        from readthrough.agents.reading.following import is_about_conversation

        return is_about_conversation(self.shares)


class Chat:
    """Questions in turn, each understood from what was said before. Close it, or use it in a `with`.

    A question about the texts that stands alone is asked as it is; a follow-up is put so that it stands alone, from
    the last turns and older ones that fit it. A question about the conversation is answered from the turns, each of
    which is a document: its evidence is cut from them, followed by the places in the texts that those answers stood
    on, and its coverage counts the tokens of the turns. Where they do not say, it is asked of the texts.
    Where the texts are read up to a position, turns that were answered from more are passed over.

    Attributes:
        session: the conversation as it was when it was opened; `Book.chat` goes on with it by its name.
        changed: what of the texts is not as it was when the conversation was last used, in words.
        latest: the turn that was taken last, here and not by another process; without an answer where it failed.
    """

    def __init__(self, book: Book, session: str | None = None) -> None:
        """Made by `Book.chat`."""
        self._book = book
        self._ids = book.whole_ids
        self._held = {self._ids[entry.path]: entry.id for entry in book.documents}
        self._read = Read(book.paths, str(Path.cwd()), self._ids)
        self.latest: Turn | None = None
        self._recalled: Recall | None = None
        self._log = Conversations(book.settings.home / FILE)
        try:
            self.session: Session = self._log.find("last") if session == "last" else self._log.open(session, self._read)
        except BaseException:
            self._log.close()
            raise
        self.changed = _changes(self.session.read.documents, self._ids)

    def ask(
        self,
        question: str,
        workflow: str | dict[str, Any] | None = None,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        fresh: bool = False,
        **options: Any,
    ) -> Answer:
        """Answer the next question.

        The same question over the same texts, of the same workflow, model and settings, is answered from the run log
        where it was answered before: `Answer.run` is that run, `Answer.usage` what understanding the question took,
        and the turn's `from_log` says so. One that was interrupted goes on where it was.

        Args:
            question: the question as it was typed.
            workflow: as for `Book.ask`; questions about the conversation are answered by `retrieve`.
            on_text: as for `Book.ask`.
            limits: as for `Book.ask`, for the whole turn.
            fresh: ask anew what was answered before.
            options: as for `Book.ask`.

        Raises:
            UsageError: the question is empty, or the conversation was deleted.
            ConfigError, ModelError: as `Book.ask`.
        """
        from readthrough.agents.base import Question

        asked = Question(question.strip()).text
        checkpointer = options.pop("checkpointer", None)
        ready = self._book.prepare(workflow, on_text, limits, **options)
        return self._take(asked, ready, checkpointer, fresh)

    def again(
        self,
        workflow: str | dict[str, Any] | None = None,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> Answer:
        """Answer the last question anew, or go on with it where it was interrupted, or where a budget ended it.

        Raises:
            UsageError: nothing was asked yet.
        """
        last = self.latest or next(reversed(self.turns), None)
        if last is None:
            raise UsageError("nothing was asked yet")
        if last.answer is None:
            return self.ask(last.asked, workflow, on_text, limits, **options)
        checkpointer = options.pop("checkpointer", None)
        ready = self._book.prepare(workflow, on_text, limits, **options)
        return self._take(last.asked, ready, checkpointer, not can_go_on(last.answer["stopped"]), last)

    def similar(self, question: str, k: int = 5) -> list[tuple[Run, float]]:
        """The `k` runs over these texts, of any conversation or none, whose question and answer fit a question best."""
        here = {entry.path: entry.id for entry in self._book.documents}
        runs = [run for run in self._book.runs.runs() if run.answer and run.recipe.get("documents") == here]
        return self._recall.search(runs, question, k)

    @property
    def turns(self) -> list[Turn]:
        """All turns so far, those that other processes took too; one without an answer was interrupted."""
        return self._log.turns(self.session.name)

    def close(self) -> None:
        """Close the files; the book stays open. Calling it twice is fine."""
        if self._recalled is not None:
            self._recalled.close()
        self._log.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _take(
        self,
        asked: str,
        ready: Prepared,
        checkpointer: BaseCheckpointSaver[Any] | None,
        fresh: bool,
        last: Turn | None = None,
    ) -> Answer:
        """Take a turn; the `last`, which is taken again, is understood already, and not answered from itself."""
        with self._book.at_work(checkpointer) as saver:
            ready.services.budget.start()
            as_of = ready.services.as_of
            turns = [turn for turn in self.turns if last is None or turn.asked != asked]
            before = [turn for turn in turns if turn.answer is not None and _may_be_known(turn.answer, as_of)]
            turn = self.latest = self._log.begin(self.session.name, asked, self._read)
            # The question as it was answered may hold what earlier answers said.
            if last is not None and last.answer is not None and _may_be_known(last.answer, as_of):
                understood = _Understood(last.question, last.shares)
            else:
                understood = self._understand(asked, before, ready)
            if understood.question != asked:
                ready.services.emit(Event(ASKED_AS, 1, 1, note=understood.question))
            answer, from_log = None, False
            if understood.of_conversation and before:
                answer, understood = self._from_turns(understood, before, ready)
            if answer is None:
                answer, from_log = self._from_texts(understood, ready, saver, fresh)
            answer = replace(answer, as_of=as_of)
            self.latest = replace(
                turn,
                question=understood.question,
                shares=understood.shares,
                from_log=from_log,
                answer=answer.to_dict(),
            )
            self._log.finish(self.latest, self._facts(answer))
        return answer

    def _understand(self, asked: str, before: Sequence[Turn], ready: Prepared) -> _Understood:
        from readthrough.agents.reading.following import about, is_follow_up, stand_alone
        from readthrough.memory.runs import RunLog

        if not before:
            return _Understood(asked)
        notes = RunLog()  # the run that the step is noted in begins with the question that it is to find
        services = replace(ready.services, runs=notes, run=notes.start(asked, UNDERSTANDING, ready.services.model.name))
        question, shares = asked, dict[str, float]()
        # Where the budget is spent, the question is asked as it is: that run says so.
        with suppress(BudgetError), services.step(UNDERSTANDING, 0):
            shares = dict(about(services, asked))
            if is_follow_up(shares):
                question = stand_alone(services, asked, self._exchanges(asked, before))
        steps = notes.steps(services.run)
        notes.close()
        return _Understood(question, shares, steps[0] if steps else None)

    def _exchanges(self, asked: str, before: Sequence[Turn]) -> list[Exchange]:
        """The last turns, and before them older ones that fit the question, in order."""
        from readthrough.agents.reading.following import Exchange

        older, last = before[:-_LAST_TURNS], before[-_LAST_TURNS:]
        shown = list(last)
        if older:
            hits = self._recall.turns(older).search(asked, _OLDER_TURNS, self._recall.index)
            found = {hit.chunk.document for hit in hits}
            shown = [turn for turn in older if turn.document.id in found] + shown
        return [Exchange(turn.asked, turn.question, "" if turn.abstained else turn.said) for turn in shown]

    def _from_turns(
        self, understood: _Understood, before: Sequence[Turn], ready: Prepared
    ) -> tuple[Answer | None, _Understood]:
        """The answer from the conversation, None where that does not say; what that took is then part of the step."""
        from readthrough.agents.base import Question
        from readthrough.agents.runs.running import run
        from readthrough.agents.workflows.retrieve import Retrieve

        services = replace(ready.services, shelf=self._recall.turns(before))
        workflow = Retrieve(index=self._recall.index, whole_tokens=0, abstain_below=_SAID_BELOW)
        step = understood.step
        answer = run(workflow, Question(understood.question), services, before=step)
        if answer.abstained and answer.stopped is None:
            return None, replace(understood, step=step and replace(step, usage=answer.usage))
        ready.services.run = answer.run
        answer = replace(answer, evidence=(*answer.evidence, *self._sources(answer, before)))
        services.runs.finish(answer.run, answer.to_dict())
        return answer, understood

    def _from_texts(
        self, understood: _Understood, ready: Prepared, saver: BaseCheckpointSaver[Any], fresh: bool
    ) -> tuple[Answer, bool]:
        """The answer from the texts, and whether it is that of an earlier run."""
        from readthrough.agents.base import Question
        from readthrough.agents.runs.running import asked_before, resume, run, stands

        services, question, step = ready.services, Question(understood.question), understood.step
        services.keep_replies = services.keep_replies and not fresh
        found = None if fresh else asked_before(ready.workflow, question, services, ready.kept)
        if found is not None and found.answer is not None and stands(found, services.budget.limits):
            answer = Answer.from_dict(found.answer)
            services.say(answer.answer)
            return replace(answer, usage=Usage() if step is None else step.usage), True
        if found is not None and found.state != "done" and not services.runs.is_held(found.id):
            services.run = found.id
            if step is not None:
                services.runs.log(found.id, step)
            return resume(ready.workflow, question, services, saver), False
        return run(ready.workflow, question, services, saver, ready.kept, step), False

    def _facts(self, answer: Answer) -> list[Fact]:
        """Each sentence of an answer with the places in the texts that it stands on."""
        spans = sentence_spans(answer.answer) or [(0, len(answer.answer))]
        return [
            Fact(*spans[sentence], self._ids[item.document], item.start, item.end)
            for item in answer.evidence
            for sentence in item.supports
            if item.document in self._ids and sentence < len(spans)
        ]

    def _sources(self, answer: Answer, before: Sequence[Turn]) -> tuple[Evidence, ...]:
        """The places in the texts that the quoted sentences of earlier answers stood on, as far as they are here."""
        turns = {turn.document.path: turn for turn in before}
        found: dict[tuple[str, int, int], Evidence] = {}
        for item in answer.evidence:
            turn = turns[item.document]
            start, end = turn.span_in_answer(item.start, item.end)
            for fact in self._log.facts(turn.session, turn.number):
                if fact.start < end and fact.end > start and fact.document in self._held:
                    place = (self._held[fact.document], fact.source_start, fact.source_end)
                    found.setdefault(place, Evidence.cut(self._book.document(place[0]), *place[1:], item.supports))
        return tuple(found.values())

    @property
    def _recall(self) -> Recall:
        if self._recalled is None:
            settings = self._book.settings
            self._recalled = Recall(settings.home, self._book.embedder, settings.index)
        return self._recalled


def _may_be_known(answer: Mapping[str, Any], as_of: AsOf | None) -> bool:
    """Whether an earlier answer may be looked at by one who has read as far as that: it stands on no more."""
    if as_of is None:
        return True
    then = answer.get("as_of")
    return then is not None and as_of.reaches(AsOf(**then))


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What of the documents (id by path) is not as it was; one that was moved is the same."""
    edited = [f"{path} was changed" for path in then if path in now and now[path] != then[path]]
    gone = [f"{path} is not read now" for path in then if path not in now and then[path] not in now.values()]
    new = [f"{path} is new" for path in now if path not in then and now[path] not in then.values()]
    return (*edited, *gone, *new)
