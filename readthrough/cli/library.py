"""`readthrough library list|show|delete|size|prune|check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.flags import Common, command
from readthrough.cli.screen import Screen
from readthrough.cli.session import overrides
from readthrough.errors import UsageError
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.config import Settings
    from readthrough.memory.holdings import Holding
    from readthrough.memory.library import Library

LOGS = ("runs.sqlite*", "checkpoints.sqlite*", "conversations.sqlite*", "batch.sqlite*", "recall/**/*")
"""In the home folder: what was asked and answered. `runs prune` makes it smaller."""
DAY_SECONDS = 24 * 60 * 60
NAMES_HELP = "An id, the beginning of one, or a path."


@dataclass(frozen=True, kw_only=True)
class NameFlags(Common):
    """Flags of `library show`."""

    name: Annotated[str, typer.Argument(metavar="DOCUMENT", help=NAMES_HELP, show_default=False)]


@dataclass(frozen=True, kw_only=True)
class NamesFlags(Common):
    """Flags of `library delete`."""

    names: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help=NAMES_HELP, show_default=False)]


@dataclass(frozen=True, kw_only=True)
class PruneFlags(Common):
    """Flags of `library prune`."""

    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Take out what was used longest ago until this size: 5GB.")
    ] = None
    readings: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Delete the readings of local models used longest ago until this size: 0."),
    ] = None
    unused_days: Annotated[float | None, typer.Option(min=0, help="Take out what was not used for so long.")] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="The library on disk: what was read and indexed.", no_args_is_help=True)
    command(group, Common, "list")(list_all)
    command(group, NameFlags, "show")(show)
    command(group, NamesFlags, "delete")(delete)
    command(group, Common, "size")(size)
    command(group, PruneFlags, "prune")(prune)
    command(group, Common, "check")(check)
    app.add_typer(group, name="library")


def list_all(flags: Common) -> None:
    """List the documents in the library, last used first."""
    screen = Screen(flags)
    with _library(flags, screen) as library:
        _print(library.list(), flags, screen)


def show(flags: NameFlags) -> None:
    """Show what the library knows of one document."""
    screen = Screen(flags)
    with _library(flags, screen) as library:
        row = _row(library.show(flags.name))
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "document": row})
    else:
        screen.table([[name, "-" if value is None else str(value)] for name, value in row.items()])


def delete(flags: NamesFlags) -> None:
    """Take documents out of the library; the files themselves stay."""
    screen = Screen(flags)
    with _library(flags, screen) as library:
        gone = library.delete(flags.names)
        _print(gone, flags, screen)
        screen.say(f"{len(gone)} documents were taken out of the library; the files are untouched")


def size(flags: Common) -> None:
    """Print what the library takes on disk, and beside it the readings of local models and the logs."""
    from readthrough.models.local.stored import stored

    screen = Screen(flags)
    with _library(flags, screen) as library:
        total = library.size()
        documents = len(library.list())
    settings = _settings(flags)
    sizes = [reading.nbytes for reading in stored(settings.readings)]
    logs = sum(path.stat().st_size for pattern in LOGS for path in settings.home.glob(pattern) if path.is_file())
    if flags.json:
        beside = {"readings_bytes": sum(sizes), "readings": len(sizes), "logs_bytes": logs}
        screen.json({"schema": SCHEMA_VERSION, "bytes": total, "documents": documents, **beside})
    else:
        screen.data(f"{total / 1e6:,.1f} MB, {documents} documents")
        screen.data(f"{sum(sizes) / 1e6:,.1f} MB, {len(sizes)} readings: texts as local models have read them")
        screen.data(f"{logs / 1e6:,.1f} MB, the log of runs, conversations and batches")


def prune(flags: PruneFlags) -> None:
    """Take out what was not used for long, or until the library, or the readings, are small enough."""
    from readthrough.models.local.stored import prune, stored

    if flags.limit is None and flags.readings is None and flags.unused_days is None:
        raise UsageError("nothing to prune by", hint="--limit SIZE, --readings SIZE, --unused-days DAYS, or several")
    limit_bytes, readings_bytes = _size_of("--limit", flags.limit), _size_of("--readings", flags.readings)
    unused_seconds = None if flags.unused_days is None else flags.unused_days * DAY_SECONDS
    screen = Screen(flags)
    with _library(flags, screen) as library:
        gone = library.prune(limit_bytes, unused_seconds)
        _print(gone, flags, screen)
        screen.say(f"{len(gone)} documents were taken out; the library takes {library.size() / 1e6:,.1f} MB")
    root = _settings(flags).readings
    before = len(stored(root))
    if unused_seconds is not None:
        prune(root, 0, unused_seconds)
    if readings_bytes is not None:
        prune(root, readings_bytes)
    left = stored(root)
    taken = sum(reading.nbytes for reading in left)
    screen.say(f"{before - len(left)} readings were deleted; the others take {taken / 1e6:,.1f} MB")


def check(flags: Common) -> int:
    """Verify everything in the library; exit code 1 where something is wrong."""
    screen = Screen(flags)
    with _library(flags, screen) as library, screen.progress():
        problems = library.check()
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "problems": problems})
    else:
        for line in problems or ["the library is whole"]:
            screen.data(line)
    if problems:
        screen.say("what is damaged is made again when it is next asked for")
    return 1 if problems else 0


def _size_of(flag: str, text: str | None) -> int | None:
    from readthrough.config import parse_size_bytes

    try:
        return None if text is None else parse_size_bytes(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def _settings(flags: Common) -> Settings:
    from readthrough.config import load_settings

    return load_settings(overrides(flags)).settings


@contextmanager
def _library(flags: Common, screen: Screen) -> Iterator[Library]:
    from readthrough.opening import open_library

    library = open_library(_settings(flags), screen.on_event)
    try:
        yield library
    finally:
        library.close()


def _print(holdings: Sequence[Holding], flags: Common, screen: Screen) -> None:
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "documents": [_row(holding) for holding in holdings]})
        return
    rows = []
    for holding in holdings:
        used = datetime.fromtimestamp(holding.used).strftime("%Y-%m-%d %H:%M")
        rows.append([holding.id[:12], used, f"{holding.characters:,}", ", ".join(holding.paths) or "-"])
    screen.table(rows)


def _row(holding: Holding) -> dict[str, Any]:
    values = asdict(holding)
    del values["row"]
    return {**values, "paths": list(holding.paths)}
