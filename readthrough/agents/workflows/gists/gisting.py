"""Gists: what is remembered of each page of a text. They are written once, and kept in the library."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from readthrough.agents.reading.passages import section_text
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.gists.paging import PAUSE, Pager
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Request
from readthrough.retrieval.facts import Extract, Fact, uncovered

GIST = Prompt(
    """Here is a page of a text.

{text}

List what a reader should remember of this page: names, numbers, places and what happens. Very short, in the language \
of the page, at most {words} words."""
)

_TOKENS_A_WORD = 1.6


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a document (its number on the shelf): its chunks, and what is remembered of it."""

    document: int
    chunks: list[int]
    gist: str


@dataclass(frozen=True, slots=True)
class Gister:
    """How pages are made and remembered.

    Attributes:
        pager: how a text is divided.
        gist_tokens: the most tokens of a gist. A page that has no more is its own gist.
    """

    pager: Pager
    gist_tokens: int

    def recipe(self, services: Services) -> str:
        """What must be the same for pages and gists to be the same: the model, the prompts and these options."""
        said = [GIST.format(text="", words=self._words), PAUSE.format(text=""), astuple(self)]
        embedder = services.shelf.embedder.name if self.pager.pause == "likeness" else ""
        return f"gists {services.model.identity} {embedder} {hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"

    @property
    def frame_tokens(self) -> int:
        """What stands around a page when its gist is asked for, leaning upwards."""
        return TEMPLATE_TOKENS + len(GIST) // 3

    def missing(self, services: Services) -> list[list[int]]:
        """The runs of chunks that are on no page yet, each of one document."""
        known = services.shelf.facts(self.recipe(services))
        entries = services.shelf.documents
        return [run for entry in entries for run in uncovered(services.shelf.chunks(entry.id), known[entry.id])]

    def pages(self, services: Services) -> list[Page]:
        """The pages that are kept, in reading order."""
        known = services.shelf.facts(self.recipe(services))
        missing = {chunk for run in self.missing(services) for chunk in run}
        found: list[Page] = []
        for number, entry in enumerate(services.shelf.documents):
            starts = [extract.start for extract in known[entry.id]]
            within: list[list[int]] = [[] for _ in starts]
            for chunk in services.shelf.chunks(entry.id):
                if chunk.id not in missing:
                    within[bisect_right(starts, chunk.start) - 1].append(chunk.id)
            for chunks, extract in zip(within, known[entry.id], strict=True):
                if chunks:
                    found.append(Page(number, chunks, extract.facts[0].text))
        return found

    def write(self, services: Services, pages: Sequence[Sequence[int]]) -> None:
        """Write the gists of some pages side by side, and keep them."""
        texts = [services.chunks(page) for page in pages]
        shown = [section_text(chunks) for chunks in texts]
        long = [size > self.gist_tokens for size in services.count_tokens(shown)]
        requests = [
            Request.user(GIST.format(text=text, words=self._words), max_tokens=self.gist_tokens)
            for text, is_long in zip(shown, long, strict=True)
            if is_long
        ]
        replies = iter(services.complete(requests))
        made: list[tuple[str, Extract]] = []
        for chunks, text, is_long in zip(texts, shown, long, strict=True):
            gist = written(next(replies))[0] or self._beginning(services, text) if is_long else text
            start, end = chunks[0].start, chunks[-1].end
            made.append((chunks[0].document, Extract(start, end, (Fact(gist, (), start, end),))))
        services.shelf.remember_facts(self.recipe(services), made)

    def _beginning(self, services: Services, text: str) -> str:
        """What stands for a gist where the model wrote none: the first sentence."""
        spans = sentence_spans(text)
        return text[: spans[0][1]] if spans else text

    @property
    def _words(self) -> int:
        return int(self.gist_tokens / _TOKENS_A_WORD)
