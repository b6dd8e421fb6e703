"""The Python interface: `read` texts into a Book, and ask it. The command line uses nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from readthrough.config import Overrides, load_settings
from readthrough.errors import UsageError
from readthrough.filters import Filter
from readthrough.opening import Texts, as_kept, open_library, with_file
from readthrough.questions import Asked
from readthrough.types import Answer, Chunk, Cost, Document, Hit, Limits, SkippedFile
from readthrough.working import OnApproval, OnEvent, OnText, Working

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from readthrough.agents.reading.writing import Form
    from readthrough.agents.tracing.base import Trace
    from readthrough.asking import OnAnswer
    from readthrough.chat import Chat
    from readthrough.langchain import ReadthroughRetriever
    from readthrough.memory.shelf import Entry
    from readthrough.retrieval.code.outline import CodeMap


def read(
    *paths: str | Path, stdin: bytes | None = None, on_event: OnEvent | None = None, **overrides: Unpack[Overrides]
) -> Book:
    """Read files and folders into a Book; what the library already has is not indexed again.

    Args:
        paths: files and folders; `-` stands for `stdin`.
        stdin: bytes to read as a document, where `paths` names `-`.
        on_event: hears of progress.
        overrides: settings that win over all others; `model` may also be a ModelBackend or a LangChain chat model.

    Raises:
        UsageError: no path was given.
        InputError: a path is missing, or nothing readable is left of all that was given.
        ConfigError: a setting is wrong.
        LibraryError: the library cannot be read or written.
    """
    if not paths:
        raise UsageError("there is no text to read", hint="name a file or a folder")
    model = overrides.get("model")
    backend = None if model is None or isinstance(model, str | dict) else model
    if backend is not None:
        overrides["model"] = None
    loaded = load_settings(overrides)
    given = {name for name, origin in loaded.origins.items() if origin == "flag"}
    texts = Texts(paths, stdin, frozenset(given if backend is None else {*given, "model"}))
    settings = with_file(loaded.settings, texts.given)
    library = open_library(settings, on_event)
    try:
        shelf = texts.shelve(library, settings)
    except BaseException:
        library.close()
        raise
    return Book(library, shelf, settings, model=backend, on_event=on_event, texts=texts)


class Book(Working):
    """Texts that were read: ask them, search them. Made by `read`; close it, or use it in a `with`."""

    def ask(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        workflow: str | dict[str, Any] | None = None,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> Answer:
        """Answer a question from these texts.

        Args:
            question: the question.
            choices: the options of a multiple-choice question; the answer is one of them.
            workflow: a name, `{name: {option: value}}`, or a YAML file (see README, "Graphs of your own"), whose
                model, chunker and index hold for this question; the settings' workflow where left out.
            on_text: hears the answer piece by piece as it is written.
            limits: the most that the answer may take; where it ends the run, `Answer.stopped` says so.
            options: options of the workflow; an unknown one is an error. Four are not the workflow's: `as_of`, a
                position after which nothing is read (`chapter 12`, `p. 120`, `line 410`, `40%`, `character 52000`;
                of several documents `FILE: chapter 12`), in place of the book's own; `run`, the id of the new run;
                `checkpointer`, a LangGraph saver in place of the file in the home folder; and `on_approval`, which
                gets a mapping with a `message` where `limits` want an approval, and returns whether to go on. Without
                it such a run stops there, and `resume` goes on with it.

        Raises:
            UsageError: the question is empty, or there are fewer than two choices; `as_of` is no position.
            InputError: the texts have no position such as `as_of`; the hint names the nearest.
            ConfigError: an unknown workflow or option, or something is wrong in the YAML file.
            ModelError: the model or endpoint failed.
        """
        from readthrough.agents.base import Question
        from readthrough.agents.runs.running import run

        checkpointer, run_id = options.pop("checkpointer", None), options.pop("run", "")
        asked = Question(question.strip(), tuple(choices) if choices is not None else None)
        ready = self.prepare(workflow, on_text, limits, **options)
        ready.services.run = run_id
        with self.at_work(checkpointer) as saver:
            return run(ready.workflow, asked, ready.services, saver, ready.kept)

    def ask_all(
        self,
        questions: Sequence[str | Asked],
        workflow: str | dict[str, Any] | None = None,
        limits: Limits | None = None,
        on_answer: OnAnswer | None = None,
        **options: Any,
    ) -> list[Answer]:
        """Answer several questions from these texts, side by side: over a local model what they read is computed once.

        Each is a run of its own, which `resume` goes on with, and its answer that of `ask`, but for what rounding in
        larger batches may change. Endpoints are asked by so many threads as they bear requests at a time.

        Args:
            questions: the questions; `Asked` where there are choices.
            workflow: as in `ask`.
            limits: the most that each answer may take; seconds pass for all at once.
            on_answer: hears the number of a question, from 0, and its answer, as soon as that is there.
            options: as in `ask`, but `runs` in place of `run`: the ids of the new runs.

        Raises:
            UsageError: a question is empty, or has fewer than two choices; there are more or fewer `runs`.
            ConfigError: as in `ask`.
            ReadthroughError: some questions failed; the error of the first. The others are answered by then, which
                `on_answer` has heard.
        """
        from readthrough.agents.base import Question
        from readthrough.asking import ask_all

        checkpointer, runs = options.pop("checkpointer", None), options.pop("runs", None) or [""] * len(questions)
        if len(runs) != len(questions):
            raise UsageError(f"{len(questions)} questions, but {len(runs)} ids of runs")
        given = [Asked(each) if isinstance(each, str) else each for each in questions]
        asked = [Question(each.text.strip(), each.choices) for each in given]
        ready = [self.prepare(workflow, None, limits, **options) for _ in asked]
        for each, run in zip(ready, runs, strict=True):
            each.services.run = run
        return ask_all(self, asked, ready, checkpointer, on_answer)

    def chat(self, session: str | None = None) -> Chat:
        """A conversation about these texts: a new one, or the one of this name; `last` is the one used last.

        Raises:
            UsageError: `last`, and there is none.
            LibraryError: the file of conversations cannot be used.
        """
        from readthrough.chat import Chat

        return Chat(self, session)

    def resume(
        self,
        run: str,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        on_approval: OnApproval | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
    ) -> Answer:
        """Go on with a run that was killed, interrupted, or ended by a budget; at most one step is repeated.

        Args:
            run: its id, or the beginning or end of it, or `last`.
            on_text: hears the answer piece by piece as it is written.
            limits: the most that the rest may take.
            on_approval: is asked what the run was left with (see `ask`).
            checkpointer: the saver that the run was asked with, where it was not the file in the home folder.

        Raises:
            UsageError: no such run, or the workflow, the model or these texts are not what they were then.
        """
        from readthrough.agents.base import Question
        from readthrough.agents.runs.running import resume

        found = self.runs.find(run)
        if found.state == "done":
            return Answer.from_dict(found.answer or {})
        flow = self._flow(found.recipe.get("workflow", found.workflow), {}, frozenset()).workflow
        services = self._services(as_kept(self._settings, self._texts.given, found), on_text, limits, on_approval)
        services.run = found.id
        with self.at_work(checkpointer) as saver:
            return resume(flow, Question(found.question, found.choices), services, saver)

    def trace(self, answer: Answer | str = "last", **options: Any) -> Trace:
        """Which texts caused an answer: spans of these texts, found by the attention of the answer or by a search.

        Args:
            answer: the answer, or the id of its run (the beginning or end of it, or `last`).
            options: those of `readthrough.agents.tracing.tracing.Tracing`: `k`, `method`, `check`, ...

        Raises:
            UsageError: there is no such run, it gave no answer, or these texts are not what they were then.
            ConfigError: an unknown option.
            ModelError: the model shows neither its attention nor log-probabilities.
        """
        from readthrough.agents.tracing.tracing import Tracing
        from readthrough.spec import make

        run = self.runs.find(answer if isinstance(answer, str) else answer.run)
        how: Tracing = make(Tracing, "a trace", options, "trace")
        with self._lock:
            services = self._services(as_kept(self._settings, self._texts.given, run))
            services.run = run.id
            return how.trace(services, run)

    def estimate(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        workflow: str | dict[str, Any] | None = None,
        **options: Any,
    ) -> Cost:
        """What an answer will take on this machine, from a calibration of a few seconds; nothing is answered.

        Raises:
            UsageError: the workflow cannot say.
        """
        from readthrough.agents.base import Question
        from readthrough.agents.runs.estimating import estimate

        as_of = options.pop("as_of", None)
        asked = Question(question.strip(), tuple(choices) if choices is not None else None)
        flow = self._flow(workflow, options)
        with self._lock:
            services = self._services(self._with(flow, as_of))
            return estimate(flow.workflow, asked, services)

    async def aask(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        workflow: str | dict[str, Any] | None = None,
        on_text: OnText | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> Answer:
        """`ask` without blocking the event loop; `on_text` is called from another thread."""
        return await asyncio.to_thread(self.ask, question, choices, workflow, on_text, limits, **options)

    def summarize(self, words: int | None = None, focus: str | None = None, **options: Any) -> Answer:
        """Summarise these texts in about `words` words, or what they say about `focus`; they are read whole.

        `options` are those of `ask` and of the workflow `iterative-summary` (`form`, `window_tokens`, ...). Every
        sentence of the summary has evidence.

        Raises:
            UsageError: `focus` is empty.
            ConfigError: an unknown option, or a value that does not fit.
            ModelError: the model or endpoint failed.
        """
        from readthrough.agents.reading.summarizing import WORKFLOW, summary_question

        if words is not None:
            options["words"] = words
        return self.ask(summary_question(focus), workflow=WORKFLOW, **options)

    def write(
        self, form: Form = "report", about: str | None = None, into: str | Path | None = None, **options: Any
    ) -> Answer:
        """Write a long report on these texts, or on what they say `about` something, a glossary, or an index of them.

        With `into`, files are written into that folder as the text grows; a file that is there already is an error,
        unless `overwrite=True`. Numbers in brackets in the text are those of the evidence, from 1. `options` are those
        of `ask` and of the workflow `write-long` (`sections`, `paragraphs`, `terms`, ...).

        Raises:
            UsageError: `about` is empty, or stands beside a glossary or an index; a file is there already.
            ConfigError: an unknown option, or a value that does not fit.
            ModelError: the model or endpoint failed.
        """
        from readthrough.agents.reading.writing import WORKFLOW, writing_question

        given = {**options, "form": form, **({} if into is None else {"into": str(into)})}
        return self.ask(writing_question(form, about), workflow=WORKFLOW, **given)

    def extract(self, schema: Mapping[str, Any] | str | Path, **options: Any) -> Answer:
        """Fill in a JSON Schema (a mapping, JSON text, or a file) from these texts.

        `Answer.answer` is compact JSON with the schema's fields in their order. The number n in `Evidence.supports`
        stands for its n-th leaf field, from 0. What the texts do not say is left out, or null where the schema allows
        that or requires the field; where one that may not be null is, or everything is, the answer has `abstained`.
        Its confidence is that of the least sure field. `options` are those of `ask` and of the workflow `extract`.

        Raises:
            ConfigError: the schema cannot be read or followed, or an unknown option.
            ModelError: the model or endpoint failed.
        """
        from readthrough.agents.reading.extracting import EXTRACT, WORKFLOW

        given = dict(schema) if isinstance(schema, Mapping) else str(schema)
        return self.ask(EXTRACT, workflow=WORKFLOW, schema=given, **options)

    def search(self, query: str, k: int = 10, within: Filter | None = None) -> list[Hit]:
        """The `k` chunks that fit `query` best, best first; only such as pass the filter `within`.

        Raises:
            UsageError: the query is empty, or `k` is not positive.
            InputError, ConfigError: nothing in these texts passes the filter; there is no such index.
        """
        if not query.strip():
            raise UsageError("the query is empty")
        if k < 1:
            raise UsageError(f"k = {k}: at least one hit must be asked for")
        with self._lock:
            self._shelf.require(within)
            return self._shelf.search(query, k, self._settings.index, within)

    def map(self, question: str = "", tokens: int = 1024) -> CodeMap:
        """The most important definitions of the source files here, for a question or as a whole, in `tokens` tokens.

        Raises:
            UsageError: `tokens` is not positive.
            InputError: there is no source code in a language that can be mapped.
        """
        with self._lock:
            return self._shelf.map(question, tokens)

    def as_retriever(self, k: int = 10) -> ReadthroughRetriever:
        """`search` as a LangChain retriever of `k` passages; it lives as long as the book is open."""
        from readthrough.langchain import ReadthroughRetriever

        return ReadthroughRetriever(book=self, k=k)

    def chunks(self, document_id: str) -> tuple[Chunk, ...]:
        """The passages of a document in order, by its id.

        Raises:
            KeyError: it is not one of these.
        """
        with self._lock:
            return self._shelf.chunks(document_id)

    @property
    def documents(self) -> tuple[Entry, ...]:
        """The documents that were read, without their texts."""
        return self._shelf.documents

    @property
    def whole_ids(self) -> dict[str, str]:
        """The SHA-256 of each file's content by its path, of one that is read up to a position too."""
        cut = self._shelf.cut
        wholes = {} if cut is None else {cut.end.document: cut.whole_id}
        return {entry.path: entry.id for entry in self.documents} | wholes

    def document(self, document_id: str) -> Document:
        """One document with its text, by its id.

        Raises:
            KeyError: it is not one of these.
        """
        return self._shelf.document(document_id)

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        """The files that were not read, and why."""
        return self._shelf.skipped

    @property
    def partial(self) -> bool:
        """Whether a document could not be read (files that are none, such as images in a folder, do not count)."""
        return any(file.failed for file in self.skipped)

    @property
    def text(self) -> str:
        """The whole text; several documents follow each other with an empty line between."""
        return "\n\n".join(self.document(entry.id).text for entry in self.documents)

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        characters = sum(entry.characters for entry in self.documents)
        return f"<Book: {len(self.documents)} documents, {characters:,} characters>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<li>{escape(item.path)} <small>{escape(item.kind)}, {item.characters:,} characters</small></li>"
            for item in self.documents
        )
        lost = "".join(f"<li>{escape(file.path)}: {escape(file.reason)}</li>" for file in self.skipped)
        return f"<div><ul>{rows}</ul>{f'<p>Skipped</p><ul>{lost}</ul>' if lost else ''}</div>"
