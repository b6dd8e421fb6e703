"""`readthrough ask`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.flags import Answering, Asking, Common, Show, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.questions import gather
from readthrough.cli.screen import Screen
from readthrough.cli.session import limits, on_approval, open_book, resumable, resuming
from readthrough.cli.tracing import print_trace
from readthrough.errors import ReadthroughError, UsageError
from readthrough.questions import Asked
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.agents.tracing.base import Trace
    from readthrough.api import Book
    from readthrough.types import Answer, Cost


@dataclass(frozen=True, kw_only=True)
class AskFlags(Asking, Answering):
    """Flags of `ask`."""

    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION PATH...",
            help="The question, then files, folders, or - for standard input. With --questions: only paths.",
            show_default=False,
        ),
    ] = None
    more: Annotated[list[str] | None, typer.Option("-q", help="One more question. Repeatable.")] = None
    choice: Annotated[list[str] | None, typer.Option(help="An option to choose from. Repeatable.")] = None
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Questions from a file: lines, or JSON.")] = (
        None
    )
    k: Annotated[int | None, typer.Option("--k", min=1, help="How many chunks the workflow retrieves.")] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, AskFlags, "ask")(ask)


def ask(flags: AskFlags) -> int:
    """Answer questions about texts, with the places that the answers rest on."""
    questions, paths = gather(flags.words or [], flags.more or [], flags.choice or [], flags.questions)
    return answer_all(flags, questions, paths, {} if flags.k is None else {"k": flags.k})


def answer_all(flags: Answering, questions: Sequence[Asked], paths: Sequence[str], given: dict[str, Any]) -> int:
    """Answer questions about the texts at `paths` and print the answers, or say what they would take.

    `given` are arguments of `Book.ask` that the command's own flags stand for. Returns the exit code.
    """
    if flags.stream and flags.json:
        raise UsageError("--stream and --json exclude each other")
    options = {**workflow_options(flags.option or []), **given}
    limits(flags)  # what is out of range is said before anything is read
    screen = Screen(flags)
    several = len(questions) > 1
    answers: list[Answer] = []
    with open_book(flags, paths, screen) as book:
        if flags.dry_run:
            for question in questions:
                _print_cost(_estimate(book, question, options, screen), question, book, screen, several)
        elif several and not flags.stream:
            answers = _answer_together(book, questions, options, flags, screen)
        else:
            for question in questions:
                answers.append(_answer(book, question, options, flags, screen))
                print_answer(answers[-1], flags, screen, several, _traced(book, answers[-1], flags, screen))
        partial = book.partial or any(answer.stopped is not None for answer in answers)
    return PARTIAL if partial else 0


def workflow_options(given: Sequence[str]) -> dict[str, Any]:
    """Options of the workflow from `name=value` words; a value is JSON, or else a plain text.

    Raises:
        UsageError: a word has no name or no `=`.
    """
    options: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"-o {word}: expected NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _answer(book: Book, question: Asked, options: dict[str, Any], flags: Answering, screen: Screen) -> Answer:
    on_text = screen.piece if flags.stream else None
    with resumable(book, flags, screen), screen.progress():
        return book.ask(
            question.text,
            question.choices,
            on_text=on_text,
            limits=limits(flags),
            on_approval=on_approval(screen),
            **options,
        )


def _answer_together(
    book: Book, questions: Sequence[Asked], options: dict[str, Any], flags: Answering, screen: Screen
) -> list[Answer]:
    """The answers of all questions over one read; those that are there are printed, whatever becomes of the others."""
    from readthrough.memory.runs import new_run

    runs = [new_run() for _ in questions]

    def show(answer: Answer) -> None:
        with screen.paused():
            print_answer(answer, flags, screen, several=True)

    printing = _InOrder(show, wait=flags.trace)  # a trace asks the model again, which answers the others first
    try:
        with resumable(book, flags, screen, runs), screen.progress():
            answers = book.ask_all(
                questions,
                limits=limits(flags),
                on_answer=printing.hear,
                on_approval=on_approval(screen),
                runs=runs,
                **options,
            )
    except BaseException:
        printing.rest()
        raise
    if flags.trace:
        for answer in answers:
            print_answer(answer, flags, screen, True, _traced(book, answer, flags, screen))
    return answers


class _InOrder:
    """Prints answers in the order of the questions, each as soon as those before it are there."""

    def __init__(self, show: Callable[[Answer], None], wait: bool) -> None:
        """`wait`: none is shown before `rest`."""
        self._show = show
        self._wait = wait
        self._waiting: dict[int, Answer] = {}
        self._next = 0

    def hear(self, number: int, answer: Answer) -> None:
        """Take the answer to a question."""
        self._waiting[number] = answer
        while not self._wait and self._next in self._waiting:
            self._next += 1
            self._show(self._waiting.pop(self._next - 1))

    def rest(self) -> None:
        """Show what is there, though some before it are not."""
        for number in sorted(self._waiting):
            self._show(self._waiting.pop(number))


def _estimate(book: Book, question: Asked, options: dict[str, Any], screen: Screen) -> Cost:
    with screen.progress():
        return book.estimate(question.text, question.choices, **options)


def _print_cost(cost: Cost, question: Asked, book: Book, screen: Screen, several: bool) -> None:
    if screen.as_json:
        row = {"schema": SCHEMA_VERSION, "question": question.text, "model": book.model.name}
        screen.json({**row, **asdict(cost), "tokens": cost.tokens}, compact=several)
        return
    if several:
        screen.data(question.text, style="dim")
    screen.data(
        f"about {cost.seconds:,.0f} s: {cost.calls:,} calls of {book.model.name}, "
        f"{cost.prompt_tokens:,} tokens read, {cost.completion_tokens:,} written"
    )


def _traced(book: Book, answer: Answer, flags: Answering, screen: Screen) -> Trace | None:
    """The trace of an answer, where it is asked for and there is one; the answer is printed in any case."""
    if not flags.trace or answer.abstained:
        return None
    try:
        with screen.progress():
            return book.trace(answer)
    except ReadthroughError as error:
        screen.warn(f"not traced: {error}")
        return None


def print_answer(
    answer: Answer, flags: Common, screen: Screen, several: bool = False, trace: Trace | None = None
) -> None:
    """Print an answer, with its trace where there is one; `several`: it is one of many, on one line or under its
    question."""
    if flags.json:
        traced = {} if trace is None else {"trace": trace.to_dict()}
        screen.json({**answer.to_dict(), **traced}, compact=several)
    else:
        print_text(answer, flags, screen, heading=answer.question if several else None)
        if trace is not None:
            print_trace(trace, screen)
    if answer.resumable:
        screen.say(f"`{resuming(answer.run, flags)}` goes on from there")


def print_text(answer: Answer, flags: Common, screen: Screen, heading: str | None = None) -> None:
    """Print an answer for people, its evidence below; what of it was streamed already is not printed again."""
    if heading is not None:
        screen.data(heading, style="dim")
    streamed = screen.take_streamed()
    if streamed:
        screen.data("")
    if streamed.strip() != answer.answer.strip():
        screen.data(answer.answer, style="bold")
    if getattr(flags, "show", Show.evidence) is Show.evidence:
        screen.evidence(answer)
    if heading is not None:
        screen.data("")
    screen.account(answer)
