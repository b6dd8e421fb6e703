"""`readthrough search`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from readthrough.cli.flags import PATHS, Texts, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book
from readthrough.errors import UsageError
from readthrough.filters import Filter
from readthrough.types import SCHEMA_VERSION, Document, Evidence, Hit, place


@dataclass(frozen=True, kw_only=True)
class SearchFlags(Texts):
    """Flags of `search`."""

    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)]
    paths: Annotated[list[str] | None, PATHS] = None
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits.")] = 10
    within: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="PATH", help="Only in this document, folder or pattern. Repeatable."),
    ] = None
    section: Annotated[str | None, typer.Option(help="Only in sections with these words in their headings.")] = None
    pages: Annotated[str | None, typer.Option(metavar="FIRST-LAST", help="Only on these pages.")] = None
    lines: Annotated[str | None, typer.Option(metavar="FIRST-LAST", help="Only on these lines.")] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, SearchFlags, "search")(search)


def search(flags: SearchFlags) -> int:
    """Find the passages of texts that fit a query best."""
    screen = Screen(flags)
    within = _filter(flags)
    with open_book(flags, flags.paths or [], screen) as book:
        with screen.progress():
            hits = book.search(flags.query, flags.k, within)
        found = [(hit, _cut(book.document(hit.chunk.document), hit)) for hit in hits]
        if flags.json:
            screen.json({"schema": SCHEMA_VERSION, "hits": [_row(hit, item) for hit, item in found]})
        for number, (hit, item) in enumerate([] if flags.json else found, 1):
            screen.quote(number, item.quote, f"{place(item)}; score {hit.score:.4g}")
        if not found:
            screen.say("nothing found")
        return PARTIAL if book.partial else 0


def _filter(flags: SearchFlags) -> Filter | None:
    documents = tuple(flags.within) if flags.within else None
    pages, lines = (_range(name, getattr(flags, name)) for name in ("pages", "lines"))
    wanted = Filter(documents, flags.section, pages, lines)
    return None if wanted == Filter() else wanted


def _range(name: str, text: str | None) -> tuple[int, int] | None:
    """`3` or `3-9` as the first and the last."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (first.strip().isdecimal() and (last.strip().isdecimal() if dash else True)):
        raise UsageError(f"--{name} {text!r}: not a number or a range such as 3-9")
    return int(first), int(last if dash else first)


def _cut(document: Document, hit: Hit) -> Evidence:
    return Evidence.cut(document, hit.chunk.start, hit.chunk.end)


def _row(hit: Hit, item: Evidence) -> dict[str, Any]:
    values = asdict(item)
    row = {key: values[key] for key in ("document", "start", "end", "quote", "page", "line", "section")}
    return {**row, "score": hit.score}
