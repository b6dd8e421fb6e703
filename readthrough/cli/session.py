"""What `ask`, `search` and `index` share: settings from flags, and the texts to read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from readthrough.errors import ReadthroughError, UsageError
from readthrough.types import Limits

if TYPE_CHECKING:
    from readthrough.api import Book
    from readthrough.cli.flags import Bounded, Common
    from readthrough.cli.screen import Screen
    from readthrough.config import Overrides
    from readthrough.working import OnApproval

SETTINGS = ("model", "workflow", "index", "embedder", "home", "device", "dtype", "encoding", "ocr", "as_of", "database")


def overrides(flags: Common) -> Overrides:
    """The settings that were given as flags."""
    given: Overrides = {}
    for name in SETTINGS:
        given[name] = getattr(flags, name, None)  # type: ignore[literal-required]  # a test compares the names
    return given


def open_book(flags: Common, paths: Sequence[str], screen: Screen) -> Book:
    """Read the texts: `paths`, or standard input where there are none and something is piped in.

    Raises:
        UsageError: there is nothing to read.
    """
    from readthrough.api import read

    texts = list(paths)
    if not texts:
        if sys.stdin.isatty():
            raise UsageError("there is no text to read", hint="name files or folders, or pipe a text in")
        texts = ["-"]
    if texts.count("-") > 1:
        raise UsageError("standard input (-) is named twice")
    stdin = piped() if "-" in texts else None
    with screen.progress():
        book = read(*texts, stdin=stdin, on_event=screen.on_event, **overrides(flags))
    screen.skipped(book.skipped)
    return book


def piped() -> bytes | None:
    """What is piped in on standard input; None where that is a terminal."""
    return None if sys.stdin.isatty() else sys.stdin.buffer.read()


def limits(flags: Bounded) -> Limits:
    """The budgets and thresholds that were given as flags.

    Raises:
        UsageError: one is out of range.
    """
    return Limits(
        flags.max_seconds,
        flags.max_tokens,
        flags.max_calls,
        flags.approve_above_seconds,
        flags.approve_below,
        flags.max_cost,
        flags.abstain_below,
    )


def on_approval(screen: Screen) -> OnApproval | None:
    """Asks yes or no where somebody sits at a terminal; None where nobody does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def approve(asked: Mapping[str, Any]) -> bool:
        return screen.yes_or_no(f"{asked['message']} {'Go on' if 'seconds' in asked else 'Accept it'}?")

    return approve


@contextmanager
def resumable(book: Book, flags: Common, screen: Screen, runs: Sequence[str] = ()) -> Iterator[None]:
    """What is interrupted or fails inside says how to go on, where something was read already.

    Without `runs` the book's latest run is meant.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        first, *others = _begun(book, runs) or [""]
        for run in others:
            screen.say(f"`{resuming(run, flags)}` goes on with another question")
        if first:
            raise KeyboardInterrupt(f"; `{resuming(first, flags)}` goes on") from interrupt
        raise
    except ReadthroughError:
        for run in _begun(book, runs):
            screen.say(f"`{resuming(run, flags)}` goes on from there")
        raise


def _begun(book: Book, runs: Sequence[str]) -> list[str]:
    """The runs that have read something and have no answer yet."""
    unanswered = [run for run in runs if book.runs.has(run) and book.runs.answer(run) is None]
    return [run for run in (unanswered if runs else [book.run]) if run and book.runs.steps(run)]


def resuming(run: str, flags: Common) -> str:
    """The command that goes on with a run."""
    return again("runs", "resume", run, flags=flags)


def again(*words: str, flags: Common) -> str:
    """The command of these words, in the same home folder."""
    home = ("--home", str(flags.home)) if flags.home else ()
    return shlex.join(("readthrough", *words, *home))
