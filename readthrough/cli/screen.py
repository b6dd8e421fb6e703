"""What commands print: answers and data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from readthrough.cli.guard import one_line
from readthrough.types import Answer, Coverage, Event, SkippedFile, place

if TYPE_CHECKING:
    from readthrough.cli.flags import Common
    from readthrough.cli.progress import ProgressView

MAX_WIDTH = 100
MAX_SKIPPED = 10

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """The two output streams of one command, under its flags."""

    def __init__(self, flags: Common) -> None:
        from readthrough.cli.console import Console

        self._flags = flags
        self.as_json = flags.json
        if isinstance(sys.stdout, TextIOWrapper):
            # Lone surrogates stand in file names and broken texts; written as \udcXX they are also right in JSON.
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        self._out = Console(stderr=False, no_color=flags.no_color)
        self._err = Console(stderr=True, no_color=flags.no_color)
        self._view: ProgressView | None = None
        self._streamed: list[str] = []

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show on standard error, while this lasts, the events that `on_event` gets."""
        from readthrough.cli.progress import ProgressView

        with ProgressView(self._err, self._flags.quiet) as self._view:
            yield
        self._view = None

    def paused(self) -> AbstractContextManager[None]:
        """While this lasts no progress is shown, so that a result can be printed."""
        return nullcontext() if self._view is None else self._view.paused()

    def on_event(self, event: Event) -> None:
        """Hand an event to the progress that is shown now, if any; say a warning or another question in any case."""
        if event.stage == "warning":
            self.warn(f"warning: {event.note}")
        elif event.stage == "asked as":
            self.say(f"asked as: {event.note}")
        elif event.stage == "written":
            self.say(f"{event.done:,.0f} {event.unit} in {event.note}")
        elif self._view is not None:
            self._view(event)

    def json(self, value: dict[str, Any], *, compact: bool = False) -> None:
        """Print a JSON object on standard output, on one line where `compact`."""
        indent = None if compact else 2
        print(json.dumps(value, ensure_ascii=False, indent=indent), flush=True)  # noqa: T201

    def data(self, line: str, style: str = "") -> None:
        """Print a line of the result on standard output."""
        self._out.print(printable(line), style=style)

    def piece(self, text: str) -> None:
        """Print a piece of streamed text on standard output, at once."""
        if self._view is not None:
            self._view.stop()  # the two would write over each other on a terminal
        self._streamed.append(text)
        sys.stdout.write(printable(text))
        sys.stdout.flush()

    def take_streamed(self) -> str:
        """What `piece` printed since this was last asked."""
        text = "".join(self._streamed)
        self._streamed.clear()
        return text

    def say(self, line: str, *, verbose: int = 0) -> None:
        """Tell something on standard error, unless --quiet; `verbose` is how many -v it takes."""
        if not self._flags.quiet and self._flags.verbose >= verbose:
            self._err.print(printable(line), style="dim")

    def warn(self, line: str) -> None:
        """Tell on standard error what must be known, with --quiet too."""
        self._err.print(one_line(line), style="yellow")

    def yes_or_no(self, question: str) -> bool:
        """Ask somebody at the terminal.

        Raises:
            KeyboardInterrupt: they left.
        """
        if self._view is not None:
            self._view.stop()
        while True:
            self._err.print(printable(f"{question} [y/n] "), end="")
            reply = sys.stdin.readline()
            if not reply:
                raise KeyboardInterrupt
            if reply.strip().lower() in ("y", "yes", "n", "no"):
                return reply.strip().lower().startswith("y")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows on standard output in columns, the first of them as wide as it must be."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self.data("  ".join(cells).rstrip())

    def evidence(self, answer: Answer) -> None:
        """Print the quotes an answer stands on, and where each is."""
        for number, item in enumerate(answer.evidence, 1):
            self.data("")
            self.quote(number, item.quote, place(item))

    def quote(self, number: int, text: str, where: str) -> None:
        """Print one numbered quote and its place."""
        width = max(20, min(self._out.width, MAX_WIDTH) - 4)
        label = f"{number:>2}. "
        words = " ".join(text.split())
        for line in textwrap.wrap(f"“{words}”", width, initial_indent=label, subsequent_indent="    "):
            self.data(line)
        self.data(f"    {where}", style="dim")

    def skipped(self, files: Sequence[SkippedFile]) -> None:
        """Name the documents that could not be read, with --quiet too; with -v all that was skipped."""
        failed = [file for file in files if file.failed]
        named = files if self._flags.verbose else failed[:MAX_SKIPPED]
        for file in named:
            self._err.print(one_line(f"skipped {file.path}: {file.reason}"), style="yellow")
        if not self._flags.verbose and len(failed) > len(named):
            self._err.print(f"skipped {len(failed) - len(named)} more; -v names them", style="yellow")
        if not self._flags.verbose and len(files) > len(failed):
            self.say(f"passed over {len(files) - len(failed)} empty, binary or linked files; -v names them")

    def account(self, answer: Answer) -> None:
        """Say what an answer rests on and what it cost."""
        parts = [coverage_line(answer.coverage)]
        if answer.confidence is not None:
            parts.append(f"confidence {answer.confidence:.2f}")
        parts.append(f"{answer.usage.seconds:.1f} s")
        self.say("; ".join(parts))
        if answer.as_of is not None:
            self.say(f"as of {answer.as_of}")
        if answer.stopped:
            self.say(f"stopped early: {answer.stopped}")
        usage = answer.usage
        self.say(
            f"{answer.workflow} with {answer.model} ({answer.plan}): {usage.calls} calls, "
            f"{usage.prompt_tokens:,} tokens read ({usage.cached_tokens:,} of them cached), "
            f"{usage.completion_tokens:,} written; run {answer.run}",
            verbose=1,
        )


def coverage_line(coverage: Coverage) -> str:
    """The ledger as a sentence: `read 3,120 of 61,000 tokens; gisted 400; not looked at 57,480`."""
    parts = [f"read {coverage.read + coverage.retrieved:,} of {coverage.tokens:,} tokens"]
    others = {
        "compressed": coverage.compressed,
        "gisted": coverage.gisted,
        "passed over": coverage.skipped,
        "not looked at": coverage.unread,
    }
    parts += [f"{name} {tokens:,}" for name, tokens in others.items() if tokens]
    return "; ".join(parts)


def printable(text: str) -> str:
    """`text` without characters that could drive a terminal (a document may hold escape sequences)."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
