"""`readthrough map`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from readthrough.cli.flags import PATHS, READING, Common, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book
from readthrough.types import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class MapFlags(Common):
    """Flags of `map`."""

    index: ClassVar[str] = "bm25"
    """A map needs no vectors, and those of a large repository take long."""

    paths: Annotated[list[str] | None, PATHS] = None
    question: Annotated[
        str, typer.Option("--for", metavar="TEXT", help="A question, or words, that the map is to serve.")
    ] = ""
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens the map may take.")] = 1024
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of text files, where guessing fails.", rich_help_panel=READING)
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, MapFlags, "map")(draw)


def draw(flags: MapFlags) -> int:
    """Show the most important definitions of source code, as a whole or for a question."""
    screen = Screen(flags)
    with open_book(flags, flags.paths or [], screen) as book:
        with screen.progress():
            made = book.map(flags.question, flags.tokens)
        if flags.json:
            screen.json({"schema": SCHEMA_VERSION, **made.to_dict()})
        else:
            for line in made.text.splitlines():
                screen.data(line)
        if not made.files:
            screen.say(f"not one definition fits into {flags.tokens} tokens")
        return PARTIAL if book.partial else 0
