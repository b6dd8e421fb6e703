"""The three layers that a probe searches: passages, the trees of summaries above them, and summaries of windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from readthrough.agents.base import Question
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.passages import as_data, in_reading_order, numbered, section_text, shown, within_budget
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import PLAIN, WINDOW, most_tokens, written
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.retrieval.embedding import embed_queries, embed_texts
from readthrough.retrieval.indexes.tree import TreeIndex
from readthrough.retrieval.trees.base import Tree

LAYERS = Prompt(
    """Read these passages.

{passages}

Summaries of longer parts of the text:

{summaries}"""
)

EPISODE_WORDS = 60
_FOUND_CHUNKS = 24
_SUMMARIES = 2
_LEAST_WINDOW = 2
_MOST_WINDOW = 20


@dataclass(frozen=True, slots=True)
class Found:
    """What one probe found.

    Attributes:
        chunks: passages that no probe has read before, in reading order.
        summaries: texts of the semantic and the episodic layer.
        gisted: the chunks that these summaries are of.
    """

    chunks: Sequence[int]
    summaries: Sequence[str]
    gisted: Sequence[int]

    def material(self, services: Services) -> str:
        """It as the beginning of a prompt."""
        chunks = services.chunks(self.chunks)
        summaries = "\n\n".join(as_data(text) for text in self.summaries) or "(none)"
        return LAYERS.format(passages=numbered(shown(chunks, services.shelf)), summaries=summaries)


@dataclass(frozen=True)
class Layers:
    """How the layers are searched.

    Attributes:
        index: the index of the passages.
        passage_tokens: the most tokens of passages that one probe finds.
        near: windows are summarised when a probe leads to them; else those that are told are searched.
        windows: the chunks of each window.
        trees: the trees of summaries, by document.
        told: the summaries of windows, by the window's number; what is told on the way is added.
    """

    index: str
    passage_tokens: int
    near: bool
    windows: Sequence[Sequence[int]]
    trees: Mapping[str, Tree]
    told: dict[int, str] = field(default_factory=dict)

    def search(self, services: Services, probes: Sequence[str], read: Sequence[int]) -> list[Found]:
        """What each probe finds, less the passages `read` before."""
        shelf, seen, passages = services.shelf, set(read), list[list[int]]()
        tokens = shelf.count_tokens(services.model)
        for probe in probes:
            found = find_chunks(shelf, Question(probe), self.index, _FOUND_CHUNKS)
            passages.append(within_budget((one for one in found if one not in seen), tokens, self.passage_tokens))
            seen.update(passages[-1])
        windows = self._near(services, passages) if self.near else self._nearest(services, probes)
        return [
            self._found(services, probe, chunks, near)
            for probe, chunks, near in zip(probes, passages, windows, strict=True)
        ]

    def tell(self, services: Services, numbers: Sequence[int]) -> None:
        """Summarise windows, those that are not yet, in one batch."""
        new = [number for number in dict.fromkeys(numbers) if number not in self.told]
        texts = [section_text(services.chunks(self.windows[number])) for number in new]
        prompts = [WINDOW.format(text=text, words=EPISODE_WORDS, how=PLAIN.format()) for text in texts]
        limit = most_tokens(EPISODE_WORDS)
        replies = services.complete([Request.user(prompt, max_tokens=limit) for prompt in prompts])
        self.told.update({number: written(reply)[0] for number, reply in zip(new, replies, strict=True)})

    def _near(self, services: Services, passages: Sequence[Sequence[int]]) -> list[list[int]]:
        """For each probe the window that holds its best passage; told where it is not."""
        place = {chunk: number for number, window in enumerate(self.windows) for chunk in window}
        near = [[place[chunks[0]]] if chunks else [] for chunks in passages]
        self.tell(services, [number for numbers in near for number in numbers])
        return near

    def _nearest(self, services: Services, probes: Sequence[str]) -> list[list[int]]:
        """For each probe the windows whose summaries are most like it, in reading order."""
        numbers = [number for number, text in self.told.items() if text]
        if not numbers:
            return [[] for _ in probes]
        embedder = services.shelf.embedder
        vectors = embed_texts(embedder, [self.told[number] for number in numbers])
        alike = embed_queries(embedder, probes) @ vectors.T
        best = np.argsort(-alike, axis=1, kind="stable")[:, :_SUMMARIES]
        return [sorted(numbers[place] for place in row) for row in best.tolist()]

    def _found(self, services: Services, probe: str, passages: Sequence[int], near: Sequence[int]) -> Found:
        shelf = services.shelf
        texts, gisted = list[str](), list[int]()
        above = TreeIndex(shelf, self.trees).summaries(probe, _SUMMARIES) if self.trees else []
        for document, number, _ in above:
            tree, ids = self.trees[document], shelf.chunk_ids(document)
            texts.append(tree.node(number).summary.text)
            gisted += [ids[position] for position in tree.below[number - tree.leaves].tolist()]
        for number in near:
            texts.append(self.told[number])
            gisted += self.windows[number]
        chunks = in_reading_order(shelf.get(passages), shelf.document_ids())
        return Found([chunk.id for chunk in chunks], [text for text in texts if text], gisted)


def plan_windows(services: Services) -> list[list[int]]:
    """The windows of the episodic layer: longer ones where a text has more chunks, 2 to 20 of them, of one document."""
    plan: list[list[int]] = []
    room = services.model.window_tokens // 2
    tokens = services.shelf.count_tokens(services.model)
    for document in services.shelf.document_ids():
        ids = services.shelf.chunk_ids(document)
        size = min(_MOST_WINDOW, max(_LEAST_WINDOW, round(math.log2(len(ids) or 1))))
        longest = max((tokens[chunk] for chunk in ids), default=1)
        size = max(1, min(size, room // max(1, longest)))
        plan += [list(ids[start : start + size]) for start in range(0, len(ids), size)]
    return plan


def keep_told(services: Services, told: Mapping[int, str], before: str | None) -> str | None:
    """Put new summaries of windows behind those that `before` names: what is kept does not grow."""
    known = kept_told(services, before)
    new = {number: text for number, text in told.items() if number not in known}
    return services.link(before, told=list(new.items())) if new else before


def kept_told(services: Services, last: str | None) -> dict[int, str]:
    """The summaries of windows that were kept, by the window's number."""
    return {number: text for link in services.links(last) for number, text in link["told"]}
