"""What a model writes of the parts of a text once, as facts with their sentences: kept in the library for later
questions, until the document is taken out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from readthrough.agents.reading.concluding import Span
from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.agents.reading.pointers import Sentence, point, words
from readthrough.agents.runs.services import Services
from readthrough.retrieval.facts import Extract, Fact

if TYPE_CHECKING:
    from readthrough.memory.shelf import Shelf


def kept(services: Services, recipe: str) -> dict[Span, tuple[Fact, ...]]:
    """What was written by `recipe` (see `retrieval.facts.recipe_of`), by the part that it was written of."""
    numbers = {entry.id: number for number, entry in enumerate(services.shelf.documents)}
    return {
        (numbers[document], extract.start, extract.end): extract.facts
        for document, extracts in services.shelf.facts(recipe).items()
        for extract in extracts
    }


def keep(services: Services, recipe: str, made: Iterable[tuple[Sequence[int], Sequence[Fact]]]) -> None:
    """Keep what was written of some parts; of a part that has nothing to say too, so that it is not asked again."""
    documents = services.shelf.documents
    extracts = [(documents[number].id, Extract(start, end, tuple(facts))) for (number, start, end), facts in made]
    services.shelf.remember_facts(recipe, extracts)


def chunks_within(shelf: Shelf, part: Sequence[int]) -> list[int]:
    """The ids of the chunks that hold a part of a document."""
    number, start, end = part
    document = shelf.documents[number].id
    ids = shelf.chunk_ids(document)
    first, last = shelf.chunk_at(document, start), shelf.chunk_at(document, end - 1)
    return ids[ids.index(first) : ids.index(last) + 1]


def text_of(shelf: Shelf, part: Sequence[int]) -> str:
    """A part of a document as it may stand in a prompt."""
    number, start, end = part
    return as_data(unwrap(shelf.document(shelf.documents[number].id).text[start:end]))


def sentence_of(written: str, among: Sequence[Sentence]) -> Sentence | None:
    """The sentence that something was written from; None where it shares no word with any: it was invented."""
    if not among:
        return None
    [(sentence, _)] = point("", written, among, most=1)
    return sentence if sentence.words.intersection(words(written)) else None
