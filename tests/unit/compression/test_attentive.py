"""Compressors by attention and by functions, against plain restatements of their papers and code."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from readthrough.compression.prompt.base import Kept, PromptCompressor
from readthrough.compression.prompt.code_blocks import blocks_of_lines, function_spans, is_marked, knapsack
from readthrough.compression.prompt.ehpc import DEPTHS, EHPC, NEEDLE, hay_with_needle
from readthrough.compression.prompt.gemfilter import GemFilter
from readthrough.compression.prompt.longcodezip import LongCodeZip
from readthrough.compression.prompt.specpc import SpecPC
from readthrough.errors import ConfigError, PromptTooLongError, UsageError
from tests.compression_samples import NEEDLE as FACT
from tests.compression_samples import QUESTION, TEXTS, WordScorer, check

TEXT = TEXTS["one"][0]


def attention(products: bool, window: int, layers: list[int]) -> tuple[dict[int, Any], int]:
    """What the scorer shows of the text and the question, and how many tokens the text has."""
    scorer, found = WordScorer(), {}
    ids = scorer.tokenize(TEXT).ids
    prompt = np.concatenate([ids, scorer.tokenize("\n\n" + QUESTION).ids])
    scorer.read_attention(prompt, window, layers, found.__setitem__, products=products)
    return {layer: shares.astype(float).tolist() for layer, shares in found.items()}, len(ids)


def chosen_tokens(compressor: PromptCompressor, count: int) -> list[int]:
    scorer = WordScorer()
    starts = scorer.tokenize(TEXT).starts.tolist()
    return [starts.index(piece.start) for piece in compressor.select(scorer, [TEXT], QUESTION, count)]


def best(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:count])


def test_gemfilter() -> None:
    shown, tokens = attention(True, 1, [1])
    sums = [sum(head[0][at] for head in shown[1]) for at in range(len(shown[1][0][0]))]
    padded = [0.0, 0.0, *sums, 0.0, 0.0]
    scores = [sum(padded[at : at + 5]) / 5 for at in range(len(sums))]
    assert chosen_tokens(GemFilter(whole_words=False), 50) == best(scores[:tokens], 50)
    assert chosen_tokens(GemFilter(layer=1, whole_words=False), 50) == best(scores[:tokens], 50)


def test_ehpc() -> None:
    shown, tokens = attention(False, 16, [2])
    scores = [0.0] * len(shown[2][0][0])
    for head in (1, 0):
        means = [sum(row[at] for row in shown[2][head]) / 16 for at in range(len(scores))]
        for at in range(len(scores)):
            scores[at] += sum(means[max(0, at - 16) : at + 16]) / 32
    found = chosen_tokens(EHPC(layer=2, heads=(1, 0), whole_words=False), 60)
    assert found == best(scores[:tokens], 60)


def test_the_evaluators_are_those_that_find_the_needle() -> None:
    scorer = WordScorer()
    totals = np.zeros((3, 2))
    for depth in DEPTHS:
        made = EHPC(window_tokens=4, probe_tokens=300)
        totals += made._needle_scores(scorer, depth) / len(DEPTHS)
        prompt, at = hay_with_needle(scorer, depth, 300)
        assert len(prompt) <= 300 and prompt[at].tolist() == scorer.tokenize(NEEDLE).ids.tolist()
        assert abs(at.start / len(prompt) - depth) < 0.15
    layer, heads = made.evaluators(scorer)
    assert layer == int(totals.sum(1).argmax()) and heads[0] == int(totals[layer].argmax()) and len(heads) == 2
    read = scorer.read_tokens
    assert made.evaluators(scorer) == (layer, heads) and scorer.read_tokens == read, "once for a model"


@pytest.mark.parametrize(("pool", "neighbours"), [(7, 5), (64, 64), (4, 0)])
def test_specpc(pool: int, neighbours: int) -> None:
    shown, tokens = attention(False, 20, [1, 2])
    count = len(shown[1][0][0])
    most = [
        max(row[at] * place / 19 for shares in shown.values() for head in shares for place, row in enumerate(head))
        for at in range(count)
    ]
    back = (pool - 1) // 2
    spread = [max([0.0, *most[max(0, at - back) : at + pool - back]]) for at in range(count)]
    taken = list(range(count - 20, count))
    reach = range(-((neighbours - 1) // 2), neighbours - (neighbours - 1) // 2) if neighbours else range(1)
    for top in sorted(range(count), key=lambda at: (-spread[at], at)):
        for offset in sorted(reach, key=lambda off: (abs(off), off)):
            at = min(max(top + offset, 0), count - 1)
            if at not in taken:
                taken.append(at)
    expected = sorted([at for at in taken if at < tokens][:70])
    made = SpecPC(window_tokens=20, pool_tokens=pool, neighbour_tokens=neighbours, first_layer=1, whole_words=False)
    assert chosen_tokens(made, 70) == expected


@pytest.mark.parametrize("name", ["gemfilter", "ehpc", "specpc", "longcodezip"])
def test_what_is_no_question_or_no_scorer_for_it_is_refused(name: str) -> None:
    made = {"gemfilter": GemFilter(), "ehpc": EHPC(), "specpc": SpecPC(), "longcodezip": LongCodeZip()}[name]
    with pytest.raises(UsageError, match="question"):
        made.compress(WordScorer(), [TEXT], " ", ratio=0.5)
    with pytest.raises(PromptTooLongError):
        made.compress(WordScorer(60), [TEXT], QUESTION * 20, ratio=0.5)
    plain: Any = type("Plain", (), {key: getattr(WordScorer, key) for key in ("tokenize", "token_logprobs")})()
    plain.window_tokens = 1000
    if name != "longcodezip":
        with pytest.raises(ConfigError, match=f"{name} needs a model that shows its attention"):
            made.compress(plain, [TEXT], QUESTION, ratio=0.5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GemFilter, {"layer": -1}),
        (GemFilter, {"pool_tokens": 4}),
        (EHPC, {"layer": 3}),
        (EHPC, {"heads": [1]}),
        (EHPC, {"layer": 1, "heads": [-1]}),
        (EHPC, {"window_tokens": 0}),
        (SpecPC, {"window_tokens": 0}),
        (SpecPC, {"first_layer": -1}),
        (LongCodeZip, {"fine_ratio": 0.0}),
        (LongCodeZip, {"importance_weight": 2.0}),
        (LongCodeZip, {"least_lines": -1}),
    ],
)
def test_wrong_options(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)


# --- code

CODE = {
    "python": [
        "import os\n\n",
        "class A:\n    x = 1\n\n",
        "    def f(self):\n        return 1\n\n",
        "async def g():\n    pass\n",
    ],
    "typescript": ["const a = 1;\n", "export function f(x: number) {\n  return x;\n}\n", "class B {\n}\n"],
    "rust": [
        "use std::fs;\n",
        "pub struct P {\n  x: u8,\n}\n",
        "impl P {\n",
        "    pub fn f(&self) -> u8 {\n        self.x\n    }\n}\n",
    ],
    "go": [
        "package main\n",
        "type T struct {\n  n int\n}\n",
        "func (t T) F() int {\n  if t.n > 0 {\n    return 1\n  }\n  return 0\n}\n",
    ],
    "c": [
        "#include <a.h>\n",
        "static int *f(int a, int b) {\n  if (a) { g(b); }\n  return h(a);\n}\n",
        "void k(void) {\n}\n",
    ],
    "prose": ["The ferry left at seven.\nIt came back at nine, and the class of children went home.\n"],
    "blank": ["  \n"],
}


@pytest.mark.parametrize("language", CODE)
def test_functions_begin_where_they_are_defined(language: str) -> None:
    text = "".join(CODE[language])
    assert [text[start:end] for start, end in function_spans(text)] == CODE[language]
    assert function_spans("") == []


def test_blocks_end_behind_spikes() -> None:
    text = "a\nb\nc\nd\ne\nf\n"
    values = [1.0, 9.0, 1.0, 2.0, 2.1, 2.0, 0.0]
    far = np.mean([v for v in values if v > 0]) + 0.2 * np.std([v for v in values if v > 0])
    assert 2.1 - 2.0 < far < 8
    assert blocks_of_lines(text, values, 0.2) == [0, 4], "behind the second line"
    assert blocks_of_lines(text, [1.0] * 7, 0.2) == [0]
    assert blocks_of_lines("a\nb\nc", [0.0, 0.6, 0.0], 0.2) == [0, 4], "fewer than three lines say something"
    assert (
        is_marked("\n  # why\n x") and is_marked("  def f():\n") and is_marked("return x") and not is_marked(" x = 1")
    )


def test_the_knapsack_is_the_best_there_is() -> None:
    generator = np.random.default_rng(3)
    for _ in range(30):
        tokens, values = generator.integers(1, 12, 7).tolist(), generator.random(7).round(2).tolist()
        found = knapsack(tokens, values, 20)
        fits = [
            some for n in range(8) for some in combinations(range(7), n) if sum(tokens[item] for item in some) <= 20
        ]
        assert sum(tokens[item] for item in found) <= 20
        most = max(sum(values[item] for item in some) for some in fits)
        assert sum(values[item] for item in found) == pytest.approx(most)
    assert knapsack([5], [1.0], 0) == set()
    assert knapsack([3000, 10, 10], [1.0, 0.5, 0.4], 3005) == {1, 2}, "many tokens: by value a token"


def test_longcodezip_keeps_the_function_that_is_asked_about() -> None:
    bodies = [
        f"def step_{n}(a, b):\n" + "".join(f"    v{i} = a * {n * i} + b\n" for i in range(8)) + "    return v7\n\n"
        for n in range(6)
    ]
    lines = ["def lighthouse():", "# who kept it", f"keeper = '{FACT}'", "x = 1", "y = 2", "z = 3", "return keeper"]
    asked = "\n    ".join(lines) + "\n"
    text = "".join([*bodies[:3], asked, *bodies[3:]])
    scorer = WordScorer()
    found = LongCodeZip().compress(scorer, [text], QUESTION, ratio=0.35)
    check(scorer, [text], found, found.tokens)
    assert "def lighthouse" in found.text and FACT in found.text
    assert found.tokens > 0.2 * found.source_tokens
    whole = LongCodeZip(fine_ratio=1.0, extra_tokens=0).select(scorer, [text], QUESTION, 150)
    assert {(piece.start, piece.end) for piece in whole} <= set(function_spans(text)), "functions alone"
    assert all(isinstance(piece, Kept) for piece in whole)
