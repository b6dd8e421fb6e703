"""`readthrough search`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from readthrough.cli.flags import PATHS, Texts, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book
from readthrough.types import SCHEMA_VERSION, Document, Evidence, Hit, place


@dataclass(frozen=True, kw_only=True)
class SearchFlags(Texts):
    """Flags of `search`."""

    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)]
    paths: Annotated[list[str] | None, PATHS] = None
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits.")] = 10


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, SearchFlags, "search")(search)


def search(flags: SearchFlags) -> int:
    """Find the passages of texts that fit a query best."""
    screen = Screen(flags)
    with open_book(flags, flags.paths or [], screen) as book:
        with screen.progress():
            hits = book.search(flags.query, flags.k)
        found = [(hit, _cut(book.document(hit.chunk.document), hit)) for hit in hits]
        if flags.json:
            screen.json({"schema": SCHEMA_VERSION, "hits": [_row(hit, item) for hit, item in found]})
        for number, (hit, item) in enumerate([] if flags.json else found, 1):
            screen.quote(number, item.quote, f"{place(item)}; score {hit.score:.4g}")
        if not found:
            screen.say("nothing found")
        return PARTIAL if book.partial else 0


def _cut(document: Document, hit: Hit) -> Evidence:
    return Evidence.cut(document, hit.chunk.start, hit.chunk.end)


def _row(hit: Hit, item: Evidence) -> dict[str, Any]:
    values = asdict(item)
    row = {key: values[key] for key in ("document", "start", "end", "quote", "page", "line", "section")}
    return {**row, "score": hit.score}
