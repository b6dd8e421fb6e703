"""What every policy keeps: tokens that there are, in order, in the numbers that can be stored, the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.base import KVPolicy, LayerKV
from readthrough.spec import build, options_of

NAMES = catalogue.names("policies")
HEADS, GROUP, WIDTH, LAYERS = 3, 4, 16, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "duo-attention": {"calibration": str(Path(__file__).parents[1] / "fixtures" / "heads_2x12.json")},
}
"""What a policy needs to be asked by itself."""


def layers(policy: KVPolicy, tokens: int, first_token: int = 0) -> list[LayerKV]:
    generator = torch.Generator().manual_seed(tokens)

    def some(heads: int, count: int) -> torch.Tensor:
        return torch.randn(heads, count, WIDTH, generator=generator)

    window = min(policy.query_tokens, tokens)
    return [
        LayerKV(
            some(HEADS, tokens),
            some(HEADS, tokens),
            first_token,
            0.25,
            some(HEADS * GROUP, window) if window else None,
            torch.rand(HEADS, tokens, generator=generator) if policy.probe else None,
            torch.rand(HEADS, tokens, generator=generator) if policy.accumulates else None,
            torch.arange(0, tokens, 11) if policy.separator else None,
        )
        for _ in range(LAYERS)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tokens", "multiple"), [(1, 1), (63, 1), (2048, 1), (2048, 32), (40, 64)])
@pytest.mark.parametrize("first_token", [0, 2048])
def test_choices(name: str, tokens: int, multiple: int, first_token: int) -> None:
    policy: KVPolicy = build("policies", name, OPTIONS.get(name))
    total = tokens + policy.window_tokens
    given = layers(policy, total, first_token)
    chosen = policy.choose(given, tokens, multiple)
    assert len(chosen) == LAYERS
    for heads in chosen:
        assert len(heads) == HEADS
        for numbers in heads:
            assert not numbers.is_floating_point() and len(numbers) % multiple == 0
            assert numbers.tolist() == sorted(set(numbers.tolist()))
            assert not len(numbers) or (numbers[0] >= 0 and numbers[-1] < tokens)
        assert policy.ragged or len({len(numbers) for numbers in heads}) == 1
    for layer, heads, numbers in zip(given, policy.compress(given, tokens, multiple), chosen, strict=True):
        for head, at in zip(heads, numbers, strict=True):
            assert torch.equal(head.numbers, at)
            assert head.keys.shape == head.values.shape == (len(at), WIDTH) and head.keys.dtype == layer.keys.dtype
    again = policy.choose(layers(policy, total, first_token), tokens, multiple)
    pairs = [(a, b) for one, other in zip(chosen, again, strict=True) for a, b in zip(one, other, strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)


BUDGETED = [name for name in NAMES if "budget_ratio" in options_of(catalogue.find("policies", name))]


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("multiple", [1, 32])
def test_no_more_than_the_budget_is_kept(name: str, ratio: float, multiple: int) -> None:
    policy: KVPolicy = build("policies", {name: {"budget_ratio": ratio}}, OPTIONS.get(name))
    total = 3000 + policy.window_tokens
    given = layers(policy, total)
    chosen = policy.choose(given, 3000, multiple)
    kept = sum(len(numbers) for heads in chosen for numbers in heads) + LAYERS * HEADS * policy.window_tokens
    assert kept <= ratio * total * LAYERS * HEADS
    assert kept > 0.85 * ratio * total * LAYERS * HEADS
    if ratio == 1 and multiple == 1:
        assert kept == total * LAYERS * HEADS


@pytest.mark.parametrize("name", NAMES)
def test_options_that_are_too_small_are_refused(name: str) -> None:
    refused: dict[str, Any] = {"window_tokens": -1}
    if name in BUDGETED:
        refused["budget_ratio"] = 0
    for option, value in refused.items():
        with pytest.raises(Exception, match=option):
            build("policies", {name: {option: value}})
