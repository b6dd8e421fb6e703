"""LongBench's scores, as its own script computes them, best over the gold answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache, partial
from typing import Any

from readthrough.errors import needed
from readthrough.evaluation.base import Example
from readthrough.evaluation.metrics.answers import best, normalise, normalise_chinese, overlap_f1

FIRST_LINE = frozenset({"trec", "triviaqa", "samsum", "lsht"})
"""The datasets (`tags["dataset"]`) of whose answers only the first line counts: their prompts show examples."""

_NUMBER = re.compile(r"\d+")
_PARAGRAPH = re.compile(r"(?:Paragraph |段落)(\d+)")
_COMMENT_MARKS = ("`", "#", "//")


def qa_f1(answer: str, example: Example) -> float:
    """LongBench's QA F1 over English words."""
    return best(_words_f1, _said(answer, example), example)


def qa_f1_zh(answer: str, example: Example) -> float:
    """LongBench's QA F1 over Chinese words; needs the extra `eval`."""
    return best(lambda said, gold: overlap_f1(_chinese(said), _chinese(gold)), _said(answer, example), example)


def classification(answer: str, example: Example) -> float:
    """LongBench's score of a class: 1 where the answer names the right one alone, 1/n where it names n.

    The classes are the example's choices, or else `tags["all_classes"]`.
    """
    classes = example.choices or example.tags.get("all_classes") or example.answers
    return best(partial(_class_score, classes), _first_line(answer), example)


def retrieval(answer: str, example: Example) -> float:
    """LongBench's score of a paragraph that is found: the share of the answer's numbers that are the right one."""
    return best(lambda said, gold: _number_share(said, _paragraph(gold)), answer, example)


def count(answer: str, example: Example) -> float:
    """LongBench's score of a count: the share of the answer's numbers that are the right one."""
    return best(_number_share, answer, example)


def code(answer: str, example: Example) -> float:
    """LongBench's score of a line of code: how like the answer's first line of code is to the right one."""
    return best(_code_similarity, answer, example)


def rouge(answer: str, example: Example) -> float:
    """LongBench's ROUGE-L: over the different words of texts whose sentences end in a full stop."""
    return best(_rouge_l, _said(answer, example), example)


def rouge_zh(answer: str, example: Example) -> float:
    """LongBench's ROUGE-L over Chinese words; needs the extra `eval`."""
    return best(lambda said, gold: _rouge_l(_spaced(said), _spaced(gold)), _said(answer, example), example)


def _said(answer: str, example: Example) -> str:
    dataset = str(example.tags.get("dataset", "")).removesuffix("_e")
    return _first_line(answer) if dataset in FIRST_LINE else answer


def _first_line(answer: str) -> str:
    return answer.lstrip("\n").split("\n")[0]


def _words_f1(answer: str, gold: str) -> float:
    return overlap_f1(normalise(answer).split(), normalise(gold).split())


@cache
def _segmenter() -> Any:
    with needed("jieba, which finds Chinese words,", "'readthrough[eval]'"):
        import jieba
    jieba.setLogLevel("WARNING")
    return jieba


def _chinese(text: str) -> list[str]:
    return [word for word in map(normalise_chinese, _segmenter().lcut(text)) if word]


def _spaced(text: str) -> str:
    return " ".join(_segmenter().lcut(text))


def _class_score(classes: Sequence[str], answer: str, gold: str) -> float:
    named = [name for name in classes if name in answer]
    # As published: what is taken out while walking makes the walk pass over the next one.
    for name in named:
        if name in gold and name != gold:
            named.remove(name)
    return 1 / len(named) if gold in named else 0.0


def _paragraph(gold: str) -> str:
    found = _PARAGRAPH.search(gold) or _NUMBER.search(gold)
    return found[found.lastindex or 0] if found else ""


def _number_share(answer: str, gold: str) -> float:
    numbers = _NUMBER.findall(answer)
    return numbers.count(gold) / len(numbers) if numbers else 0.0


def _code_similarity(answer: str, gold: str) -> float:
    lines = answer.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in _COMMENT_MARKS)), "")
    if line == gold:
        return 1.0
    if not line or not gold:
        return 0.0
    # A whole number of percents, as `fuzz.ratio` gives it.
    return round(100 * SequenceMatcher(None, line, gold).ratio()) / 100


def _sentences(text: str) -> list[list[str]]:
    # White space between two full stops is a sentence of one empty word, as published.
    return [" ".join(sentence.split()).split(" ") for sentence in text.split(".") if sentence]


def _rouge_l(answer: str, gold: str) -> float:
    said, wanted = _sentences(answer), _sentences(gold)
    if not said or not wanted:
        return 0.0
    common: set[str] = set()
    for sentence in wanted:
        common.update(*(_common_words(sentence, other) for other in said))
    precision = len(common) / len({word for sentence in said for word in sentence})
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    return 2 * precision * recall / (precision + recall + 1e-8)


def _common_words(one: Sequence[str], other: Sequence[str]) -> set[str]:
    """The words of a longest common subsequence; of several, the one that the published script finds."""
    lengths = [[0] * (len(other) + 1)]
    for word in one:
        above, row = lengths[-1], [0]
        for at, candidate in enumerate(other):
            row.append(above[at] + 1 if word == candidate else max(above[at + 1], row[at]))
        lengths.append(row)
    found = set()
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            found.add(one[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
