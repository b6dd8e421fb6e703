"""Progress on standard error: a bar for each stage, with rate and time left, for anything over a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from readthrough.cli.guard import one_line
from readthrough.types import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 1.0


class ProgressView:
    """Shows events as bars; silent for the first second, and always where standard error is no terminal."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._silent = quiet or not console.is_terminal or console.is_dumb_terminal
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> ProgressView:
        if not self._silent:
            self._bars = _bars(self._console)
            self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        with self._lock:
            if self._bars is None:
                return
            if event.stage not in self._tasks:
                self._tasks[event.stage] = self._bars.add_task(event.stage, total=None, unit="")
            unit = one_line(f"{event.unit} {event.note}".strip())
            self._bars.update(self._tasks[event.stage], completed=event.done, total=event.total, unit=unit)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bars away while this lasts: what is printed on standard output would stand among them."""
        with self._lock:
            shown = self._bars if self._bars is not None and self._bars.live.is_started else None
            if shown is not None:
                shown.stop()
            try:
                yield
            finally:
                if shown is not None:
                    shown.start()

    def stop(self) -> None:
        """Take the bars away; later events are not shown."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    def _show(self) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.start()


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn
    from rich.text import Text

    class AmountColumn(ProgressColumn):
        """How much is done, of how much, how fast."""

        def render(self, task: Task) -> Text:
            return Text(amount(task.completed, task.total, task.finished_speed or task.speed, task.fields["unit"]))

    return Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(bar_width=24),
        AmountColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def amount(done: float, total: float | None, rate: float | None, unit: str) -> str:
    """`256 of 507 chunks, 51/s`; bytes are shown in megabytes."""
    if unit.startswith("bytes"):
        unit = unit.replace("bytes", "MB", 1)
        done, total, rate = done / 1e6, total and total / 1e6, rate and rate / 1e6
    whole = "" if total is None else f" of {total:,.0f}"
    pace = "" if rate is None else f", {rate:,.3g}/s" if rate < 100 else f", {rate:,.0f}/s"
    return f"{done:,.0f}{whole} {unit}{pace}"
