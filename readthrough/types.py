"""The values that flow through readthrough: documents, chunks, hits, answers.

All are frozen. Offsets count characters (Unicode code points) of `Document.text`, never bytes; every
`start` is included and every `end` is not, so `document.text[x.start:x.end]` is always the text of x.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from html import escape
from typing import Any

from readthrough.asof import AsOf
from readthrough.errors import UsageError

SCHEMA_VERSION = 1

CACHED_RATIO = 0.1
"""What looking up and attending to a token whose KV is kept takes, against reading it."""

BESIDE_RATIO = 0.14
"""What writing a token beside others takes, eight replies in one batch, against writing it alone."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a paginated document: its number as a reader counts it (from 1) and its span."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its heading path from the outermost heading in, and its span up to the next heading."""

    path: tuple[str, ...]
    start: int
    end: int

    @property
    def title(self) -> str:
        """The heading path as one line: `Part I > Chapter 3`."""
        return " > ".join(self.path)


@dataclass(frozen=True)
class Document:
    """One loaded file: a single text with the places in it.

    Attributes:
        id: SHA-256 of the source bytes, in hex.
        path: the path as the user would open it (`-` for standard input).
        text: the whole normalised text (newlines are "\n", a byte-order mark is gone, nothing else changed).
        kind: the name of the loader that read it (`text`, `pdf`, `epub`, ...).
        pages: page spans in order, empty where the format has none.
        sections: section spans in order of their start, empty where there are none.
        encoding: the encoding the bytes were read with, where that is a question.
        language: the programming language of a source file, as tree-sitter names it.
    """

    id: str
    path: str
    text: str
    kind: str
    pages: tuple[Page, ...] = ()
    sections: tuple[Section, ...] = ()
    encoding: str | None = None
    language: str | None = None

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        position = self.text.find("\n")
        while position != -1:
            starts.append(position + 1)
            position = self.text.find("\n", position + 1)
        return starts

    def line_at(self, offset: int) -> int:
        """The line (from 1) that holds the character at `offset`."""
        return bisect_right(self._line_starts, offset)

    def span_of_lines(self, first: int, last: int) -> tuple[int, int]:
        """The span of the lines `first` to `last` (from 1); empty where the text ends before."""
        starts = [*self._line_starts, len(self.text)]
        return starts[min(first, len(starts)) - 1], starts[min(last + 1, len(starts)) - 1]

    def page_at(self, offset: int) -> int | None:
        """The number of the page that holds `offset`, or None where the document has no pages."""
        index = bisect_right(self.pages, offset, key=lambda page: page.start) - 1
        return self.pages[index].number if index >= 0 else None

    def section_at(self, offset: int) -> str | None:
        """The heading path of the innermost section that holds `offset`, or None."""
        index = bisect_right(self.sections, offset, key=lambda section: section.start) - 1
        return self.sections[index].title if index >= 0 and offset < self.sections[index].end else None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not read, and why. `failed`: it is a document, and could not be read.

    Otherwise it was passed over, as empty and binary files in a folder are. Not part of the JSON form.
    """

    path: str
    reason: str
    failed: bool = True

    def to_dict(self) -> dict[str, str]:
        """Path and reason, as every surface prints them."""
        return {"path": self.path, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one document. `id` is the chunk's row in the library (-1 before it has one)."""

    id: int
    document: str
    index: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found, best first. Scores of different indexes are not comparable."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. `cost` is money, None where no price is known."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost, other.cost) if c is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
            self.seconds + other.seconds,
            sum(costs) if costs else None,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run may take, and where it asks before it goes on; None for no limit.

    Attributes:
        seconds: of wall time.
        tokens: of prompts and replies together.
        calls: of the model.
        cost: money, for models whose prices are known.
        approve_above_seconds: work that is expected to take longer is approved before it starts.
        approve_below: an answer of a lower confidence (0 to 1) is approved before it is accepted.
        abstain_below: an answer of a lower confidence (0 to 1) is refused.
    """

    seconds: float | None = None
    tokens: int | None = None
    calls: int | None = None
    approve_above_seconds: float | None = None
    approve_below: float | None = None
    cost: float | None = None
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "tokens", "calls", "cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"max_{name} = {value}: a budget must be positive")
        if self.approve_above_seconds is not None and self.approve_above_seconds < 0:
            raise UsageError(f"approve_above_seconds = {self.approve_above_seconds}: it must not be negative")
        for name in ("approve_below", "abstain_below"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} = {value}: a confidence is from 0 to 1")

    @property
    def asks(self) -> bool:
        """Whether something may have to be approved."""
        return self.approve_above_seconds is not None or self.approve_below is not None


@dataclass(frozen=True, slots=True)
class Cost:
    """What some work takes, or is expected to take.

    `cached_tokens` are those of the prompts that a model which keeps KV need not read again; `beside_tokens` those of
    the replies that are written beside another, in one batch; `money` is None where no price is known.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached_tokens: int = 0
    beside_tokens: int = 0
    money: float | None = None

    @property
    def tokens(self) -> int:
        """Prompts and replies together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
            self.cached_tokens + other.cached_tokens,
            self.beside_tokens + other.beside_tokens,
            None if self.money is None and other.money is None else (self.money or 0.0) + (other.money or 0.0),
        )

    def __sub__(self, other: Cost) -> Cost:
        taken: dict[str, Any] = {name: None if part is None else -part for name, part in asdict(other).items()}
        return self + Cost(**taken)

    @property
    def read_tokens(self) -> float:
        """The tokens of the prompts by the work they are: one whose KV is kept counts a tenth."""
        return self.prompt_tokens - (1 - CACHED_RATIO) * self.cached_tokens

    @property
    def written_tokens(self) -> float:
        """The tokens of the replies by the work they are: one that is written beside another counts a seventh."""
        return self.completion_tokens - (1 - BESIDE_RATIO) * self.beside_tokens


@dataclass(frozen=True, slots=True)
class Coverage:
    """The ledger of the source's tokens: each is in exactly one state and the states sum to `tokens`.

    read: read by the model in the document's order; retrieved: found by an index and read in full;
    compressed: read, with part of its KV evicted or quantised, or with tokens left out of the prompt;
    gisted: only a summary of it was read; skipped: looked at and passed over (a gate, a score); unread: not looked at.
    """

    tokens: int = 0
    read: int = 0
    retrieved: int = 0
    compressed: int = 0
    gisted: int = 0
    skipped: int = 0
    unread: int = 0

    def __post_init__(self) -> None:
        parts = self.read + self.retrieved + self.compressed + self.gisted + self.skipped + self.unread
        if parts != self.tokens:
            raise ValueError(f"coverage states sum to {parts} tokens, the source has {self.tokens}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote that stands for parts of the answer: always cut from the source, never generated.

    `supports` are the numbers, from 0, of the answer's sentences; where the answer is JSON (the workflow `extract`) of
    its leaf fields, in the order in which they stand in it.
    """

    document: str
    start: int
    end: int
    quote: str
    page: int | None = None
    line: int | None = None
    section: str | None = None
    supports: tuple[int, ...] = ()
    verified: bool = False

    @classmethod
    def cut(cls, document: Document, start: int, end: int, supports: Sequence[int] = ()) -> Evidence:
        """The span `[start, end)` of `document` as evidence; the only way to make a verified one."""
        if not 0 <= start < end <= len(document.text):
            raise ValueError(f"span {start}:{end} is outside {document.path} (0:{len(document.text)})")
        return cls(
            document=document.path,
            start=start,
            end=end,
            quote=document.text[start:end],
            page=document.page_at(start),
            line=document.line_at(start),
            section=document.section_at(start),
            supports=tuple(supports),
            verified=True,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What every surface returns. See `to_dict` for the JSON form."""

    question: str
    answer: str
    choices: tuple[str, ...] | None = None
    abstained: bool = False
    confidence: float | None = None
    stopped: str | None = None
    evidence: tuple[Evidence, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    skipped_files: tuple[SkippedFile, ...] = ()
    usage: Usage = field(default_factory=Usage)
    workflow: str = ""
    model: str = ""
    plan: str = "dense"
    run: str = ""
    as_of: AsOf | None = None

    @property
    def resumable(self) -> bool:
        """Whether a budget or an open approval ended the run, so that it can go on."""
        return can_go_on(self.stopped)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-ready values, in the documented order of keys."""
        values = {"schema": SCHEMA_VERSION, **asdict(self)}
        order = ["schema", "question", "choices", "answer", "abstained", "confidence", "stopped", "evidence"]
        order += ["coverage", "skipped_files", "usage", "workflow", "model", "plan", "run", "as_of"]
        values["choices"] = list(self.choices) if self.choices is not None else None
        values["evidence"] = [{**asdict(item), "supports": list(item.supports)} for item in self.evidence]
        values["skipped_files"] = [item.to_dict() for item in self.skipped_files]
        return {key: values[key] for key in order}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """The answer whose `to_dict` gave `values`."""
        given = {key: value for key, value in values.items() if key != "schema"}
        given["choices"] = None if given["choices"] is None else tuple(given["choices"])
        given["evidence"] = tuple(
            Evidence(**{**item, "supports": tuple(item["supports"])}) for item in given["evidence"]
        )
        given["coverage"] = Coverage(**given["coverage"])
        given["skipped_files"] = tuple(SkippedFile(**item) for item in given["skipped_files"])
        given["usage"] = Usage(**given["usage"])
        given["as_of"] = AsOf(**given["as_of"]) if given.get("as_of") else None
        return cls(**given)

    def __str__(self) -> str:
        return self.answer

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<li><q>{escape(item.quote)}</q> <small>{escape(place(item))}</small></li>" for item in self.evidence
        )
        confidence = "" if self.confidence is None else f" <small>(confidence {self.confidence:.2f})</small>"
        return f"<div><p><b>{escape(self.answer)}</b>{confidence}</p><ol>{rows}</ol></div>"


def can_go_on(stopped: str | None) -> bool:
    """Whether a run that ended so (`Answer.stopped`) can go on; one whose reply was cut, or refused, cannot."""
    return stopped is not None and stopped.startswith(("max_", "approve_"))


def place(item: Evidence) -> str:
    """Where a quote stands, for people: `book.epub, page 12, line 410, Chapter 3`."""
    parts = [item.document]
    if item.page is not None:
        parts.append(f"page {item.page}")
    if item.line is not None:
        parts.append(f"line {item.line}")
    if item.section:
        parts.append(item.section)
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Event:
    """A sign of progress: `done` of `total` `unit`s of a `stage` (load, embed, index, read, answer, ...)."""

    stage: str
    done: float
    total: float | None = None
    unit: str = ""
    note: str = ""
