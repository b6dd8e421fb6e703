"""`readthrough ask`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.flags import Asking, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.questions import Asked, gather
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book
from readthrough.errors import UsageError

if TYPE_CHECKING:
    from readthrough.api import Book
    from readthrough.types import Answer


class Show(StrEnum):
    """What to print beside the answer."""

    evidence = "evidence"
    none = "none"


@dataclass(frozen=True, kw_only=True)
class AskFlags(Asking):
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
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False
    show: Annotated[Show, typer.Option(help="What to print beside the answer.")] = Show.evidence


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, AskFlags, "ask")(ask)


def ask(flags: AskFlags) -> int:
    """Answer questions about texts, with the places that the answers rest on."""
    if flags.stream and flags.json:
        raise UsageError("--stream and --json exclude each other")
    questions, paths = gather(flags.words or [], flags.more or [], flags.choice or [], flags.questions)
    screen = Screen(flags)
    partial = False
    with open_book(flags, paths, screen) as book:
        for question in questions:
            answer = _answer(book, question, flags, screen)
            partial = partial or answer.stopped is not None
            if flags.json:
                screen.json(answer.to_dict(), compact=len(questions) > 1)
            else:
                _print(answer, flags, screen, heading=question.text if len(questions) > 1 else None)
        partial = partial or book.partial
    return PARTIAL if partial else 0


def _answer(book: Book, question: Asked, flags: AskFlags, screen: Screen) -> Answer:
    options: dict[str, Any] = {} if flags.k is None else {"k": flags.k}
    on_text = screen.piece if flags.stream else None
    with screen.progress():
        return book.ask(question.text, question.choices, on_text=on_text, **options)


def _print(answer: Answer, flags: AskFlags, screen: Screen, heading: str | None) -> None:
    if heading is not None:
        screen.data(heading, style="dim")
    streamed = screen.take_streamed()
    if streamed:
        screen.data("")
    if streamed.strip() != answer.answer.strip():
        screen.data(answer.answer, style="bold")
    if flags.show is Show.evidence:
        screen.evidence(answer)
    if heading is not None:
        screen.data("")
    screen.account(answer)
