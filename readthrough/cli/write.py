"""`readthrough write`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from readthrough.cli.ask import answer_all
from readthrough.cli.flags import PATHS, Answering, Modelled, command
from readthrough.questions import Asked


class Form(StrEnum):
    """What is written."""

    REPORT = "report"
    GLOSSARY = "glossary"
    INDEX = "index"


@dataclass(frozen=True, kw_only=True)
class WriteFlags(Modelled, Answering):
    """Flags of `write`."""

    paths: Annotated[list[str] | None, PATHS] = None
    form: Annotated[Form, typer.Option(help="What is to be written.")] = Form.REPORT
    about: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the report is to be about; everything where left out.")
    ] = None
    sections: Annotated[
        int | None, typer.Option(min=1, help="How many sections the report is to have.", show_default="6")
    ] = None
    terms: Annotated[
        int | None, typer.Option(min=1, help="How many terms a glossary or an index has.", show_default="24")
    ] = None
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write files into a folder, after each step.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite files that are in the folder.")] = False


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, WriteFlags, "write")(write)


def write(flags: WriteFlags) -> int:
    """Write a long report, a glossary or an index of texts, step by step; each sentence with the place it is from."""
    from readthrough.agents.reading.writing import WORKFLOW, writing_question

    given: dict[str, Any] = {"workflow": WORKFLOW, "form": flags.form.value, "overwrite": flags.overwrite}
    for name in ("sections", "terms"):
        if getattr(flags, name) is not None:
            given[name] = getattr(flags, name)
    if flags.into is not None:
        given["into"] = str(flags.into)
    return answer_all(flags, [Asked(writing_question(flags.form.value, flags.about))], flags.paths or [], given)
