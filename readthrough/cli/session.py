"""What `ask`, `search` and `index` share: settings from flags, and the texts to read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from readthrough.errors import UsageError

if TYPE_CHECKING:
    from readthrough.api import Book
    from readthrough.cli.flags import Common
    from readthrough.cli.screen import Screen
    from readthrough.config import Overrides

SETTINGS = ("model", "workflow", "index", "home", "device", "dtype", "encoding")


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
    stdin = sys.stdin.buffer.read() if "-" in texts else None
    with screen.progress():
        book = read(*texts, stdin=stdin, on_event=screen.on_event, **overrides(flags))
    screen.skipped(book.skipped)
    return book
