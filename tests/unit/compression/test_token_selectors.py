"""Selectors of tokens against their papers' equations, in loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from readthrough.compression.selecting import Chosen, ModelShape, Past, Prompt
from readthrough.compression.selectors.block_memory import InfLLM
from readthrough.compression.selectors.delta import Delta
from readthrough.compression.selectors.recycled import RecycledAttention
from readthrough.compression.selectors.retrieved import RetrievalAttention
from readthrough.compression.selectors.token_votes import TokenSelect

HEADS, GROUP, WIDTH, SCALE = 2, 3, 8, 0.35


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(q: torch.Tensor, keys: torch.Tensor, scale: float = SCALE) -> list[list[float]]:
    """Of each query head, of all keys."""
    found = []
    for head in range(HEADS * GROUP):
        scores = [scale * float(q[head, 0] @ key) for key in keys[head // GROUP]]
        total = sum(map(math.exp, scores))
        found.append([math.exp(score) / total for score in scores])
    return found


def best(scores: list[float], count: int) -> set[int]:
    return set(sorted(range(len(scores)), key=lambda i: -scores[i])[:count])


def rows(chosen: Chosen) -> list[set[int]]:
    assert chosen.tokens is not None
    return [set(row) - {-1} for row in chosen.tokens.tolist()]


def chosen(selector: Any, q: torch.Tensor, keys: torch.Tensor, memory: Any = None, layer: int = 0) -> Chosen:
    found: Chosen = selector.choose(q, Past(layer, [keys[:, :7], keys[:, 7:]], SCALE), memory)
    return found


def test_tokenselect() -> None:
    selector = TokenSelect(budget_tokens=20, sink_tokens=2, latest_tokens=5)
    keys, q = random(HEADS, 60, WIDTH), random(HEADS * GROUP, 1, WIDTH, seed=1)
    found = chosen(selector, q, keys)
    votes = [sum(column) for column in zip(*probabilities(q, keys[:, 2:55], 1.0), strict=True)]
    expected = {0, 1} | {2 + token for token in best(votes, 13)}
    assert found.start == 55 and rows(found) == [expected] * HEADS
    alike = chosen(selector, q + 1e-3, random(HEADS, 61, WIDTH, seed=2), found.memory)
    assert alike.start == 56 and rows(alike) == [expected] * HEADS
    other = chosen(selector, -q, keys, found.memory)
    assert rows(other) != rows(found) and torch.equal(other.memory.q, -q.flatten().float())
    assert rows(chosen(TokenSelect(20, 2, 5, similarity=1), -q, keys, found.memory)) == rows(other)


def test_recycled_attention() -> None:
    selector = RecycledAttention(budget_tokens=10, every_tokens=3)
    keys, q = random(HEADS, 40, WIDTH), random(HEADS * GROUP, 1, WIDTH, seed=1)
    memory, last = None, 0
    expected: list[set[int]] = []
    reads: list[bool] = []
    for seen in range(30, 37):
        found = chosen(selector, q * (seen - 29), keys[:, :seen], memory)
        memory = found.memory
        reads.append(found.tokens is None)
        if found.tokens is None:
            each = probabilities(q * (seen - 29), keys[:, :seen])
            groups = [each[head * GROUP : (head + 1) * GROUP] for head in range(HEADS)]
            largest = [[max(column) for column in zip(*group, strict=True)] for group in groups]
            expected = [best(row[: seen - 1], 9) for row in largest]
            last = seen - 1
        else:
            assert rows(found) == expected and found.start == last
    assert reads == [True, False, False, True, False, False, True]
    dynamic = RecycledAttention(budget_tokens=10, every_tokens=3, similarity=0.5)
    again = chosen(dynamic, q, keys[:, :39], memory)
    assert again.tokens is not None and again.memory.asked == 39, "the queries are alike"
    assert chosen(dynamic, -q, keys[:, :39], memory).tokens is None


def test_delta() -> None:
    selector = Delta(budget_tokens=16, latest_tokens=8, page_tokens=4, selection_layers=(1, 3), dense_layers=1)
    keys, q = random(HEADS, 50, WIDTH), random(HEADS * GROUP, 1, WIDTH, seed=1)
    found = chosen(selector, q, keys, layer=1)
    assert found.start == 0 and found.tokens is None
    largest = [max(column) for column in zip(*probabilities(q, keys), strict=True)]
    pages = best([sum(largest[at : at + 4]) for at in range(0, 44, 4)], 2)
    expected = {4 * page + i for page in pages for i in range(4)}
    behind = selector.choose(q, Past(2, [keys], SCALE, {1: found.memory}), None)
    assert behind.start == 44 and rows(behind) == [expected] * HEADS
    assert selector.choose(q, Past(4, [keys], SCALE, {1: found.memory, 3: None}), None) == Chosen(0)
    with pytest.raises(ValueError, match="has 3 layers only"):
        selector.fitted(ModelShape("tiny", 3, 4, 2))


def test_retrieval_attention() -> None:
    keys, q = random(HEADS, 900, WIDTH), random(HEADS * GROUP, 1, WIDTH, seed=1)
    selector = RetrievalAttention(budget_tokens=60, sink_tokens=4, latest_tokens=6, probes=1000)
    found = chosen(selector, q, keys)
    expected = []
    for head in range(HEADS):
        group = q[head * GROUP : (head + 1) * GROUP, 0]
        scores = [max(float(each @ key) for each in group) for key in keys[head, 4:894]]
        expected.append({0, 1, 2, 3} | {4 + token for token in best(scores, 50)})
    assert found.start == 894 and rows(found) == expected
    later = chosen(selector, q, torch.cat([keys, random(HEADS, 9, WIDTH, seed=3)], 1), found.memory)
    assert later.start == 894 and later.memory is found.memory and rows(later) == expected
    few = rows(chosen(RetrievalAttention(60, 4, 6, probes=8), q, keys))
    assert sum(len(a & b) for a, b in zip(few, expected, strict=True)) > 0.4 * sum(map(len, expected))


def test_infllm() -> None:
    selector = InfLLM(budget_tokens=370, sink_tokens=14, latest_tokens=100, representative_tokens=3)
    keys, q = random(HEADS, 800, WIDTH), random(HEADS * GROUP, 801, WIDTH, seed=1)
    scores = torch.stack([q[head, :800] @ keys[head // GROUP].T * SCALE for head in range(HEADS * GROUP)])
    scores.masked_fill_(~torch.ones(800, 800, dtype=torch.bool).tril(), -torch.inf)
    memory = None
    for first, end in ((0, 300), (300, 301), (301, 800)):
        prompt = Prompt(q[:, first:end], scores[:, first:end].logsumexp(-1), keys[:, :end], SCALE)
        memory = selector.read_prompt(prompt, memory)
    window = torch.ones(800, 800, dtype=torch.bool).tril().triu(-99)
    mass = (scores.softmax(-1) * window).sum(1)
    torch.testing.assert_close(memory.mass, mass)
    found = chosen(selector, q[:, 800:], torch.cat([keys, keys[:, :1]], 1), memory)
    relevance = []
    for block in range(14, 654, 128):
        total = 0.0
        for head in range(HEADS * GROUP):
            tokens = best(mass[head, block : block + 128].tolist(), 3)
            mean = sum(keys[head // GROUP, block + token] for token in tokens) / 3
            total += float(q[head, 800] @ mean)
        relevance.append(total)
    expected = {14 + 128 * block + i for block in best(relevance, 2) for i in range(128)} | set(range(14))
    assert found.start == 654 and rows(found) == [expected] * HEADS
    with pytest.raises(ValueError, match="has to be shown"):
        chosen(selector, q[:, 800:], keys)
