"""Pages of a text: runs of its chunks, each ended where it is natural to pause.

A small model that is asked for a pause names the first mark whatever stands there; what it names without a text is
taken off. How little what follows is like what comes before finds pauses as well, and asks no model (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.types import Chunk

PAUSE = Prompt(
    """{text}

The text above has marks such as <2> in it. At which mark is it most natural to pause reading: where a scene, a \
dialogue or a subject ends? Reply with its number."""
)

Pause = Literal["likeness", "choice"]

_ELIDED = "..."
_LEAST = 1e-4
# Of what is divided to be asked about side by side, each part has so many pages or more.
_STRETCH_PAGES = 4


@dataclass(frozen=True, slots=True)
class Pager:
    """How a text is divided into pages.

    Attributes:
        pause: pages end where what follows is least like what comes before (`likeness` of vectors), or where the
            model finds it most natural to pause (`choice`). A new section is a pause in any case.
        least_tokens: the tokens that come before a pause at least.
        most_tokens: the most tokens of a page; one chunk is a page however long it is.
    """

    pause: Pause
    least_tokens: int
    most_tokens: int

    def first_pages(self, services: Services, runs: Sequence[Sequence[int]], most: int) -> list[list[int]]:
        """The first pages of some runs of chunks, each of one document, `most` at most.

        What is not in them is a run again, whose pages come out as they would have now.
        """
        if self.pause == "choice":
            stretches = self._stretches(services, runs, most)[:most]
            return [run[:length] for run, length in zip(stretches, self._chosen(services, stretches), strict=True)]
        pages: list[list[int]] = []
        for run in runs:
            left = list(run)
            while left and len(pages) < most:
                length = self._least_alike(services, left)
                pages.append(left[:length])
                left = left[length:]
        return pages

    def _lengths(self, services: Services, run: Sequence[int]) -> list[int]:
        """After how many chunks the first page of a run may end: one length where there is nothing to decide."""
        tokens = services.shelf.count_tokens(services.model)
        sizes: list[int] = []
        total = 0
        for chunk in run:
            total += tokens[chunk]
            if total > self.most_tokens and sizes:
                break
            sizes.append(total)
        if len(sizes) == len(run):
            return [len(run)]
        lengths = [length for length, size in enumerate(sizes, 1) if size >= self.least_tokens] or [len(sizes)]
        chunks = services.shelf.get(run[: lengths[-1] + 1])
        document = services.shelf.document(chunks[0].document)
        headed = [document.section_at(chunk.start) for chunk in chunks]
        begins = [length for length in lengths if headed[length] != headed[length - 1]]
        return begins[-1:] or lengths

    def _least_alike(self, services: Services, run: Sequence[int]) -> int:
        lengths = self._lengths(services, run)
        if len(lengths) == 1:
            return lengths[0]
        vectors = services.shelf.vectors(run[: lengths[-1] + 1])
        return min(lengths, key=lambda length: float(vectors[length - 1] @ vectors[length]))

    def _chosen(self, services: Services, runs: Sequence[Sequence[int]]) -> list[int]:
        """The length of the first page of each run, as the model chooses it; all are asked about together."""
        possible = [self._lengths(services, run) for run in runs]
        unsure = [place for place, lengths in enumerate(possible) if len(lengths) > 1]
        texts = [_marked(services.chunks(runs[place][: possible[place][-1] + 1]), possible[place]) for place in unsure]
        counts = [len(possible[place]) for place in unsure]
        if "logits" in services.model.capabilities:  # what is named without a text is taken off
            for count in sorted(set(counts)):
                texts.append("\n\n".join(part for mark in range(1, count + 1) for part in (_ELIDED, f"<{mark}>")))
                counts.append(count)
        requests = [Request.user(PAUSE.format(text=text), prefill="<") for text in texts]
        choices = services.choose(requests, [[f"{mark}>" for mark in range(1, count + 1)] for count in counts])
        logs = [[math.log(max(share, _LEAST)) for share in choice.probabilities] for choice in choices]
        before = dict(zip(counts[len(unsure) :], logs[len(unsure) :], strict=True))
        found = [lengths[-1] for lengths in possible]
        for place, scores in zip(unsure, logs, strict=False):
            prior = before.get(len(scores), [0.0] * len(scores))
            best = max(range(len(scores)), key=lambda mark: scores[mark] - prior[mark])
            found[place] = possible[place][best]
        return found

    def _stretches(self, services: Services, runs: Sequence[Sequence[int]], wanted: int) -> list[list[int]]:
        """The runs, the longest of them halved while there are fewer than `wanted` and it has pages enough."""
        tokens = services.shelf.count_tokens(services.model)
        found = [list(run) for run in runs]
        while found and len(found) < wanted:
            sizes = [sum(tokens[chunk] for chunk in run) for run in found]
            at = max(range(len(found)), key=sizes.__getitem__)
            middle = len(found[at]) // 2
            if sizes[at] < 2 * _STRETCH_PAGES * self.most_tokens or not middle:
                break
            found[at : at + 1] = [found[at][:middle], found[at][middle:]]
        return found


def _marked(chunks: Sequence[Chunk], lengths: Sequence[int]) -> str:
    """The chunks of a page with a mark after each length that it may have, and the chunk behind it."""
    marks = {length: f"<{mark}>" for mark, length in enumerate(lengths, 1)}
    parts: list[str] = []
    for place, chunk in enumerate(chunks, 1):
        parts.append(as_data(unwrap(chunk.text)))
        parts += [marks[place]] if place in marks else []
    return "\n\n".join(parts)
