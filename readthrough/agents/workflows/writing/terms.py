"""A glossary and an index: the terms of a text, what it says of each, and where each stands."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import passages_material
from readthrough.agents.reading.concluding import to_spans
from readthrough.agents.reading.looking import stated_pairs
from readthrough.agents.reading.passages import in_reading_order, within_budget
from readthrough.agents.reading.pointers import Sentence, sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.reading.writing import Said, Section, without_references
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.writing.drafting import Drafting, pointed
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Request
from readthrough.retrieval.elements import key_elements
from readthrough.retrieval.indexes.bm25 import holding
from readthrough.types import Chunk

DEFINE = Prompt(
    """{passages}

Explain “{term}” in one sentence, only from what the passages above say:"""
)

ASKED = "Who or what is {}?"

_WHOLE_RATIO = 0.5
_FIRST_RATIO = 0.7
_FOUND = 24
_LETTERS = re.compile(r"[^\W\d_]+")


def terms_of(services: Services, most: int) -> list[str]:
    """The names and telling words that most sentences of the texts have in common, at most `most`, most used first.

    What nearly always begins a sentence owes its capital to that: `Chapter`, `Let`. It is left out.
    """
    shelf = services.shelf
    texts = [shelf.document(entry.id).text for entry in shelf.documents]
    said = [text[start:end] for text in texts for start, end in sentence_spans(text)]
    uses = Counter(element for elements in key_elements(said) for element in elements)
    ranked = sorted(uses, key=lambda term: (not any(letter.isupper() for letter in term), -uses[term], term))
    first = Counter(found[0] for text in said if (found := _LETTERS.findall(text)))
    chosen: list[str] = []
    for term in ranked:
        if len(chosen) == most:
            break
        longer = max((uses[name] for name in uses if term != name and term in name.split()), default=0)
        if longer < _WHOLE_RATIO * uses[term] and uses[term] > 1 and first[term] <= _FIRST_RATIO * uses[term]:
            chosen.append(term)
    return chosen or ranked[:most]


def define(services: Services, terms: Sequence[str], drafting: Drafting, abstain_below: float) -> list[Section]:
    """Entries of a glossary; those of terms that their passages do not explain are empty. The calls go out together."""
    found = [Section(term, chunks=_holders(services, term, drafting.passage_tokens)) for term in terms]
    found = [section for section in found if section.chunks]
    passages = {each.title: passages_material(services, services.chunks(each.chunks)) for each in found}
    asked = [(passages[each.title], Question(ASKED.format(each.title))) for each in found]
    stated = stated_pairs(services, asked) if asked else []
    unsaid = [each for each, share in zip(found, stated, strict=True) if share < abstain_below]
    found = [each for each in found if each not in unsaid]
    prompts = [DEFINE.format(passages=passages[each.title], term=each.title) for each in found]
    requests = [Request.user(prompt, max_tokens=drafting.section_tokens) for prompt in prompts]
    texts = [without_references(written(reply)[0]) for reply in services.complete(requests)]
    for request, text in zip(requests, texts, strict=True):
        services.note_said(request, text)
    said = [next((text[start:end] for start, end in sentence_spans(text)), "") for text in texts]
    kept = drafting.supported(services, [(passages[each.title], text) for each, text in zip(found, said, strict=True)])
    entries = [
        replace(each, paragraphs=[pointed(services, each.title, [text], services.shelf.get(each.chunks))])
        if keep and text
        else each
        for each, text, keep in zip(found, said, kept, strict=True)
    ]
    return [*entries, *unsaid]


def locate(services: Services, terms: Sequence[str], most: int) -> list[Section]:
    """Entries of an index: where each term stands first in a chunk, at most `most` places spread evenly over the text.

    No model is asked.
    """
    shelf, found = services.shelf, []
    for term in terms:
        chunks = shelf.get(holding(shelf, term, shelf.chunk_array()).tolist())
        places = [
            sentence for chunk in in_reading_order(chunks, shelf.document_ids()) for sentence in _naming(chunk, term)
        ]
        every = max(1, -(-len(places) // most))
        said = [Said(_where(services, place), to_spans(services, [place])) for place in places[::every]]
        if said:
            found.append(Section(term, [said]))
    return found


def _holders(services: Services, term: str, budget_tokens: int) -> list[int]:
    """The chunks that hold a term and are most about it, in reading order."""
    shelf = services.shelf
    holders = dict.fromkeys(holding(shelf, term, shelf.chunk_array()).tolist())
    ranked = [hit.chunk.id for hit in shelf.search(term, _FOUND, "bm25") if hit.chunk.id in holders]
    ids = within_budget([*ranked, *holders], shelf.count_tokens(services.model), budget_tokens)
    return [chunk.id for chunk in in_reading_order(shelf.get(ids), shelf.document_ids())]


def _naming(chunk: Chunk, term: str) -> list[Sentence]:
    """The first sentence of a chunk that names a term; none where it does so in other letters."""
    named = (sentence for sentence in sentences([chunk]) if set(words(term)) <= sentence.words)
    return list(islice(named, 1))


def _where(services: Services, place: Sentence) -> str:
    """A place in few words: its page, else its line; with the document's name where there are several."""
    shelf, document = services.shelf, services.shelf.document(place.document)
    page = document.page_at(place.start)
    where = f"line {document.line_at(place.start)}" if page is None else f"page {page}"
    return f"{os.path.basename(document.path)} {where}" if len(shelf.documents) > 1 else where
