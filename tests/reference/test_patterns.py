"""Attention patterns against plain restatements of their papers' equations, head by head, in fp64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern
from readthrough.spec import build
from tests.kernel_samples import explicit, inputs

SCALE = 0.6
"""Large for the width, so that attention is uneven."""
Blocks = set[tuple[int, int]]
"""Pairs of a query block, by its number in the text, and a key block before it."""


def pattern(name: str, **options: Any) -> AttentionPattern:
    made: AttentionPattern = build("patterns", {name: {"dense_below_tokens": 0, **options}})
    return made


def sample(queries: int, keys: int, heads: tuple[int, int] = (2, 2)) -> list[torch.Tensor]:
    return inputs(queries, keys, heads, torch.float64, 16)


def chosen(made: AttentionPattern, q: torch.Tensor, k: torch.Tensor, layer: int = 0, notes: Any = None) -> list[Blocks]:
    """What each query head sees."""
    choice = made.choose_at(q, k, layer=layer, scale=SCALE, notes={} if notes is None else notes)
    mask = choice.blocks.mask().repeat_interleave(q.shape[0] // choice.blocks.blocks.shape[0], 0)
    return [{(row + choice.blocks.first_block, at) for row, at in head.nonzero().tolist()} for head in mask]


def spans(tokens: int, past: int = 0) -> dict[int, slice]:
    """The rows of each block, of the tokens from `past` on."""
    numbers = range(past // BLOCK_TOKENS, -(-tokens // BLOCK_TOKENS))
    return {b: slice(max(0, b * BLOCK_TOKENS - past), (b + 1) * BLOCK_TOKENS - past) for b in numbers}


def means(x: torch.Tensor, past: int = 0) -> dict[int, torch.Tensor]:
    return {block: x[rows].mean(0) for block, rows in spans(past + len(x), past).items()}


def flexprefill(q: torch.Tensor, k: torch.Tensor, gamma: float, least: int) -> tuple[float, Blocks, Blocks]:
    """A head's divergence, the lines and slashes that it sees, and what it sees if it is query-aware."""
    tokens, past, count = len(k), len(k) - len(q), -(-len(k) // BLOCK_TOKENS)
    vertical, slash = torch.zeros(tokens, dtype=q.dtype), torch.zeros(tokens, dtype=q.dtype)
    for at in range(tokens - BLOCK_TOKENS, tokens):
        shares = (k[: at + 1] @ q[at - past] * SCALE).softmax(0) / BLOCK_TOKENS
        vertical[: at + 1] += shares
        slash[: at + 1] += shares.flip(0)

    def number(mass: torch.Tensor) -> int:
        held, needed = 0.0, 0
        for share in sorted(mass.tolist(), reverse=True):
            needed += 1
            held += share
            if held > gamma:
                break
        return min(max(needed // BLOCK_TOKENS + 1, least), count)

    lines = [float(vertical[rows].sum()) for rows in spans(tokens).values()]
    # slashes are cut from the position that the last query has at a distance
    slashes = [float(slash.flip(0)[rows].sum()) for rows in spans(tokens).values()][::-1]
    estimate = torch.stack([key @ q[-BLOCK_TOKENS:].mean(0) * SCALE for key in means(k).values()]).softmax(0).tolist()
    pairs = zip(estimate, lines, strict=True)
    halves = [(p * math.log(2 * p / (p + o)) + o * math.log(2 * o / (p + o))) / 2 for p, o in pairs]
    lines[0] = slashes[0] = math.inf

    def seen(vertical_blocks: int, slash_blocks: int) -> Blocks:
        best = sorted(range(count), key=lambda block: -lines[block])[:vertical_blocks]
        back = sorted(range(count), key=lambda block: -slashes[block])[:slash_blocks]
        every = {(row, at) for row in spans(tokens, past) for at in range(row)}
        return {(row, at) for row, at in every if at in best or row - at in back}

    rows = means(q, past)
    shares: dict[tuple[int, int], float] = {}
    for row, query in rows.items():
        found = torch.stack([key @ query * SCALE for at, key in means(k).items() if at <= row]).softmax(0)
        shares |= {(row, at): float(share) for at, share in enumerate(found)}
    aware, held = seen(least, least), 0.0
    for pair in sorted(shares, key=lambda pair: -shares[pair]):
        held += shares[pair]
        if held > gamma * len(rows):
            break
        aware |= {pair} if pair[0] > pair[1] else set()
    return math.sqrt(max(0.0, sum(halves))), seen(number(vertical), number(slash)), aware


@pytest.mark.parametrize("shape", [(640, 640), (300, 1100)], ids=str)
def test_flexprefill(shape: tuple[int, int]) -> None:
    q, k, _ = sample(*shape)
    expected = [flexprefill(q[head], k[head // 2], 0.6, 2) for head in range(4)]
    ordered = sorted(divergence for divergence, _, _ in expected)
    for border in (0.0, (ordered[1] + ordered[2]) / 2, 1.0):
        made = pattern("flexprefill", mass_ratio=0.6, budget_tokens=2 * BLOCK_TOKENS, divergence=border)
        assert chosen(made, q, k) == [aware if far < border else lines for far, lines, aware in expected]
    assert len({frozenset(lines) for _, lines, _ in expected}) > 1, "heads differ"


def criticality(q: torch.Tensor, k: torch.Tensor, segment: int) -> torch.Tensor:
    """Of one segment's queries `[G, n, D]` for the blocks before it."""
    high, low = q.amax(1), q.amin(1)
    found = []
    for block in range(segment * 2):
        keys = k[block * BLOCK_TOKENS : (block + 1) * BLOCK_TOKENS]
        ends = [((high @ end) + (low @ end)) / 2 for end in (keys.amax(0), keys.amin(0))]
        found.append(torch.maximum(*ends).mean())
    return torch.stack(found).softmax(0)


@pytest.mark.parametrize("shape", [(1000, 1000), (600, 1100)], ids=str)
def test_critiprefill_with_layers_fused(shape: tuple[int, int]) -> None:
    made = pattern("critiprefill", segment_tokens=256, budget_tokens=200, fused_ratio=0.25)
    notes: dict[str, torch.Tensor] = {}
    before: dict[tuple[int, int], torch.Tensor] = {}
    for layer in range(4):
        q, k, _ = (tensor.roll(layer, -1) for tensor in sample(*shape))
        past, rows = shape[1] - shape[0], spans(shape[1], shape[1] - shape[0])
        expected: list[Blocks] = [set() for _ in range(4)]
        for head in (0, 1):
            for segment in range(past // 256, -(-shape[1] // 256)):
                queries = q[2 * head : 2 * head + 2, max(0, segment * 256 - past) : (segment + 1) * 256 - past]
                first = segment * 2
                own = {(row, at) for row in rows if row // 2 == segment for at in range(first, row)}
                if segment:
                    found = criticality(queries, k[head], segment)
                    if layer > 1:
                        found = 0.25 * before[head, segment] + 0.75 * found
                    before[head, segment] = found
                    best = sorted(range(first), key=lambda block: -float(found[block]))[:2]
                    own |= {(row, at) for row in rows if row // 2 == segment for at in best}
                expected[2 * head] |= own
                expected[2 * head + 1] |= own
        assert chosen(made, q, k, layer, notes) == expected


def test_power_attention() -> None:
    q, k, _ = sample(100, 2500, (1, 1))
    assert chosen(pattern("power-attention", sink_tokens=0, window_tokens=0), q, k) == [
        {(18, 17), (18, 16), (18, 14), (18, 10), (18, 2), (19, 18), (19, 17), (19, 15), (19, 11), (19, 3)}
    ]
    wide = chosen(pattern("power-attention", sink_tokens=1, window_tokens=400), q, k)[0]
    assert {at for row, at in wide if row == 19} == {0, 3, 11, 15, 16, 17, 18}
    shared = chosen(pattern("power-attention", budget_ratio=0.5), q, k)[0]
    assert {at for row, at in shared if row == 19} == {0, 3, *range(11, 19)}, "ten of twenty"


def low(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([(row * 7 / row.abs().max()).round() * row.abs().max() / 7 for row in x])


def test_sale() -> None:
    q, k, _ = sample(300, 700)
    past = 400
    relative: list[dict[tuple[int, int], float]] = []
    for head in range(4):
        queries, keys = q[head], k[head // 2]
        middle, base = queries.mean(0), keys.mean(0)
        estimated = low(queries - middle) @ low(keys - base).T + (keys - base) @ middle
        exact = queries @ (keys - base).T
        peaks = dict.fromkeys(((row, at) for row in spans(700, past) for at in range(row + 1)), -math.inf)
        for at in range(past, 700):
            own = at // BLOCK_TOKENS
            near = [key for key in range(at + 1) if key // BLOCK_TOKENS in (0, own - 1, own)]
            total = (exact[at - past, near] * SCALE).logsumexp(0)
            for block in range(own + 1):
                one = estimated[at - past, block * BLOCK_TOKENS : (block + 1) * BLOCK_TOKENS].max() * SCALE - total
                peaks[own, block] = max(peaks[own, block], math.exp(one))
        relative.append(peaks)
    middle_share = sorted(share for peaks in relative for pair, share in peaks.items() if 0 < pair[1] < pair[0] - 1)
    threshold = middle_share[len(middle_share) // 2] * 1.0001
    alone = [
        {(row, at) for (row, at), share in peaks.items() if at < row and (share >= threshold or at in (0, row - 1))}
        for peaks in relative
    ]
    assert chosen(pattern("sale", threshold=threshold, shared=False), q, k) == alone
    both = [alone[0] | alone[1], alone[2] | alone[3]]
    assert chosen(pattern("sale", threshold=threshold), q, k) == [both[0], both[0], both[1], both[1]]
    assert both[0] != both[1] and alone[0] != alone[1]


def search(q: torch.Tensor, k: torch.Tensor, blocks: range, count: int) -> set[int]:
    """HiP's algorithm, node by node; `q` and `k` are those that are looked at, `k` a list of blocks."""
    size = len(blocks) / count
    nodes = [(int(size * i), int(size * (i + 1)) - int(size * i)) for i in range(count)]
    while max(width for _, width in nodes) > 1:
        halves = [half for start, n in nodes for half in ((start, n // 2), (start + n // 2, n - n // 2)) if half[1]]
        halves.sort(key=lambda half: -float((q @ k[blocks[half[0]]].T).max()))
        nodes = halves[:count]
    return {blocks[start] for start, _ in nodes}


@pytest.mark.parametrize("shared", [True, False])
def test_hip(shared: bool) -> None:
    q, k, _ = sample(200, 1900)
    made = pattern("hip", budget_tokens=300, window_tokens=100, sink_tokens=1, stride_tokens=8, shared=shared)
    expected: list[Blocks] = [set() for _ in range(4)]
    for head in range(4):
        heads = slice(head // 2 * 2, head // 2 * 2 + 2) if shared else slice(head, head + 1)
        keys = [k[head // 2, block * BLOCK_TOKENS : (block + 1) * BLOCK_TOKENS : 8] for block in range(14)]
        for row, rows in spans(1900, 1700).items():
            queries = q[heads, rows]
            found = search(queries[:, 7::8].flatten(0, 1), torch.stack(keys), range(1, row - 1), 3)
            expected[head] |= {(row, at) for at in {0, row - 1, *found}}
    assert chosen(made, q, k) == expected


def test_random_is_the_same_whatever_is_read_together() -> None:
    q, k, _ = sample(1500, 1500)
    made = pattern("random", blocks=4, seed=3)
    whole = chosen(made, q, k)
    assert [{pair for pair in head if pair[0] >= 8} for head in whole] == chosen(made, q[:, 1024:], k)
    assert chosen(made, q, k, layer=1) != whole != chosen(pattern("random", blocks=4), q, k)
    assert all(len([pair for pair in head if pair[0] == 11]) == 4 for head in whole), "and its own"


class Restated:
    """HyperAttention's weights: how often each query counts each key, `[H, Tq, Tk]`."""

    def __init__(self, width: int, sample: int, exact: int, depth: int) -> None:
        self.width, self.sample, self.exact = width, sample, exact
        self.generator = torch.Generator().manual_seed(0)
        self.directions = torch.randn(depth, 7, generator=self.generator).double()

    def order(self, x: torch.Tensor) -> list[int]:
        numbers = []
        for row in x:
            number = sum(1 << bit for bit in range(7) if float(row @ self.directions[:, bit]) > 0)
            numbers.append(next(place for place in range(128) if place ^ (place >> 1) == number))
        return sorted(range(len(x)), key=lambda row: numbers[row])

    def whole(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        heads, queries, keys = q.shape[0], q.shape[1], k.shape[1]
        counts = torch.ones(heads, queries, keys, dtype=q.dtype)
        if queries * keys <= self.exact**2:
            return counts
        rows = math.ceil(queries / math.ceil(keys / self.width))
        drawn = torch.randint(keys, (heads, self.sample), generator=self.generator).tolist()
        for head in range(heads):
            order = self.order(k[head])
            for place, query in enumerate(self.order(q[head])):
                block = place // rows
                for at, key in enumerate(order):
                    inside = at // self.width == block
                    counts[head, query, key] = 1 if inside else drawn[head].count(at) * keys / self.sample
        return counts

    def causal(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        tokens = q.shape[1]
        counts = torch.ones(q.shape[0], tokens, tokens, dtype=q.dtype).tril()
        if tokens > self.exact:
            half = (tokens + 1) // 2
            counts[:, :half, :half] = self.causal(q[:, :half], k[:, :half])
            counts[:, half:, half:] = self.causal(q[:, half:], k[:, half:])
            counts[:, half:, :half] = self.whole(q[:, half:], k[:, :half])
        return counts


@pytest.mark.parametrize("shape", [(101, 101), (60, 150)], ids=str)
def test_hyper_attention(shape: tuple[int, int]) -> None:
    q, k, v = sample(*shape, heads=(1, 2))
    made = pattern("hyper-attention", block_tokens=8, sample_tokens=12, exact_tokens=30)
    past, restated = shape[1] - shape[0], Restated(8, 12, 30, 16)
    keys = k.repeat_interleave(2, 0)
    counts = restated.causal(q, keys[:, past:])
    if past:
        counts = torch.cat([restated.whole(q, keys[:, :past]), counts], 2)
    weights = counts * (q @ keys.mT * SCALE).exp()
    expected = weights @ v.repeat_interleave(2, 0) / weights.sum(-1, keepdim=True)
    out, lse = made.attend(q, k, v, layer=0, scale=SCALE)
    torch.testing.assert_close(out, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(lse.double(), weights.sum(-1).log(), atol=1e-5, rtol=0)
    dense = explicit([q, k, v], torch.ones(2, *shape, dtype=torch.bool).tril(past), SCALE)
    assert (out - dense[0]).abs().max() > 1e-3


BAD = [
    ("flexprefill", {"mass_ratio": 0}, "mass_ratio"),
    ("flexprefill", {"budget_tokens": 0}, "budget_tokens"),
    ("critiprefill", {"segment_tokens": 200}, "multiple of 128"),
    ("critiprefill", {"fused_ratio": 1.0}, "fused_ratio"),
    ("power-attention", {"window_tokens": -1}, "window_tokens"),
    ("sale", {"threshold": -0.1}, "threshold"),
    ("hip", {"stride_tokens": 3}, "divide 128"),
    ("hyper-attention", {"hash_bits": 25}, "hash_bits"),
    ("random", {"blocks": 0}, "blocks"),
    *((name, {"budget_ratio": 1.5}, "budget_ratio") for name in ("flexprefill", "critiprefill", "power-attention")),
    *((name, {"budget_ratio": 0.0}, "budget_ratio") for name in ("sale", "hip", "hyper-attention", "random")),
]


@pytest.mark.parametrize(("name", "options", "said"), BAD, ids=[f"{name}-{said}" for name, _, said in BAD])
def test_bad_options_are_named(name: str, options: dict[str, Any], said: str) -> None:
    from readthrough.compression.plan import Plan
    from readthrough.errors import ConfigError

    with pytest.raises(ConfigError, match=said):
        Plan.of({"select": {name: options}})


@pytest.mark.parametrize("name", ["flexprefill", "critiprefill", "power-attention", "sale", "hip", "random"])
def test_a_budget_is_a_share_of_the_text(name: str) -> None:
    q, k, _ = sample(256, 40 * BLOCK_TOKENS, (1, 2))
    for ratio in (0.25, 0.5):
        for head in chosen(pattern(name, budget_ratio=ratio), q, k):
            assert ratio * 30 <= len(head) <= ratio * 2 * 40 + 8, "of two query blocks"
