"""Evidence as pointers: which sentences of the source stand for which sentences of an answer.

Nothing here generates text. A pointer is a span of a document, found by comparing words; the quote is cut from
the source by `Evidence.cut`, so a quote that is not in the source cannot exist.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from readthrough.documents.sentences import sentence_spans
from readthrough.types import Chunk, Document, Evidence

_WORD = re.compile(r"\w+", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_QUESTION_WEIGHT_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a document: the document's id, its span, its words."""

    document: str
    start: int
    end: int
    words: frozenset[str]


Cited = tuple[str, int, int, list[int]]
"""A span of a document with the numbers of the sentences of an answer that it stands for."""


def cited(sentence: Sentence, supports: list[int]) -> Cited:
    """The sentence as what an answer cites, fit for a graph's state."""
    return (sentence.document, sentence.start, sentence.end, supports)


def words(text: str) -> list[str]:
    """Lower-case words without a plural s; each CJK character is a word of its own."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _CJK.search(word):
            found.extend(word)
        else:
            found.append(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return found


def sentences(chunks: Iterable[Chunk]) -> list[Sentence]:
    """The sentences of some chunks, in order."""
    return [
        Sentence(chunk.document, start, end, frozenset(words(chunk.text[start - chunk.start : end - chunk.start])))
        for chunk in chunks
        for start, end in sentence_spans(chunk.text, chunk.start)
    ]


def sentence_at(document: Document, start: int, end: int) -> Sentence:
    """The span `[start, end)` of a document as a sentence."""
    return Sentence(document.id, start, end, frozenset(words(document.text[start:end])))


def rarity(among: Sequence[Sentence]) -> dict[str, float]:
    """How telling each word is: its inverse sentence frequency."""
    seen = Counter(word for sentence in among for word in sentence.words)
    return {word: math.log(1 + len(among) / count) for word, count in seen.items()}


def overlap(sentence: Sentence, answer: frozenset[str], question: frozenset[str], weights: dict[str, float]) -> float:
    """The share (0 to 1) of the answer's weight that the sentence holds, the question's words counting half."""
    wanted = {word: weights.get(word, 0.0) for word in answer}
    for word in question - answer:
        wanted[word] = _QUESTION_WEIGHT_RATIO * weights.get(word, 0.0)
    total = sum(wanted.values())
    held = sum(weight for word, weight in wanted.items() if word in sentence.words)
    return held / total if total else 0.0


def nearest(said: str, among: Sequence[Sentence]) -> list[int]:
    """The places of some sentences in their list, those that hold most of the weight of what is said first."""
    weights, wanted = rarity(among), frozenset(words(said))
    shares = [overlap(sentence, wanted, frozenset(), weights) for sentence in among]
    return sorted(range(len(among)), key=lambda at: -shares[at])


def point(
    question: str, answer: str, among: Sequence[Sentence], most: int = 3, trust: Sequence[float] | None = None
) -> list[tuple[Sentence, list[int]]]:
    """For each sentence of the answer the source sentence that holds most of it, best first, `most` at most.

    `trust` (0 to 1 for each of `among`) says where the model looked; it counts as much as the words do. A sentence
    of the answer that shares no word with the source (a bare "yes") points to where the question's words are.
    """
    if not among:
        return []
    weights = rarity(among)
    asked = frozenset(words(question))
    trusted = dict(zip(among, trust or [1.0] * len(among), strict=True))
    found: dict[Sentence, list[int]] = {}
    strength: dict[Sentence, float] = {}
    for number, (start, end) in enumerate(sentence_spans(answer) or [(0, len(answer))]):
        said = frozenset(words(answer[start:end]))
        holding = [sentence for sentence in among if said & sentence.words] or among

        def score(sentence: Sentence, said: frozenset[str] = said) -> float:
            return overlap(sentence, said, asked, weights) * (1 + trusted[sentence]) / 2

        best = max(holding, key=score)
        found.setdefault(best, []).append(number)
        strength[best] = max(strength.get(best, 0.0), score(best))
    ranked = sorted(found, key=lambda sentence: -strength[sentence])[:most]
    return [(sentence, found[sentence]) for sentence in ranked]


def cut(pointers: Iterable[tuple[Sentence, list[int]]], documents: dict[str, Document]) -> tuple[Evidence, ...]:
    """The quotes of some pointers, cut from their documents; pointers to one span become one quote."""
    spans: dict[tuple[str, int, int], set[int]] = {}
    for sentence, supports in pointers:
        spans.setdefault((sentence.document, sentence.start, sentence.end), set()).update(supports)
    return tuple(
        Evidence.cut(documents[document], start, end, sorted(supports))
        for (document, start, end), supports in spans.items()
    )
