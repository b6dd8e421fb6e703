"""`readthrough ask`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.flags import Answering, Asking, Common, Show, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.questions import gather
from readthrough.cli.screen import Screen
from readthrough.cli.session import limits, on_approval, open_book, resumable, resuming
from readthrough.errors import UsageError
from readthrough.questions import Asked
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
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
    partial = False
    with open_book(flags, paths, screen) as book:
        for question in questions:
            several = len(questions) > 1
            if flags.dry_run:
                _print_cost(_estimate(book, question, options, screen), question, book, screen, several)
                continue
            answer = _answer(book, question, options, flags, screen)
            partial = partial or answer.stopped is not None
            print_answer(answer, flags, screen, several)
        partial = partial or book.partial
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


def print_answer(answer: Answer, flags: Common, screen: Screen, several: bool = False) -> None:
    """Print an answer; `several`: it is one of many, on one line or under its question."""
    if flags.json:
        screen.json(answer.to_dict(), compact=several)
    else:
        print_text(answer, flags, screen, heading=answer.question if several else None)
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
