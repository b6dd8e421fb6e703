"""Key elements of sentences without a model: the names in them, and the words that tell them from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from readthrough.documents.sentences import sentence_spans
from readthrough.retrieval.analysis import spaced
from readthrough.retrieval.entities import normalise

_WORD = re.compile(r"\w+(?:[-'\u2019]\w{2,})*")
_MOST = 8
_LEAST = 2
# A word of more sentences than this share, and than this many, tells nothing, unless it is a name's.
_COMMON_RATIO = 0.02
_COMMON_LEAST = 12

Cases = Mapping[tuple[str, bool], int]
"""How often each word is written with a capital, and how often without."""


def key_elements(sentences: Sequence[str]) -> list[tuple[str, ...]]:
    """What each of the sentences of a text is about: its names first, then its other words, the rarest first.

    A name is a run of words that the text mostly writes with a capital (in German that is every noun). Elements join
    sentences, so those that no other sentence has are taken only where there are too few.
    """
    cases = _cases(sentences)
    named = [_names(text, cases) for text in sentences]
    other = [_terms(spaced(text), cases) for text in sentences]
    uses = Counter(element for lists in (named, other) for elements in lists for element in elements)
    common = max(_COMMON_LEAST, _COMMON_RATIO * len(sentences))
    chosen = []
    for names, terms in zip(named, other, strict=True):
        rare = sorted((term for term in terms if uses[term] <= common), key=lambda term: (uses[term], term))
        every = [*names, *rare]
        joining = [element for element in every if uses[element] > 1]
        alone = [element for element in every if uses[element] == 1]
        chosen.append(tuple((joining + alone[: max(0, _LEAST - len(joining))])[:_MOST]))
    return chosen


def names(sentences: Sequence[str]) -> list[list[str]]:
    """The names in each of the sentences of a text, each once, in order; a longer one is followed by its words."""
    cases = _cases(sentences)
    return [_names(text, cases) for text in sentences]


def names_in(texts: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """The names in each sentence of each text, normalised, each once a sentence, in order."""
    sentences = [[text[start:end] for start, end in sentence_spans(text)] for text in texts]
    found = iter(names([sentence for inside in sentences for sentence in inside]))
    return [[tuple(dict.fromkeys(filter(None, map(normalise, next(found))))) for _ in inside] for inside in sentences]


def _cases(sentences: Sequence[str]) -> Cases:
    return Counter((word.casefold(), word[0].isupper()) for text in sentences for word in _WORD.findall(text))


def _names(text: str, cases: Cases) -> list[str]:
    """The names of a sentence, each once, in order; a longer one is followed by its words."""
    found: list[str] = []
    run: list[str] = []
    end = -1
    for match in _WORD.finditer(text):
        word = match.group()
        if run and not text[end : match.start()].isspace():
            found += _with_words(run)
            run = []
        if _is_name(word, cases):
            run.append(word)
            end = match.end()
        elif run:
            found += _with_words(run)
            run = []
    return list(dict.fromkeys(found + _with_words(run)))


def _with_words(run: Sequence[str]) -> list[str]:
    return [" ".join(run), *run] if len(run) > 1 else list(run)


def _is_name(word: str, cases: Cases) -> bool:
    folded = word.casefold()
    capital = word[0].isupper() and cases[folded, True] > cases[folded, False]
    return capital and len(word) > 1 and bool(normalise(word))


def _terms(text: str, cases: Cases) -> list[str]:
    """The other words of a sentence that may tell what it is about, each once, in lower case."""
    words = dict.fromkeys(word.casefold() for word in _WORD.findall(text) if not _is_name(word, cases))
    return [word for word in words if len(word) > (2 if word.isascii() else 1) and normalise(word)]
