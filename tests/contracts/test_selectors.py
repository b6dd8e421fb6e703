"""What every selector chooses: pages or tokens that there are, ascending, no more than its budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.selecting import ModelShape, PageSelector, Past, Prompt, TokenSelector
from readthrough.spec import build, options_of

NAMES = catalogue.names("selectors")
PAGES = [name for name in NAMES if issubclass(catalogue.find("selectors", name), PageSelector)]
TOKENS = [name for name in NAMES if issubclass(catalogue.find("selectors", name), TokenSelector)]
OPTIONS: dict[str, dict[str, Any]] = {
    "delta": {"selection_layers": [1], "dense_layers": 1},
    "infllm": {"latest_tokens": 512},
}
"""What a selector needs for a model of a few layers, and to be quick."""


def test_all_are_tested() -> None:
    assert sorted(PAGES + TOKENS) == sorted(NAMES)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("pages", "heads"), [(1, (1, 1)), (3, (5, 1)), (500, (2, 7))])
def test_choices(name: str, pages: int, heads: tuple[int, int]) -> None:
    options = {"budget_tokens": 512} if "budget_tokens" in options_of(catalogue.find("selectors", name)) else {}
    selector: PageSelector = build("selectors", {name: options})
    generator = torch.Generator().manual_seed(pages)
    ends = torch.randn(2, heads[0], pages, 32, generator=generator)
    q = torch.randn(heads[0] * heads[1], 1, 32, generator=generator)
    chosen = selector.choose(q, ends.amin(0), ends.amax(0), scale=0.2)
    assert chosen.shape[0] == heads[0] and not chosen.is_floating_point()
    assert 0 < chosen.shape[1] <= pages
    for row in chosen.tolist():
        assert row == sorted(set(row)) and row[0] >= 0 and row[-1] < pages
    if options:
        assert (chosen.shape[1] + selector.latest_pages) * selector.page_tokens <= 512
    for ratio in (0.1, 1.0):
        share = build("selectors", {name: {"budget_ratio": ratio}}).choose(q, ends.amin(0), ends.amax(0), scale=0.2)
        assert share.shape[1] == min(
            pages, max(1, int(ratio * (pages + selector.latest_pages)) - selector.latest_pages)
        )
    for option, value in {"dense_layers": -1, "budget_ratio": 0}.items():
        with pytest.raises(Exception, match=option):
            build("selectors", {name: {option: value}})


def steps(selector: TokenSelector, tokens: int, count: int, heads: tuple[int, int] = (2, 3)) -> list[list[set[int]]]:
    """What each key head reads in layer 2, of all that each of `count` tokens behind `tokens` sees."""
    generator = torch.Generator().manual_seed(tokens)
    keys = torch.randn(3, heads[0], tokens + count, 32, generator=generator)
    q = torch.randn(3, heads[0] * heads[1], tokens + count, 32, generator=generator)
    memory: dict[int, Any] = {}
    if selector.reads_prompts:
        for first, end in ((0, tokens // 2), (tokens // 2, tokens)):
            for layer in range(3):
                lse = torch.full((heads[0] * heads[1], end - first), 8.0)
                prompt = Prompt(q[layer, :, first:end], lse, keys[layer, :, :end], 0.2)
                memory[layer] = selector.read_prompt(prompt, memory.get(layer))
    found = []
    for seen in range(tokens + 1, tokens + count + 1):
        for layer in range(3):
            before = {each: known for each, known in memory.items() if each < layer}
            runs = [keys[layer, :, : seen // 3], keys[layer, :, seen // 3 : seen]]
            past = Past(layer, runs, 0.2, before)
            start, numbers, memory[layer] = selector.choose(q[layer, :, seen - 1 : seen], past, memory.get(layer))
        rows: list[list[int]] = [[]] * heads[0] if numbers is None else numbers.tolist()
        rows = [[number for number in row if number != -1] for row in rows]
        assert 0 <= start < seen, "a token reads itself"
        for row in rows:
            assert len(set(row)) == len(row) and all(0 <= number < start for number in row)
        found.append([{*row, *range(start, seen)} for row in rows])
    return found


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0])
def test_tokens(name: str, ratio: float) -> None:
    selector: TokenSelector = build("selectors", {name: {**OPTIONS.get(name, {}), "budget_ratio": ratio}})
    found = steps(selector, 4000, 4)
    for seen, heads in enumerate(found, 4001):
        for row in heads:
            if ratio == 1:
                assert len(row) == seen
            elif name != "recycled-attention" or seen > 4001:
                assert len(row) <= ratio * seen + 4 + 2 * 128, "pages, blocks and what is written may stand over"
                assert len(row) > 0.6 * ratio * seen
    assert found == steps(selector, 4000, 4), "the same every time"


@pytest.mark.parametrize("name", TOKENS)
def test_what_is_short_is_read_whole(name: str) -> None:
    selector: TokenSelector = build("selectors", {name: OPTIONS.get(name, {})})
    assert all(len(row) == seen for seen, heads in enumerate(steps(selector, 100, 2), 101) for row in heads)


@pytest.mark.parametrize("name", TOKENS)
def test_wrong_options_are_refused(name: str) -> None:
    for option, value in {"dense_layers": -1, "budget_ratio": 0, "budget_tokens": 0, "latest_tokens": 0}.items():
        with pytest.raises(Exception, match=option):
            build("selectors", {name: {option: value}})
    assert build("selectors", {name: OPTIONS.get(name, {})}).fitted(ModelShape("tiny", 3, 4, 2))
