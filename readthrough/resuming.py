"""Runs that go on in another process: the same texts are read again, and the same model is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from readthrough.api import Book, read
from readthrough.config import Overrides, load_settings
from readthrough.errors import MissingPathError
from readthrough.opening import open_runs
from readthrough.types import Answer, Limits
from readthrough.working import OnApproval, OnEvent, OnText


def resume(
    run: str,
    on_text: OnText | None = None,
    limits: Limits | None = None,
    on_approval: OnApproval | None = None,
    **overrides: Unpack[Overrides],
) -> Answer:
    """Go on with a run that was killed, interrupted, or ended by a budget: reads the same texts, opens the same model.

    `overrides` are settings that win over those that the run was asked with; the rest is as for `Book.resume`.

    Raises:
        UsageError: no such run, or the workflow, the model or the texts are not what they were then.
        InputError: a text is not where it was.
    """
    with reopen(run, **overrides) as book:
        return book.resume(run, on_text, limits, on_approval)


def reopen(
    run: str, stdin: bytes | None = None, on_event: OnEvent | None = None, **overrides: Unpack[Overrides]
) -> Book:
    """The texts of a run, read as they were for it; `stdin` is what was piped in then.

    Raises:
        UsageError: no such run, or it cannot be known what it read or asked.
        InputError: a text is not where it was.
    """
    from readthrough.agents.runs.recipe import reopening

    runs = open_runs(load_settings({**overrides, "model": None}).settings)
    try:
        again = reopening(runs.find(run), overrides, stdin is not None)
    finally:
        runs.close()
    try:
        return read(*again.paths, stdin=stdin, on_event=on_event, **again.overrides)
    except MissingPathError as error:
        hint = f"the run was asked in {again.folder}" if again.folder != str(Path.cwd()) else error.hint
        raise MissingPathError(error.message, path=error.path, hint=hint) from error
