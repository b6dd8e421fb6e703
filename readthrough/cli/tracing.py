"""A trace for people: the texts that an answer was written from, the strongest first, and the check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from readthrough.cli.screen import Screen
from readthrough.types import place

if TYPE_CHECKING:
    from readthrough.agents.tracing.base import Cause, Trace, Written


def print_trace(trace: Trace, screen: Screen) -> None:
    """Print the causes of every part of an answer."""
    for part in trace.written:
        screen.data("")
        screen.data(part.text if len(trace.written) > 1 else "caused by", style="dim")
        _print_causes(part, screen)
    screen.say(f"traced by {trace.method} with {trace.model}: {trace.usage.calls} calls, {trace.usage.seconds:.1f} s")


def _print_causes(part: Written, screen: Screen) -> None:
    strongest = max((cause.score for cause in part.causes), default=0.0)
    for number, cause in enumerate(part.causes, 1):
        share = f"{cause.score / strongest:.2f} of the strongest" if strongest > 0 else "weak"
        screen.quote(number, *_told(cause, share))
        for span in cause.behind.spans() if cause.behind is not None else ():
            screen.data(f"      from “{' '.join(span.quote.split())}”")
            screen.data(f"           {place(span)}", style="dim")
    if part.check is not None:
        random = part.check.random_drop
        others = "" if random is None else f"; without as many others {-random:+.1f}"
        screen.say(f"log-probability without these {-part.check.drop:+.1f}{others}")


def _told(cause: Cause, share: str) -> tuple[str, str]:
    """What a cause says, and where it stands."""
    if cause.evidence is not None:
        return cause.evidence.quote, f"{place(cause.evidence)} ({share})"
    step = "" if cause.step is None else f" of step {cause.step}"
    return cause.note or "", f"a note{step} ({share})"
