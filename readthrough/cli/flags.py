"""The flags of every command as dataclasses, and the decorator that makes a command of a function of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from readthrough.catalogue import names
from readthrough.cli.guard import guarded

GENERAL = "General"
READING = "Reading and models"
RUNS = "Budgets and approvals"

PATHS = typer.Argument(metavar="PATH...", help="Files, folders, or - for standard input.", show_default=False)


def complete(known: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Shell completion over the names that `known` returns."""

    def completions(incomplete: str) -> list[str]:
        return [name for name in known() if name.startswith(incomplete)]

    return completions


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    home: Annotated[Path | None, typer.Option(help="Folder of the library.", rich_help_panel=GENERAL)] = None
    json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=GENERAL)] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing on standard error but errors.", rich_help_panel=GENERAL)
    ] = False
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say more; -vv shows tracebacks.", rich_help_panel=GENERAL),
    ] = 0
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.", rich_help_panel=GENERAL)] = False


@dataclass(frozen=True, kw_only=True)
class Texts(Common):
    """Flags of commands that read files."""

    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of text files, where guessing fails.", rich_help_panel=READING),
    ] = None
    ocr: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGES",
            help="Recognise pages of PDFs that have no text, in these languages: eng, eng+deu, ...",
            rich_help_panel=READING,
        ),
    ] = None
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="POSITION",
            help="Read nothing after it: 'chapter 12', 'p. 120', 40%; of several files 'FILE: chapter 12'.",
            rich_help_panel=READING,
        ),
    ] = None
    index: Annotated[
        str | None,
        typer.Option(
            help="Index: hybrid, hybrid-weighted, hops (questions that need several passages), vectors, bm25, ...",
            autocompletion=complete(partial(names, "indexes")),
            rich_help_panel=READING,
        ),
    ] = None

    embedder: Annotated[
        str | None,
        typer.Option(
            help="Embedder: a name, a folder, a hub id, late-interaction:MODEL or openai:MODEL@URL.",
            rich_help_panel=READING,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Opening(Common):
    """Flags of commands that open a model."""

    model: Annotated[
        str | None,
        typer.Option(help="Model: a name, a folder, a hub id, or openai:MODEL@URL.", rich_help_panel=READING),
    ] = None
    device: Annotated[
        str | None, typer.Option(help="Device of a local model: auto, cpu, cuda, mps.", rich_help_panel=READING)
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="Number type: auto, float32, bfloat16, float16.", rich_help_panel=READING),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Modelled(Opening, Texts):
    """Flags of commands that read files and open a model."""


@dataclass(frozen=True, kw_only=True)
class Asking(Modelled):
    """Flags of commands that ask a model, in a way to choose."""

    workflow: Annotated[
        str | None,
        typer.Option(
            help="Workflow that answers: a name, or a YAML file.",
            autocompletion=complete(partial(names, "workflows")),
            rich_help_panel=READING,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Limited(Common):
    """Flags of commands whose work has bounds."""

    max_seconds: Annotated[
        float | None, typer.Option(help="End after so many seconds, with the best answer so far.", rich_help_panel=RUNS)
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="End after so many tokens, read and written.", rich_help_panel=RUNS)
    ] = None
    max_calls: Annotated[
        int | None, typer.Option(help="End after so many calls of the model.", rich_help_panel=RUNS)
    ] = None
    max_cost: Annotated[
        float | None,
        typer.Option(help="End after so much money, for a model whose prices are known.", rich_help_panel=RUNS),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Bounded(Limited):
    """Flags of commands whose work has bounds, and may have to be approved."""

    approve_above_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Ask before work that is expected to take longer.", rich_help_panel=RUNS),
    ] = None
    approve_below: Annotated[
        float | None,
        typer.Option(
            metavar="CONFIDENCE", help="Ask before an answer of lower confidence is accepted.", rich_help_panel=RUNS
        ),
    ] = None
    abstain_below: Annotated[
        float | None,
        typer.Option(metavar="CONFIDENCE", help="Refuse an answer of lower confidence.", rich_help_panel=RUNS),
    ] = None


class Show(StrEnum):
    """What to print beside the answer."""

    evidence = "evidence"
    none = "none"


@dataclass(frozen=True, kw_only=True)
class Printing(Bounded):
    """Flags of commands that print answers of a workflow."""

    option: Annotated[
        list[str] | None, typer.Option("-o", metavar="NAME=VALUE", help="An option of the workflow. Repeatable.")
    ] = None
    show: Annotated[Show, typer.Option(help="What to print beside the answer.")] = Show.evidence


@dataclass(frozen=True, kw_only=True)
class Answering(Printing):
    """Flags of commands that answer."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and answer nothing.")] = False
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False
    trace: Annotated[bool, typer.Option("--trace", help="Say which texts caused the answer.")] = False


Flags = TypeVar("Flags", bound=Common)


def command(
    app: typer.Typer, flags: type[Flags], name: str
) -> Callable[[Callable[[Flags], int | None]], Callable[[Flags], int | None]]:
    """Register a function of `flags` as the command `name`: each field of the dataclass becomes a flag.

    The function returns its exit code (None for 0); errors become one line, or JSON, and their exit code.
    """

    def register(run: Callable[[Flags], int | None]) -> Callable[[Flags], int | None]:
        def call(**values: Any) -> None:
            raise typer.Exit(guarded(run, flags(**values)))

        call.__doc__ = run.__doc__
        call.__signature__ = _signature(flags)  # type: ignore[attr-defined]
        app.command(name)(call)
        return run

    return register


def _signature(flags: type[Common]) -> inspect.Signature:
    """A function's signature with a parameter for each field, a command's own before the inherited ones."""
    hints = get_type_hints(flags, include_extras=True)
    own = inspect.get_annotations(flags)
    ordered = sorted(fields(flags), key=lambda field: field.name not in own)
    return inspect.Signature(
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if _required(field) else _default(field),
                annotation=hints[field.name],
            )
            for field in ordered
        ]
    )


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is MISSING else field.default
