"""Summaries as notes: a text, and for each of its sentences the place in the source that it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from readthrough.agents.reading.concluding import Span, carry
from readthrough.agents.reading.passages import as_data, evened, section_text
from readthrough.agents.reading.pointers import words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans, whole_sentences
from readthrough.errors import UsageError
from readthrough.models.base import Completion
from readthrough.types import Chunk, Cost

WORKFLOW = "iterative-summary"
SUMMARIZE = "Summarize the text."
SUMMARIZE_ABOUT = "Summarize what the text says about this: {focus}"

WINDOW = Prompt("""{text}

Summarize the text above in at most {words} words of your own: {how}""")

MERGE = Prompt("""Summaries of consecutive parts of one text:

{text}

Make one summary of the whole text, from its first part to its last, in at most {words} words: {how}""")

ROLL = Prompt("""{text}

A summary of everything that comes before the text above: {before}

Make one summary of both, first of what came before, then of the text above, in at most {words} words: {how}""")

SHORTEN = Prompt("""{text}

Say the same in at most {words} words: {how}""")

PLAIN = Prompt("whole sentences, in the order of the text, no headings, no lists.")
FOCUSED = Prompt("whole sentences, no headings, no lists. Write only what helps with this: {question}")

# A word takes one and a half tokens or fewer; a summary may be longer than was asked for before it is cut.
_TOKENS_A_WORD = 2.0
_NUMBER = re.compile(r"^\s*(?:\(?\d+[.):]|[-*•])\s*")
WRITTEN_RATIO = 0.5
"""Of the most tokens of a summary, what was seen of models that are asked for a length."""


@dataclass(frozen=True, slots=True)
class Note:
    """A summary of a part of the text.

    Attributes:
        text: what it says.
        spans: the places in the source that its sentences came from.
        cut: whether the limit of tokens ended it; it then ends with its last whole sentence, or is made of the
            beginnings of what it was to join.
    """

    text: str
    spans: Sequence[Span]
    cut: bool = False

    def keep(self, services: Services) -> str:
        """Put the note into the run log; returns the hash that goes into a graph's state."""
        return services.put_json(asdict(self))

    @classmethod
    def kept(cls, services: Services, digest: str) -> Note:
        """The note that `keep` returned `digest` for."""
        return cls(**services.get_json(digest))


@dataclass(frozen=True, slots=True)
class Part:
    """What one summary is written from: a text as it stands in a prompt, and the chunks or places that it came from."""

    text: str
    chunks: Sequence[Chunk] = ()
    spans: Sequence[Span] = ()

    @classmethod
    def read(cls, chunks: Sequence[Chunk], spans: Sequence[Span] = ()) -> Part:
        """Chunks of the text that follow each other, and the places of a summary that is written anew with them."""
        return cls(section_text(chunks), chunks, spans)

    @classmethod
    def of(cls, notes: Sequence[Note]) -> Part:
        """Several notes as one part."""
        return cls(
            "\n\n".join(as_data(note.text) for note in notes), spans=[span for note in notes for span in note.spans]
        )

    def note(self, services: Services, question: str, completion: Completion) -> Note:
        """What a model wrote about this part, each of its sentences with its place."""
        text, cut = written(completion)
        most = len(sentence_spans(text))
        return Note(text, carry(services, question, text, self.spans, self.chunks, most) if text else [], cut)


