"""From a question to what is looked for: search queries, and the parts of a document that the question names."""

from __future__ import annotations

import re

from readthrough.agents.base import Question
from readthrough.documents.sentences import sentence_spans
from readthrough.types import Document

_QUOTED = re.compile(r"[\"“«„]([^\"“”«»„]{3,120})[\"”»]")
_LEAD = re.compile(r"^[^.?!]{0,80}:\s+(?=\S)")
_VERBATIM = re.compile(
    r"\b(highlight|quote|cite|extract|copy|word for word|verbatim|exact (?:words|wording|text|passage|clause|sentence)"
    r"|which (?:clause|sentence|passage|paragraph))\b",
    re.IGNORECASE,
)
_EXPLANATION = re.compile(
    r"\b(why|explain|describe|discuss|compare|contrast|summari[sz]e|summary|outline|elaborate|plot"
    r"|how (?:do|does|did|is|are|was|were|has|have|had|can|could|would|should|will|might)\b"
    r"|(?:debate|discussion|questioning|arguments?|opinions?|views?|concerns?) (?:about|on|of|over|for|against)\b"
    r"|(?:think|thought|say|said|comment(?:ed)?|argue|suggest|propose) (?:about|on|of)\b|rationale|significance"
    r"|in (?:about )?\d+ (?:to \d+ )?words)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(
    r"^\W*(?:please\W+|(?:can|could|would|will) you (?:please )?)?(?:summari[sz]e\b|sum up\b|tl;?dr\b"
    r"|(?:give|write|make|provide|produce)\b.{0,40}\b(?:summary|overview|synopsis|abstract|outline)\b)",
    re.IGNORECASE,
)
_RETELLING = re.compile(
    r"\b(?:what(?:['’]s| is| was)|describe|retell|explain|outline) the (?:main |whole )?(?:plot|storyline|synopsis)\b"
    r"|\bwhat happens in (?:the|this) (?:story|book|novel|tale|text)\b"
    r"|\bwhat (?:is|was) (?:the|this) (?:story|book|novel|tale|text) about\b",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"\bhow many\b|\b(?:list|name|enumerate|count) (?:all|every|each|the)\b(?! of\b)|\ball (?:of )?the\b"
    r"|\b(?:every|each(?! other))\b|\btime ?line\b|\bchronological|\bwhat (?:are|were) the\b"
    r"|\b(?:what|which) (?:\w+ ){0,3}?(?!(?:does|has|his|is|its|this|was)\b)\w{3,}s\b(?<!ss)"
    r"['’]?(?: \w+){0,3}? (?:are|were|have|do|did|\w{3,}ed)\b",
    re.IGNORECASE,
)
_LENGTH = re.compile(r"\b(\d{1,5})[ -]words?\b", re.IGNORECASE)
_MIN_WORDS = 4


def search_queries(question: Question) -> list[str]:
    """The question whole (with its choices), then its sentences and quoted phrases where it has several.

    A long question buries what it asks for: a sentence or a quoted phrase on its own often finds the passage.
    """
    whole = question.with_choices
    parts = [question.text[start:end] for start, end in sentence_spans(question.text)]
    parts = [_LEAD.sub("", part) for part in parts]
    queries = [whole, *(part for part in parts if len(part.split()) >= _MIN_WORDS), *quoted_phrases(question.text)]
    return list(dict.fromkeys(query.strip() for query in queries if query.strip()))


def wants_quote(question: str) -> bool:
    """Whether the question asks for the text's own words rather than for an answer."""
    return _VERBATIM.search(question) is not None


def without_instruction(question: str) -> str:
    """A question that wants a quote, less the sentences that only say so; the whole where nothing else is left."""
    spans = sentence_spans(question)
    rest = [_LEAD.sub("", question[start:end]) for start, end in spans if not wants_quote(question[start:end])]
    return " ".join(rest) or question


def quoted_phrases(question: str) -> list[str]:
    """The phrases that the question puts in quotes."""
    return _QUOTED.findall(question)


def wants_explanation(question: str) -> bool:
    """Whether the question asks for sentences rather than for a name, a number or a short phrase."""
    return _EXPLANATION.search(question) is not None


def wants_summary(question: Question) -> bool:
    """Whether the question is an order to summarise the text, and not one to choose."""
    return question.choices is None and _SUMMARY.search(question.text) is not None


def wants_retelling(question: str) -> bool:
    """Whether the question asks for what happens in a whole text: its plot, or a summary."""
    return _RETELLING.search(question) is not None or _SUMMARY.search(question) is not None


def names_several(question: str) -> bool:
    """Whether the question's words ask for several things: a list of them, their order, or how many there are."""
    return _LIST.search(question) is not None


def wanted_words(question: str) -> int | None:
    """The length that an order to summarise names (`in about 150 words`), None where it names none."""
    found = _LENGTH.search(question)
    return int(found[1]) if found and int(found[1]) else None


def named_spans(question: str, document: Document) -> list[tuple[int, int]]:
    """The spans of the sections whose heading the question names in quotes, widened over their subsections."""
    asked = {_fold(phrase) for phrase in quoted_phrases(question)}
    spans = []
    for number, section in enumerate(document.sections):
        if not asked & {_fold(heading) for heading in (*section.path[-1:], *_titles(section.path[-1]))}:
            continue
        end = section.end
        for later in document.sections[number + 1 :]:
            if later.path[: len(section.path)] != section.path:
                break
            end = max(end, later.end)
        spans.append((section.start, end))
    return spans


def _titles(heading: str) -> list[str]:
    """A heading without its number or label: `STORY 1: LOST` -> `LOST`."""
    return [part for part in re.split(r"[:.—–-]\s+", heading)[1:] if part.strip()]


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
