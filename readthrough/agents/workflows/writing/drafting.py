"""A report: its plan, and one section from the passages that are found for it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import passages_material
from readthrough.agents.reading.concluding import to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.passages import as_data, in_reading_order, unwrap, within_budget
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.reading.writing import Said, Section, subject, without_references
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Request
from readthrough.types import Chunk

PLAN = Prompt(
    """{overview}

These sentences stand in a long text, in this order. The task: {task}
Write the titles of the {sections} sections of what is to be written, one a line. Write the titles and nothing else:"""
)

WRITE = Prompt(
    """{passages}

The task: {task}
Sections that are written already: {before}
What the last of them says: {summary}

Write the section “{title}” in your own words from what the passages above say, in {paragraphs} paragraphs of whole \
sentences. Name the people and things; write no headings and no lists.
{progress}"""
)

GO_ON = Prompt("The section begins as follows; write how it goes on: {progress}")

SENTENCE_ABOUT = "{text}\n\nWrite a sentence about this text."
SENTENCE_ALONE = "Write a sentence."

NOTHING_YET = "(none)"

_MARK = re.compile(r"^\W*(?:(?:section|chapter|part)\s+)?(?:\d+|[IVX]+\b)?[\W_]*", re.IGNORECASE)
_ENDINGS = tuple('.!?…。！？"”»)')
_TITLE_CHARACTERS = 100
_SHOWN_CHARACTERS = 160
_TITLE_TOKENS = 16
_FOUND = 24


def plan_titles(services: Services, question: Question, overview: str, sections: int) -> list[str]:
    """The titles that the model plans, each once, at most `sections`; the subject alone where it plans none."""
    prompt = PLAN.format(overview=overview, task=question.with_choices, sections=sections)
    reply = services.complete([Request.user(prompt, max_tokens=sections * _TITLE_TOKENS)])[0]
    lines = reply.text.strip().splitlines()
    if reply.finish == "length" and len(lines) > 1:
        lines = lines[:-1]  # cut in its middle
    titles = [_MARK.sub("", line).strip(' *_#"“”:.')[:_TITLE_CHARACTERS] for line in lines]
    once: dict[str, str] = {}
    for title in filter(None, titles):
        once.setdefault(title.casefold(), title)
    return list(once.values())[:sections] or [subject(question.text) or "The text"]


def overview_of(services: Services, question: Question, index: str, room_tokens: int) -> tuple[str, list[int]]:
    """The first sentences of chunks, as many as fit, and the ids of these: spread evenly over the text, or found."""
    shelf = services.shelf
    ids = shelf.chunk_ids()
    if subject(question.text):
        found = shelf.get(find_chunks(shelf, question, index, _FOUND))
        ids = [chunk.id for chunk in in_reading_order(found, shelf.document_ids())]
    every = max(1, -(-len(ids) * _SHOWN_CHARACTERS // (4 * room_tokens)))
    shown = ids[::every]
    lines = [_first(chunk) for chunk in shelf.get(shown)]
    counts = services.model.count_tokens(lines)
    while len(lines) > 1 and sum(counts) > room_tokens:
        lines, counts, shown = lines[::2], counts[::2], shown[::2]
    return "\n".join(lines), shown


def _first(chunk: Chunk) -> str:
    """The first sentence of a chunk, on one line, cut where it is long."""
    start, end = next(iter(sentence_spans(chunk.text)), (0, len(chunk.text)))
    return as_data(unwrap(chunk.text[start:end])[:_SHOWN_CHARACTERS])


@dataclass(frozen=True, slots=True)
class Drafting:
    """How sections are written.

    Attributes:
        index: the index that finds passages.
        passage_tokens: the most tokens of them.
        section_tokens: the most tokens of one reply.
        paragraphs: how many paragraphs are asked for.
        least_gain: a sentence that the passages do not make likelier by so many nats a token is left out; None keeps
            all.
    """

    index: str
    passage_tokens: int
    section_tokens: int
    paragraphs: int
    least_gain: float | None

    def find(self, services: Services, task: str, title: str, used: Collection[int]) -> list[int]:
        """The chunks that a section is written from, in reading order: those that no other was written from first."""
        shelf = services.shelf
        found = find_chunks(shelf, Question(f"{title}. {subject(task)}".strip()), self.index, _FOUND)
        fresh = [chunk for chunk in found if chunk not in used]
        ids = within_budget([*fresh, *found], shelf.count_tokens(services.model), self.passage_tokens) or found[:1]
        return [chunk.id for chunk in in_reading_order(shelf.get(ids), shelf.document_ids())]

    def prompt(self, passages: str, task: str, before: Sequence[Section], summary: str, begun: Section) -> str:
        """What asks for a section, or for how the one that is `begun` goes on."""
        return WRITE.format(
            passages=passages,
            task=task,
            before="; ".join(as_data(section.title) for section in before) or NOTHING_YET,
            summary=as_data(summary) or NOTHING_YET,
            title=begun.title,
            paragraphs=self.paragraphs,
            progress=GO_ON.format(progress=as_data(begun.text)) if begun.paragraphs else "",
        ).strip()

    def write(
        self, services: Services, task: str, before: Sequence[Section], summary: str, begun: Section
    ) -> tuple[Section, bool]:
        """The section with what one reply adds to it, and whether that reply was cut at its limit.

        Left out are sentences that stand in an earlier section or this one, and those that the passages do not raise.
        """
        if not begun.chunks:
            return begun, False
        chunks = services.chunks(begun.chunks)
        passages = passages_material(services, chunks)
        request = Request.user(self.prompt(passages, task, before, summary, begun), max_tokens=self.section_tokens)
        text, cut = written(services.complete([request])[0])
        services.note_said(request, text)
        said = {each.text for section in (*before, begun) for each in section.sentences}
        paragraphs = []
        for paragraph in _without_headings(without_references(text), begun.title).split("\n\n"):
            plain = unwrap(paragraph)
            new = [plain[start:end] for start, end in sentence_spans(plain) if plain[start:end] not in said]
            said.update(new)
            paragraphs.append(new)
        pairs = [(passages, each) for paragraph in paragraphs for each in paragraph]
        kept = iter(self.supported(services, pairs))
        supported = [[each for each in paragraph if next(kept)] for paragraph in paragraphs]
        added = [pointed(services, begun.title, each, chunks) for each in supported if each]
        return Section(begun.title, [*begun.paragraphs, *added], begun.chunks), cut and bool(added)

    def supported(self, services: Services, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether passages make the sentence beside them likelier; all are kept where a model gives no logits."""
        least = self.least_gain
        if not pairs or least is None or "logits" not in services.model.capabilities:
            return [True] * len(pairs)
        about = [Request.user(SENTENCE_ABOUT.format(text=passages)) for passages, _ in pairs]
        said = [sentence for _, sentence in pairs]
        scores = services.likelihood([*about, *[Request.user(SENTENCE_ALONE)] * len(said)], [*said, *said])
        gains = [with_text.mean - without.mean for with_text, without in zip(scores, scores[len(said) :], strict=False)]
        for gain in gains:
            services.decide("do the passages say this sentence?", gain=gain, least=least)
        return [gain >= least for gain in gains]


def _without_headings(text: str, title: str) -> str:
    """A text without its headings: marked ones, and lines that begin with the section's title and end no sentence."""
    kept = []
    for line in text.splitlines():
        plain = line.strip(" *:")
        titled = plain.casefold().startswith(title.casefold()) and not plain.endswith(_ENDINGS)
        if not line.startswith("#") and not titled:
            kept.append(line)
    return "\n".join(kept)


def pointed(services: Services, title: str, said: Sequence[str], chunks: Sequence[Chunk]) -> list[Said]:
    """Sentences with the places that they came from."""
    among = sentences(chunks)
    found = []
    for text in said:
        pointers = point(title, text, among, most=1)
        found.append(Said(text, to_spans(services, [sentence for sentence, _ in pointers])))
    return found
