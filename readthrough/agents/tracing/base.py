"""What a trace says: which texts caused an answer, and what taking them away does to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import Any, Literal

from readthrough.types import SCHEMA_VERSION, Evidence, Usage

Method = Literal["auto", "attention", "search"]


@dataclass(frozen=True, slots=True)
class Check:
    """What the answer's log-probability is without its causes: the sum over its tokens, in nats.

    Attributes:
        logprob: of the answer after its whole prompt.
        without: the same where its causes are taken out of the prompt.
        at_random: the same where as many other spans are taken out, the mean of some draws; None where there are none.
    """

    logprob: float
    without: float
    at_random: float | None

    @property
    def drop(self) -> float:
        """How much less likely the answer is without its causes."""
        return self.logprob - self.without

    @property
    def random_drop(self) -> float | None:
        """How much less likely it is without as many other spans."""
        return None if self.at_random is None else self.logprob - self.at_random


@dataclass(frozen=True, slots=True)
class Cause:
    """A span of the text, or a sentence of a note, that an answer (or a note) was written from.

    Attributes:
        score: how much it counts; only scores of one `Written` compare.
        evidence: the span; None for a note.
        note: the sentence of a note.
        step: the step of the run that the note's sentence first stands in; None where no step read what it says.
        behind: what the note's sentence was written from; None where that was not traced.
    """

    score: float
    evidence: Evidence | None = None
    note: str | None = None
    step: int | None = None
    behind: Written | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, and its causes, the strongest first."""

    text: str
    causes: tuple[Cause, ...]
    check: Check | None = None

    def spans(self) -> Iterator[Evidence]:
        """The spans of the text behind the causes: the strongest of each cause, then the next of each note."""
        found = [[cause.evidence] if cause.evidence else list(_behind(cause)) for cause in self.causes]
        yield from (span for span in chain.from_iterable(zip_longest(*found)) if span is not None)


def _behind(cause: Cause) -> Iterator[Evidence]:
    return cause.behind.spans() if cause.behind is not None else iter(())


@dataclass(frozen=True, slots=True)
class Trace:
    """Which texts caused the answer of a run.

    Attributes:
        run: the run's id.
        question: what it was asked.
        answer: what it answered.
        method: how the causes were found.
        model: the model that looked.
        written: the parts of the answer that the model wrote at once: one, but for summaries in parts.
        usage: what the trace took.
    """

    run: str
    question: str
    answer: str
    method: str
    model: str
    written: tuple[Written, ...]
    usage: Usage = field(default_factory=Usage)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The spans of the text that caused the answer, each once, the strongest first."""
        found = chain.from_iterable(part.spans() for part in self.written)
        return tuple({(span.document, span.start, span.end): span for span in found}.values())

    def to_dict(self) -> dict[str, Any]:
        """The trace as JSON-ready values."""
        return {"schema": SCHEMA_VERSION, **asdict(self)}
