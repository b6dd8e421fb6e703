"""Scores of one question, as the datasets compute them, and intervals over many."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, gold: str) -> float:
    """SQuAD's F1 over words."""
    said, wanted = normalise(answer).split(), normalise(gold).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return float(said == wanted)
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def exact_match(answer: str, gold: str) -> float:
    """1 where both are the same after normalisation."""
    return float(normalise(answer) == normalise(gold))


def contains(answer: str, gold: str) -> float:
    """1 where the gold answer stands in the answer."""
    return float(normalise(gold) in normalise(answer))


def rouge_l(answer: str, gold: str) -> float:
    """ROUGE-L F-measure by the rouge-score package."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], use_stemmer=True).score(gold, answer)["rougeL"].fmeasure)


METRICS: dict[str, Callable[[str, str], float]] = {
    "f1": token_f1,
    "em": exact_match,
    "contains": contains,
    "rouge": rouge_l,
}


def score(row: dict[str, Any], answer: dict[str, Any]) -> float:
    """The score (0 to 1) of an Answer (its JSON form) for a question row, by the row's own metric."""
    if row["type"] == "unanswerable":
        return float(answer["abstained"])
    if answer["abstained"]:
        return 0.0
    if row["choices"]:
        right = {row["choices"][ord(letter.strip().upper()) - ord("A")] for letter in row["answers"]}
        return float(answer["answer"] in right)
    return max(METRICS[row["metric"]](answer["answer"], gold) for gold in row["answers"])


def evidence_scores(row: dict[str, Any], evidence: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Precision and recall of the quotes on a row that names its evidence (files or sentences), else None."""
    if row.get("evidence"):
        wanted = [name.rsplit("/", 1)[-1] for name in row["evidence"]]
        found = [item["document"].rsplit("/", 1)[-1] for item in evidence]
        right, recalled = [name in wanted for name in found], [name in found for name in wanted]
    elif row.get("evidence_text"):
        texts = row["evidence_text"]
        wanted = [texts] if isinstance(texts, str) else list(texts)
        quotes = [item["quote"] for item in evidence]
        right = [any(_same_passage(quote, text) for text in wanted) for quote in quotes]
        recalled = [any(_same_passage(quote, text) for quote in quotes) for text in wanted]
    else:
        return None
    return (sum(right) / len(right) if right else 0.0, sum(recalled) / len(recalled))


def _same_passage(quote: str, gold: str) -> bool:
    """Whether most words of the shorter text stand in the other."""
    one, other = set(normalise(quote).split()), set(normalise(gold).split())
    smaller = min(len(one), len(other))
    return bool(smaller) and len(one & other) >= 0.7 * smaller


def interval(values: Sequence[float], draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean and its 95% bootstrap interval."""
    generator = random.Random(seed)
    means = sorted(sum(generator.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return sum(values) / len(values), means[int(0.025 * draws)], means[int(0.975 * draws)]
