"""What lies open in a model's context: fragments of a text, opened, folded and summarised, and how they are shown.

Every fragment is shown as the same text wherever it stands, and a prompt begins with the first of them, as the prompt
does by which a fragment is weighed alone. So a local model reads a fragment once where it stands first, or behind what
stood before it already; and with a plan that joins texts (`{join: {blend: ...}}`) wherever it stands: the KV of one
that is folded is left out, and that of one that is opened again is put back without another prefill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from readthrough.agents.base import Question
from readthrough.agents.reading.passages import as_data, shown
from readthrough.agents.reading.summarizing import WINDOW, Note, Part, how
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Request
from readthrough.retrieval.indexes.bm25 import holding
from readthrough.retrieval.indexes.hops import bridges
from readthrough.retrieval.rerankers.likelihood import raised
from readthrough.types import Chunk, Event

_WORDS_A_TOKEN = 0.5


@dataclass
class Desk:
    """The state of a context. Fragments are named by their numbers.

    Attributes:
        open: the fragments that are open, in the order in which they were opened.
        summaries: those in whose place a summary stands.
        found: what searches found, each once, best first within a search.
        weights: how much the fragments that were weighed raise the question.
        terms: what can be searched for next, with how much the sentence that names it raises the question; None for
            what the question names itself. What was searched for is in `searched`.
        seen: every fragment that was ever open.
        stated: the probability that the context states the answer, None where it changed since that was looked at.
    """

    open: list[int] = field(default_factory=list)
    summaries: dict[int, Note] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)
    weights: dict[int, float] = field(default_factory=dict)
    terms: dict[str, float | None] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    stated: float | None = None

    @property
    def folded(self) -> list[int]:
        """The fragments that were found and are neither open nor summarised."""
        return [number for number in self.found if number not in self.open and number not in self.summaries]

    def show(self, number: int) -> None:
        """Open a fragment, in place of its summary where it has one."""
        self.summaries.pop(number, None)
        self.open.append(number)
        if number not in self.seen:
            self.seen.append(number)
        self.stated = None

    def hide(self, number: int, summary: Note | None = None) -> None:
        """Fold a fragment, or its summary; or put a summary in its place."""
        if number in self.open:
            self.open.remove(number)
        self.summaries.pop(number, None)
        if summary is not None:
            self.summaries[number] = summary
        self.stated = None

    def keep(self, services: Services) -> str:
        """Put the desk into the run log; returns the hash that goes into a graph's state."""
        return services.put_json(asdict(self))

    @classmethod
    def kept(cls, services: Services, digest: str) -> Desk:
        """The desk that `keep` returned `digest` for, a copy of its own."""
        values: dict[str, Any] = dict(services.get_json(digest))
        lists = {name: list(value) for name, value in values.items() if isinstance(value, list)}
        summaries = {int(number): Note(**note) for number, note in values["summaries"].items()}
        weights = {int(number): weight for number, weight in values["weights"].items()}
        terms = dict(values["terms"])
        return cls(**{**values, **lists, "terms": terms, "summaries": summaries, "weights": weights})


