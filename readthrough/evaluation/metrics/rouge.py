"""ROUGE by the package rouge-score, best F-measure over the gold answers; all need the extra `eval`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from readthrough.errors import needed
from readthrough.evaluation.base import Example
from readthrough.evaluation.metrics.answers import UNSPACED, best

_LATIN = re.compile(r"[a-z0-9]")
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def rouge_1(answer: str, example: Example) -> float:
    """ROUGE-1 with stemming, by rouge-score; needs the extra `eval`."""
    return _score("rouge1", answer, example)


def rouge_2(answer: str, example: Example) -> float:
    """ROUGE-2 with stemming, by rouge-score; needs the extra `eval`."""
    return _score("rouge2", answer, example)


def rouge_l(answer: str, example: Example) -> float:
    """ROUGE-L with stemming, by rouge-score; needs the extra `eval`."""
    return _score("rougeL", answer, example)


def rouge_lsum(answer: str, example: Example) -> float:
    """ROUGE-Lsum (lines are sentences) without stemming, as InfiniteBench; needs the extra `eval`."""
    return _score("rougeLsum", answer, example, stemming=False)


class _Words:
    """Words of any script, for texts that rouge-score's own tokens, of a to z and digits, would leave empty."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


@cache
def _scorer(kind: str, stemming: bool, latin: bool) -> Any:
    with needed("rouge-score", "'readthrough[eval]'"):
        from rouge_score.rouge_scorer import RougeScorer
    return RougeScorer([kind], use_stemmer=stemming, tokenizer=None if latin else _Words())


def _score(kind: str, answer: str, example: Example, stemming: bool = True) -> float:
    def measure(said: str, gold: str) -> float:
        return float(_scorer(kind, stemming, _is_latin(gold)).score(gold, said)[kind].fmeasure)

    return best(measure, answer, example)


def _is_latin(text: str) -> bool:
    """Whether most letters and digits are those that rouge-score keeps."""
    lowered = text.lower()
    return 2 * len(_LATIN.findall(lowered)) >= sum(char.isalnum() for char in lowered)