def how(question: str) -> str:
    """How a summary is to be written: about the whole text, or about a question."""
    return PLAIN.format() if question == SUMMARIZE else FOCUSED.format(question=question)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The lengths of one run.

    Attributes:
        words: of the summary, as it is asked for.
        summary_tokens: the most of the summary.
        room_tokens: the most of text, or of summaries, in one prompt.
        frame_tokens: what the instructions around them take.
    """

    words: int
    summary_tokens: int
    room_tokens: int
    frame_tokens: int


def summary_question(focus: str | None) -> str:
    """The question that asks for a summary of a text, or of what it says about `focus`.

    Raises:
        UsageError: `focus` is empty.
    """
    if focus is None:
        return SUMMARIZE
    if not focus.strip():
        raise UsageError("the focus of the summary is empty", hint="say what the summary is to be about")
    return SUMMARIZE_ABOUT.format(focus=focus.strip())


def keep_batch(services: Services, notes: Sequence[Note], before: str | None) -> str:
    """Put a batch of notes into the run log behind the batch `before`: nothing grows, however many there are."""
    return services.link(before, notes=[asdict(note) for note in notes])


def kept_notes(services: Services, last: str | None) -> list[Note]:
    """The notes of all batches up to the `last`, in order, without those that say nothing."""
    return [Note(**note) for batch in services.links(last) for note in batch["notes"] if note["text"]]


def note_tokens(services: Services, notes: Sequence[Note]) -> list[int]:
    """How many tokens each note has for the model."""
    return services.model.count_tokens([note.text for note in notes])


def written(completion: Completion) -> tuple[str, bool]:
    """The text of a completion, no sentence twice (small models go round in circles), and whether its limit cut it.

    What was cut ends with its last whole sentence, where it has one.
    """
    cut = completion.finish == "length"
    return whole_sentences(completion.text.strip(), cut), cut


def written_lines(completion: Completion) -> list[str]:
    """The lines of a completion without their numbers, each once; one that the limit cut in its middle is left out."""
    lines = [_NUMBER.sub("", line).strip() for line in completion.text.splitlines()]
    if completion.finish == "length":
        lines = lines[:-1]
    return list(dict.fromkeys(line for line in lines if line))


def count_words(text: str) -> int:
    """How many words a text has; each CJK character is one."""
    return len(words(text))


def most_tokens(words: int) -> int:
    """The tokens at which a summary of so many words is cut."""
    return math.ceil(words * _TOKENS_A_WORD)


def grouped(notes: Sequence[Note], tokens: Sequence[int], room_tokens: int) -> list[list[Note]]:
    """Consecutive notes in groups of at most `room_tokens`; always fewer groups than notes, where there are several.

    `tokens` are the lengths of the notes. Two notes are grouped even where they are a little longer than the room:
    a text need not have the tokens again that it was written with.
    """
    room_tokens = max(room_tokens, 2 * max(tokens, default=0))
    packed = evened(range(len(notes)), dict(enumerate(tokens)), room_tokens)
    return [[notes[at] for at in group] for group in packed]


def shortened(notes: Sequence[Note], lengths: Sequence[int], room: int) -> list[Note]:
    """Notes that fit `room` together: the first sentences of each, or of some, evenly spread, where all do not.

    `lengths` are those of the notes, in tokens or words as `room` is. One sentence is always left.
    """
    if sum(lengths) <= room:
        return list(notes)
    sizes = [_sentence_sizes(note.text, length) for note, length in zip(notes, lengths, strict=True)]
    every = 1
    while every < len(notes) and sum(size[0] for size in sizes[::every]) > room:
        every += 1
    kept = dict.fromkeys(range(0, len(notes), every), 1)
    left = room - sum(sizes[at][0] for at in kept)
    for rank in range(1, max(map(len, sizes))):
        for at, sentences in kept.items():
            if sentences == rank < len(sizes[at]) and sizes[at][rank] <= left:
                kept[at] += 1
                left -= sizes[at][rank]
    ends = {at: sentence_spans(notes[at].text)[count - 1][1] for at, count in kept.items()}
    return [replace(notes[at], text=notes[at].text[:end]) for at, end in ends.items()]


def _sentence_sizes(text: str, length: int) -> list[int]:
    """The length of each sentence of a text that has `length` in all, never too small."""
    return [math.ceil(length * (end - start + 1) / len(text)) for start, end in sentence_spans(text)]


def joined(notes: Sequence[Note], most_words: int) -> Note:
    """The beginnings of some notes, one behind the other, as one note."""
    kept = shortened(notes, [count_words(note.text) for note in notes], most_words)
    return Note(" ".join(note.text for note in kept), [span for note in kept for span in note.spans])


def levels_cost(tokens: int, note_tokens: int, sizes: Sizes, batch: int) -> Cost:
    """What summaries of `note_tokens` at most take over a text of `tokens`, and those of every level above."""
    cost, parts = Cost(), 0
    while parts != 1:
        parts = max(1, math.ceil(tokens / sizes.room_tokens))
        written = int((sizes.summary_tokens if parts == 1 else note_tokens) * WRITTEN_RATIO)
        beside = (parts - math.ceil(parts / batch)) * written
        cost += Cost(parts, tokens + parts * sizes.frame_tokens, parts * written, beside_tokens=beside)
        tokens = parts * written
    return cost


def roll_cost(tokens: int, sizes: Sizes) -> Cost:
    """What one summary that is written anew with every window takes over a text of `tokens`."""
    windows = max(1, math.ceil(tokens / sizes.room_tokens))
    written = int(windows * sizes.summary_tokens * WRITTEN_RATIO)
    return Cost(windows, tokens + windows * sizes.frame_tokens + written, written)
