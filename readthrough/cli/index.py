"""`readthrough index`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from readthrough.cli.flags import PATHS, Texts, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book
from readthrough.types import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class IndexFlags(Texts):
    """Flags of `index`."""

    paths: Annotated[list[str] | None, PATHS] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, IndexFlags, "index")(index)


def index(flags: IndexFlags) -> int:
    """Read texts into the library, so that questions about them start at once."""
    screen = Screen(flags)
    with open_book(flags, flags.paths or [], screen) as book:
        rows = [asdict(entry) for entry in book.documents]
        if flags.json:
            skipped = [file.to_dict() for file in book.skipped]
            screen.json({"schema": SCHEMA_VERSION, "documents": rows, "skipped_files": skipped})
        else:
            screen.table([[str(row["id"])[:12], f"{row['characters']:,}", str(row["path"])] for row in rows])
            screen.say(f"{len(rows)} documents are in the library")
        return PARTIAL if book.partial else 0
