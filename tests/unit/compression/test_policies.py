"""The policies against what their papers say, done over in plain loops on small cases."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from readthrough.compression.base import KVPolicy, LayerKV
from readthrough.compression.policies.budgets import shared_out
from readthrough.compression.policies.cake import CAKE
from readthrough.compression.policies.dynamickv import DynamicKV
from readthrough.compression.policies.evolkv import EvolKV
from readthrough.compression.policies.h2o import H2O
from readthrough.compression.policies.keydiff import KeyDiff
from readthrough.compression.policies.kvmerger import KVMerger
from readthrough.compression.policies.lacache import LaCache
from readthrough.compression.policies.pagedeviction import PagedEviction
from readthrough.compression.policies.pyramidkv import PyramidKV
from readthrough.compression.policies.random import Random
from readthrough.compression.policies.sage_kv import SageKV
from readthrough.compression.policies.shotkv import ShotKV
from readthrough.compression.selecting import ModelShape
from readthrough.kernels import scores
from readthrough.kernels.attention import attend
from readthrough.spec import build

HEADS, GROUP, WIDTH, SCALE = 2, 3, 8, 0.4


def layer(tokens: int, seed: int, queries: int = 0, sharpness: float = 1.0) -> LayerKV:
    generator = torch.Generator().manual_seed(seed)

    def some(heads: int, count: int) -> torch.Tensor:
        return torch.randn(heads, count, WIDTH, generator=generator, dtype=torch.float64)

    keys, values, asked = some(HEADS, tokens), some(HEADS, tokens), some(HEADS * GROUP, queries or 1) * sharpness
    return LayerKV(keys, values, 0, SCALE, asked if queries else None)


def shares(one: LayerKV) -> torch.Tensor:
    """The attention `[H, W, T]` of the queries, the last of them being of the last token."""
    assert one.queries is not None
    heads, window = one.queries.shape[:2]
    tokens = one.keys.shape[1]
    found = torch.zeros(heads, window, tokens, dtype=torch.float64)
    for head in range(heads):
        for row in range(window):
            seen = tokens - window + row + 1
            dots = [float(one.queries[head, row] @ one.keys[head // GROUP, at]) * SCALE for at in range(seen)]
            top = max(dots)
            total = sum(math.exp(dot - top) for dot in dots)
            for at, dot in enumerate(dots):
                found[head, row, at] = math.exp(dot - top) / total
    return found


def snapped(one: LayerKV, past: int, width: int, pooling: str) -> torch.Tensor:
    """SnapKV's scores `[Hkv, past]`."""
    sums = shares(one).sum(1)[:, :past].unflatten(0, (HEADS, GROUP)).mean(1)
    found = torch.zeros_like(sums)
    for head in range(HEADS):
        for at in range(past):
            near = sums[head, max(0, at - width // 2) : at + width // 2 + 1]
            found[head, at] = near.max() if pooling == "max" else near.sum() / width
    return found


def best(values: torch.Tensor, count: int) -> list[int]:
    order = sorted(range(len(values)), key=lambda at: (-float(values[at]), at))
    return sorted(order[:count])


def kept(policy: KVPolicy, layers: list[LayerKV], tokens: int) -> list[list[list[int]]]:
    return [[numbers.tolist() for numbers in heads] for heads in policy.choose(layers, tokens, 1)]


def test_pyramidkv() -> None:
    layers = [layer(68, seed, queries=8) for seed in range(5)]
    policy = PyramidKV(budget_tokens=28, steepness=10)
    # mean 20 of 60: the last layer keeps 2, the first 38
    counts = [38, 29, 20, 11, 2]
    expected = [
        [best(head, count) for head in snapped(one, 60, 7, "max")] for one, count in zip(layers, counts, strict=True)
    ]
    assert kept(policy, layers, 60) == expected
    # the first would keep more than there is: it keeps all, and the line is flatter
    counts = [len(heads[0]) for heads in kept(replace(policy, budget_tokens=42), layers, 60)]
    assert counts == [60, 47, 34, 21, 8]
    assert {len(heads[0]) for heads in kept(replace(policy, budget_tokens=48), layers, 60)} == {40}, "a short prompt"
    assert {len(heads[0]) for heads in kept(replace(policy, budget_tokens=99), layers, 60)} == {60}


def test_cake() -> None:
    layers = [layer(46, seed, queries=6, sharpness=1 + seed) for seed in range(3)]
    policy = CAKE(budget_tokens=16, window_tokens=6, dispersion=1.6, shift=0.4, variance_weight=50)
    preferences, indicators = [], []
    for one in layers:
        past = shares(one)[:, :, :40]
        entropy = -sum(float(x) * math.log(float(x) + 1e-10) for x in past.flatten())
        mean = past.mean(1)
        variance = ((past - mean[:, None]) ** 2).sum(1) / 5
        preferences.append(entropy ** (1 / 1.6) * float(variance.sum()) ** (1 / 0.4))
        raw = mean + 50 * variance
        pooled = torch.stack([raw[:, max(0, at - 2) : at + 3].sum(1) / 5 for at in range(40)], 1)
        indicators.append(pooled.unflatten(0, (HEADS, GROUP)).mean(1))
    found = kept(policy, layers, 40)
    counts = [len(heads[0]) for heads in found]
    assert sum(counts) == 30
    for count, preference in zip(counts, preferences, strict=True):
        assert abs(count - 30 * preference / sum(preferences)) < 1
    assert found == [[best(head, n) for head in each] for each, n in zip(indicators, counts, strict=True)]


def test_dynamickv() -> None:
    layers = [layer(48, seed, queries=8, sharpness=1 + seed % 3) for seed in range(6)]
    policy = DynamicKV(budget_tokens=18, most_ratio=3, update_layers=4)
    values = [snapped(one, 40, 7, "average") for one in layers]
    sizes = [30.0] * 6
    for end in (4, 6):  # 10 a head on average, of the layers so far; what is shared out is the budget of all six
        flat = sorted((-float(x), index) for index in range(end) for x in values[index].flatten())
        among = [sum(1 for _, index in flat[: 10 * HEADS * end] if index == own) for own in range(end)]
        for index in range(end):
            sizes[index] = min(sizes[index], 60 * among[index] / sum(among))
    found = kept(policy, layers, 40)
    counts = [len(heads[0]) for heads in found]
    assert sum(counts) == 60
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - 60 * size / sum(sizes)) < 2
    assert found == [[best(head, n) for head in each] for each, n in zip(values, counts, strict=True)]


def test_sage_kv() -> None:
    one = layer(40, 0, queries=1)
    policy = SageKV(budget_tokens=18, window_tokens=5, sink_tokens=3)
    mean = shares(one)[:, 0].unflatten(0, (HEADS, GROUP)).mean(1)
    expected = [[0, 1, 2, *(3 + at for at in best(head[3:35], 10))] for head in mean]
    assert kept(policy, [one], 35) == [expected]


def test_h2o() -> None:
    """The latest and the heaviest, by the sums that the kernel makes pass by pass."""
    one = layer(50, 0, queries=50)
    assert one.queries is not None
    attended = torch.zeros(HEADS, 50, dtype=torch.float64)
    for start, end in ((0, 20), (20, 21), (21, 50)):
        q, keys = one.queries[:, start:end], one.keys[:, :end]
        _, lse = attend(q, keys, one.values[:, :end], causal=True, scale=SCALE)
        attended[:, :end] += scores.attention_sums(q, keys, lse, scale=SCALE)
    expected = shares(one).sum(1).unflatten(0, (HEADS, GROUP)).sum(1)
    torch.testing.assert_close(attended, expected)
    heavy = [[*best(head[:40], 10), *range(40, 50)] for head in expected]
    assert kept(H2O(budget_ratio=0.4), [replace(one, attended=attended)], 50) == [heavy]
    # a window that stays in any case is part of the latest
    assert [found[:17] for found in heavy] == kept(
        H2O(budget_ratio=0.4, window_tokens=3), [replace(one, attended=attended)], 47
    )[0]


def test_attention_sums_in_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = layer(41, 3, queries=30)
    assert one.queries is not None
    _, lse = attend(one.queries, one.keys, one.values, causal=True, scale=SCALE)
    expected = shares(one)
    for chunk in (1, 50, 10_000):
        monkeypatch.setattr(scores.mass, "CHUNK_SCORES", chunk)
        monkeypatch.setattr(scores.mass, "CHUNK_QUERIES", 7)
        sums = scores.attention_sums(one.queries, one.keys, lse, scale=SCALE)
        torch.testing.assert_close(sums, expected.sum(1).unflatten(0, (HEADS, GROUP)).sum(1))
        first, second, entropy = scores.window_moments(one.queries, one.keys, scale=SCALE)
        torch.testing.assert_close(first, expected.sum(1))
        torch.testing.assert_close(second, expected.square().sum(1))
        torch.testing.assert_close(entropy, -(expected * (expected + 1e-10).log()).sum((0, 1)))
    with pytest.raises(ValueError, match="lse"):
        scores.attention_sums(one.queries, one.keys, lse[:, :-1], scale=SCALE)


@pytest.mark.parametrize("at", ["piece", "prompt"])
def test_keydiff(at: Any) -> None:
    one = layer(40, 0)
    expected = []
    for keys in one.keys:
        anchor = sum(key / key.norm() for key in keys) / 40
        unlike = torch.stack([-(key @ anchor) / (key.norm() * anchor.norm()) for key in keys])
        expected.append(best(unlike, 10))
    assert kept(KeyDiff(at=at), [one], 40) == [expected]


def test_pagedeviction() -> None:
    one = layer(40, 0)
    ratio = torch.stack(
        [sum(one.values[h, t].norm() / one.keys[h, t].norm() for h in range(HEADS)) for t in range(40)]  # type: ignore[misc]
    )
    assert kept(PagedEviction(), [one], 40) == [[best(ratio, 10)] * HEADS]
    pages = best(torch.stack([ratio[start : start + 5].mean() for start in range(0, 40, 5)]), 2)
    whole = [5 * page + each for page in pages for each in range(5)]
    assert kept(PagedEviction(unit="pages", page_tokens=5), [one], 40) == [[whole] * HEADS]


def ladder(layers: int, tokens: int, cache: int, sink: int, span: int, overlap: int) -> list[list[int]]:
    """What one call of the authors' cache keeps of a prompt, told in places of the text; no compensation."""
    rung = 1 + math.ceil((layers - span) / (span - overlap))
    own = min(math.ceil(span / (span - overlap)), rung)
    gain = rung - own
    room = cache - sink - layers
    over = tokens - cache > room // own * gain
    rungs = room // own if over else math.ceil((tokens - cache) / gain)
    found = []
    for index in range(layers):
        at = [sink + index % (gain + 1) + rung * j + k for j in range(rungs) for k in range(own)]
        held = [*range(sink), *at, *range(sink + rung * rungs, tokens)]
        if over:
            rest = tokens - cache - room // own * gain
            times = math.ceil(rest / (room // own * gain))
            wide = rung + (times - 1) * (rung - 1)
            more = math.ceil(rest / (wide - own))
            again = [sink + index % (wide - own + 1) + wide * j + times * k for j in range(more) for k in range(own)]
            held = [held[place] for place in [*range(sink), *again, *range(sink + wide * more, len(held))]]
        found.append(held)
    return found


@pytest.mark.parametrize(("tokens", "overlap"), [(60, 0), (60, 1), (90, 0), (200, 0)])
def test_lacache(tokens: int, overlap: int) -> None:
    layers = [layer(tokens, 0)] * 6
    policy = LaCache(budget_ratio=None, budget_tokens=40, sink_tokens=4, span_layers=2, overlap_layers=overlap)
    expected = ladder(6, tokens, 40, 4, 2, overlap)
    found = [heads[0] for heads in kept(policy, layers, tokens)]
    assert all(len(each) == 40 for each in found)
    for own, told in zip(found, expected, strict=True):
        assert len(told) > 33 and set(told) <= set(own), "and the latest that it drops, up to the budget"
    assert len({tuple(each) for each in found}) > 2, "layers differ"
    with pytest.raises(ValueError, match="span_layers"):
        policy.fitted(ModelShape("tiny", 2, 4, 2))
    assert policy.fitted(ModelShape("tiny", 6, 4, 2)) is policy


@pytest.mark.parametrize(("layers", "span", "overlap"), [(2, 1, 0), (24, 16, 0), (28, 9, 7), (12, 6, 3)])
def test_every_ladder_keeps_its_budget(layers: int, span: int, overlap: int) -> None:
    policy = LaCache(span_layers=span, overlap_layers=overlap).fitted(ModelShape("tiny", layers, 4, 2))
    for tokens, count in [(1, 0), (50, 3), (300, 30), (1000, 33), (1000, 500), (1000, 999), (1000, 1000)]:
        for index in range(layers):
            found = policy._ladder(index, layers, tokens, count)
            assert len(set(found)) == count and found == sorted(found)


def test_shotkv() -> None:
    one = replace(layer(46, 0, queries=6), starts=torch.tensor([0, 9, 12, 30, 43]))
    policy = ShotKV(budget_tokens=27, window_tokens=6)
    heads = shares(one).sum(1)[:, :40].sum(0)
    shots = [range(9), range(9, 12), range(12, 30), range(30, 40)]
    order = sorted(range(4), key=lambda shot: -float(heads[list(shots[shot])].mean()))
    expected, left = [], 21
    for shot in order:
        if len(shots[shot]) <= left:
            expected += shots[shot]
            left -= len(shots[shot])
    assert kept(policy, [one], 40) == [[sorted(expected)] * HEADS]
    # none fits: the best tokens of the best one
    small = replace(policy, budget_tokens=8)
    only = list(shots[order[0]])
    assert kept(small, [one], 40) == [[[only[at] for at in best(heads[only], 2)]] * HEADS]
    with pytest.raises(ValueError, match="shot_separator"):
        ShotKV(shot_separator="")


def test_evolkv() -> None:
    layers = [layer(68, seed, queries=8) for seed in range(3)]
    policy = EvolKV(budget_tokens=28, layer_ratios=(1, 0.5, 1.5))
    expected = [
        [best(head, count) for head in snapped(one, 60, 7, "max")]
        for one, count in zip(layers, (20, 10, 30), strict=True)
    ]
    assert kept(policy, layers, 60) == expected
    assert EvolKV().fitted(ModelShape("tiny", 7, 4, 2)) == EvolKV()
    with pytest.raises(ValueError, match="evolve_budgets"):
        policy.fitted(ModelShape("tiny", 4, 4, 2))
    with pytest.raises(ValueError, match="layer_ratios"):
        EvolKV(layer_ratios=(1, -1))


def test_kvmerger() -> None:
    one = layer(30, 0)
    keys = torch.cat([one.keys[:, :1].repeat(1, 12, 1) + 0.3 * one.keys[:, :12], one.keys[:, 12:]], 1)
    attended = torch.rand(HEADS, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = replace(one, keys=keys, attended=attended)
    policy = KVMerger(budget_ratio=0.7, heavy_ratio=0.1, recent_ratio=0.2, least_similarity=0.5)
    for head, found in enumerate(policy.compress([one], 30, 1)[0]):
        alone = {*best(attended[head], 2), *range(26, 30)}
        alike = [float(torch.cosine_similarity(keys[head, at], keys[head, at + 1], dim=0)) for at in range(29)]
        may = [at for at in range(29) if alike[at] >= 0.5 and not alone & {at, at + 1}]
        joined = set(sorted(may, key=lambda at: -alike[at])[:9])
        runs: list[list[int]] = []
        for at in range(30):
            if at - 1 in joined:
                runs[-1].append(at)
            else:
                runs.append([at])
        weight = [math.inf if set(run) & alone else float(attended[head, run].sum()) for run in runs]
        runs = [runs[at] for at in sorted(sorted(range(len(runs)), key=lambda at: -weight[at])[:21])]
        assert any(len(run) > 2 for run in runs)
        assert len(found.numbers) == 21
        for run, number, key, value in zip(runs, *found, strict=True):
            pivot = max(run, key=lambda at: float(attended[head, at]))
            assert int(number) == pivot
            far = [float((keys[head, at] - keys[head, pivot]).norm()) for at in run]
            sigma = sum(far) / len(run) / math.sqrt(2)
            gauss = [math.exp(-(x**2) / (2 * sigma**2)) if sigma else 1.0 for x in far]
            for merged, own in ((key, keys), (value, one.values)):
                expected = sum(g / sum(gauss) * own[head, at] for g, at in zip(gauss, run, strict=True))
                torch.testing.assert_close(merged, expected)


def test_random() -> None:
    layers = [layer(400, 0)] * 2
    found = kept(Random(), layers, 400)
    assert found == kept(Random(), layers, 400) and found != kept(Random(seed=1), layers, 400)
    assert found != kept(Random(), [replace(one, first_token=512) for one in layers], 400)
    assert all(len(numbers) == 100 and max(numbers) > 300 and min(numbers) < 100 for each in found for numbers in each)
    assert found[0] != found[1] and found[0][0] != found[0][1]


@pytest.mark.parametrize(
    ("weights", "total", "most", "multiple", "expected"),
    [
        ([1, 1, 1], 10, 100, 1, [4, 3, 3]),
        ([8, 1, 1], 100, 50, 1, [50, 25, 25]),
        ([8, 4, 0], 90, 50, 1, [50, 40, 0]),
        ([0, 0], 9, 100, 1, [5, 4]),
        ([1, 3], 200, 1000, 32, [64, 128]),
        ([5, 1], 1000, 10, 1, [10, 10]),
        ([1], 0, 10, 1, [0]),
    ],
)
def test_sharing_out(weights: list[float], total: int, most: int, multiple: int, expected: list[int]) -> None:
    assert shared_out(weights, total, most, multiple) == expected


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"pyramidkv": {"steepness": 0.5}}, "steepness"),
        ({"pyramidkv": {"pool_tokens": 4}}, "odd"),
        ({"h2o": {"recent_ratio": 2}}, "recent_ratio"),
        ({"sage-kv": {"budget_tokens": 3}}, "budget_tokens"),
        ({"cake": {"shift": 0}}, "shift"),
        ({"cake": {"window_tokens": 1}}, "window_tokens"),
        ({"dynamickv": {"most_ratio": 0.5}}, "most_ratio"),
        ({"pagedeviction": {"unit": "lines"}}, "unit"),
        ({"lacache": {"overlap_layers": 16}}, "overlap_layers"),
        ({"kvmerger": {"least_similarity": 2}}, "least_similarity"),
        ({"random": {"at": "never"}}, "at"),
    ],
)
def test_wrong_options_are_named(spec: Any, said: str) -> None:
    with pytest.raises(Exception, match=said):
        build("policies", spec)