@dataclass(frozen=True)
class Table:
    """A desk with what its fragments are of, and what can be done to it.

    Attributes:
        services: what calls the model and reads the texts.
        desk: what lies on it; it is changed.
        fragments: the chunk ids of each fragment.
        question: the question.
        room_tokens: the most tokens of the context.
        weighs: whether what to do next is decided by weights.
        in_order: whether the context stands in the order of the text, not of opening.
    """

    services: Services
    desk: Desk
    fragments: Sequence[Sequence[int]]
    question: Question
    room_tokens: int
    weighs: bool = True
    in_order: bool = False

    @property
    def tokens(self) -> Mapping[int, int]:
        """The tokens of each chunk."""
        return self.services.shelf.count_tokens(self.services.model)

    def size(self, number: int) -> int:
        """The tokens of a fragment."""
        return sum(self.tokens[chunk] for chunk in self.fragments[number])

    def left_tokens(self) -> int:
        """How many more tokens there is room for."""
        summaries = self.services.model.count_tokens([note.text for note in self.desk.summaries.values()])
        return self.room_tokens - sum(map(self.size, self.desk.open)) - sum(summaries)

    def chunks(self, numbers: Sequence[int]) -> list[Chunk]:
        """The chunks of some fragments."""
        return self.services.shelf.get([chunk for number in numbers for chunk in self.fragments[number]])

    def text(self, number: int) -> str:
        """A fragment as it stands in a prompt."""
        return as_data("\n".join(shown(self.chunks([number]), self.services.shelf)))

    def texts(self) -> list[str]:
        """What stands in the context, summaries behind the fragments."""
        numbers = sorted(self.desk.open) if self.in_order else self.desk.open
        return [*map(self.text, numbers), *(as_data(note.text) for _, note in sorted(self.desk.summaries.items()))]

    def material(self) -> str:
        """The context as one text."""
        return "\n\n".join(self.texts())

    def reader(self) -> Services:
        """The services for calls whose prompts hold the context."""
        return self.services.reusing(self.texts())

    def weigh(self) -> None:
        """Weigh what was found or is open and was not weighed yet, in one batch."""
        known = dict.fromkeys((*self.desk.open, *self.desk.found))
        new = [number for number in known if number not in self.desk.weights]
        if not new:
            return
        texts = [self.text(number) for number in new]
        self.desk.weights.update(zip(new, raised(self.services, self.question.with_choices, texts), strict=True))
        self.services.emit(Event("weigh", len(self.desk.weights), None, "fragments"))

    def open(self, number: int) -> None:
        """Open a fragment; the run log notes that it is read."""
        self.services.chunks(self.fragments[number])
        self.desk.show(number)

    def summarize(self, number: int, most_tokens: int) -> None:
        """Put a summary in place of a fragment, of what helps with the question; one that says nothing folds it."""
        part = Part.read(self.chunks([number]))
        words = max(1, int(most_tokens * _WORDS_A_TOKEN))
        content = WINDOW.format(text=self.text(number), words=words, how=how(self.question.with_choices))
        completion = self.services.complete([Request.user(content, max_tokens=most_tokens)])[0]
        note = part.note(self.services, self.question.text, completion)
        self.desk.hide(number, note if note.text else None)

    def search(self, term: str, index: str, most: int) -> None:
        """Find the fragments that hold a term word for word, `most` at most: those that fit the question go first."""
        shelf, places = self.services.shelf, self.places()
        holders = dict.fromkeys(holding(shelf, term, shelf.chunk_array()).tolist())
        hits = shelf.search(f"{self.question.with_choices} {term}", 4 * most, index)
        ranked = [hit.chunk.id for hit in hits if hit.chunk.id in holders]
        found = dict.fromkeys(places[chunk] for chunk in [*ranked, *holders])
        new = [number for number in found if number not in self.desk.found][:most]
        self.desk.found += new
        del self.desk.terms[term]
        self.desk.searched.append(term)
        self.services.decide(f"searched for {term!r}", chunks=len(holders), fragments=len(new))

    def lead_on(self, number: int, most: int) -> None:
        """Names in a fragment that the question does not hold and other passages do can be searched for: the rarest.

        Each is weighed by the first sentence that names it.
        """
        desk, shelf = self.desk, self.services.shelf
        led = bridges(shelf, self.question.with_choices, self.fragments[number], shelf.chunk_array())
        rarest = sorted(led, key=lambda bridge: (len(bridge.holders), bridge.name))
        names = dict.fromkeys(bridge.name for bridge in rarest)
        new = [name for name in names if name not in desk.terms and name not in desk.searched][:most]
        weights = [0.0] * len(new)
        if self.weighs:
            text = self.text(number)
            said = [text[start:end] for start, end in sentence_spans(text)]
            naming = [next((each for each in said if name in each.casefold()), text) for name in new]
            weights = raised(self.services, self.question.with_choices, naming)
        desk.terms.update(zip(new, weights, strict=True))

    def places(self) -> dict[int, int]:
        """The fragment of each chunk."""
        return {chunk: number for number, chunks in enumerate(self.fragments) for chunk in chunks}
