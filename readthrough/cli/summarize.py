"""`readthrough summarize`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from readthrough.cli.ask import answer_all
from readthrough.cli.flags import PATHS, Answering, Modelled, command
from readthrough.questions import Asked


class Form(StrEnum):
    """How a whole text becomes one summary."""

    hierarchical = "hierarchical"
    rolling = "rolling"


@dataclass(frozen=True, kw_only=True)
class SummarizeFlags(Modelled, Answering):
    """Flags of `summarize`."""

    paths: Annotated[list[str] | None, PATHS] = None
    words: Annotated[int | None, typer.Option(min=1, help="How long the summary is to be.", show_default="200")] = None
    form: Annotated[
        Form | None,
        typer.Option(
            help="Parts, then summaries of summaries; or one summary, written anew with every part.",
            show_default="hierarchical",
        ),
    ] = None
    focus: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the summary is to be about; everything where left out.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, SummarizeFlags, "summarize")(summarize)


def summarize(flags: SummarizeFlags) -> int:
    """Summarise texts, read whole, at a chosen length; every sentence with the place that it comes from."""
    from readthrough.agents.reading.summarizing import WORKFLOW, summary_question

    given: dict[str, Any] = {"workflow": WORKFLOW}
    if flags.words is not None:
        given["words"] = flags.words
    if flags.form is not None:
        given["form"] = flags.form.value
    return answer_all(flags, [Asked(summary_question(flags.focus))], flags.paths or [], given)
