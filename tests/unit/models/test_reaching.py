"""Positions that bring their own attention: what the engine computes against the papers' definitions, in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readthrough import catalogue
from readthrough.compression.positions.lm_infinite import LMInfinite
from readthrough.compression.positions.reaching import Reaching
from readthrough.compression.positions.reattention import ReAttention
from readthrough.compression.positions.self_extend import SelfExtend
from readthrough.errors import ConfigError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.cache import Sequence
from readthrough.models.local.jobs import Job
from readthrough.models.local.positions import Reachings
from tests import tiny_models

TRAINED, WIDTH, SCALE = 128, 16, 0.3
FREQUENCIES = 100.0 ** -(torch.arange(8, dtype=torch.float64) / 8)

Rule = Callable[[int, int], float | None]
"""The distance at which the query of one token reads the key of another; None where it does not."""


def explicit(qkv: list[torch.Tensor], rule: Rule) -> torch.Tensor:
    """Attention `[H, T, D]` in fp64, pair by pair."""
    q, k, v = (x.double() for x in qkv)
    tokens, half = q.shape[1], WIDTH // 2
    k, v = (x.repeat_interleave(q.shape[0] // k.shape[0], 0) for x in (k, v))
    query, key = (torch.complex(x[..., :half], x[..., half:]) for x in (q, k))
    distances = torch.full((tokens, tokens), torch.nan, dtype=torch.float64)
    for m in range(tokens):
        for j in range(m + 1):
            found = rule(m, j)
            distances[m, j] = torch.nan if found is None else found
    angles = distances.nan_to_num().unsqueeze(-1) * FREQUENCIES
    turns = torch.polar(torch.ones_like(angles), angles)
    scores = torch.einsum("hir,hjr,ijr->hij", query, key.conj(), turns).real * SCALE
    return scores.masked_fill(distances.isnan(), -torch.inf).softmax(-1) @ v


def random_qkv(tokens: int, heads: int = 2, group: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(heads * group, tokens, WIDTH), (heads, tokens, WIDTH), (heads, tokens, WIDTH)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def computed(positions: Reaching, qkv: list[torch.Tensor], steps: list[int]) -> torch.Tensor:
    """What passes of so many tokens compute, the sequence being forked between them."""
    out, sequence, start = torch.full_like(qkv[0], torch.nan), Sequence(), 0
    for step in steps:
        rows = slice(start, min(start + step, out.shape[1]))
        laid = Reachings(positions, FREQUENCIES.float()).lay([(sequence, slice(0, rows.stop - rows.start))])
        found = torch.empty_like(qkv[0][:, rows])
        laid.attend(0, tuple(x[:, rows] for x in qkv), found, SCALE)
        assert not laid.places.any()
        out[:, rows] = found
        sequence.commit(rows.stop - rows.start)
        sequence, start = sequence.fork(), rows.stop
    assert start == out.shape[1]
    return out


def self_extend_rule(group: int, near: int) -> Rule:
    def rule(m: int, j: int) -> float:
        return m - j if m - j < near else m // group - j // group + near - near // group

    return rule


def lm_infinite_rule(sinks: int, local: int, ceiling: int, ratio: float | None) -> Rule:
    def rule(m: int, j: int) -> float | None:
        width = local if ratio is None else min(local, math.ceil(ratio * (m + 1)))
        if m - j < width:
            return m - j
        return min(width, ceiling) if j < sinks else None

    return rule


STEPS = [[200], [70, 1, 1, 16, 17, 95], [130] + [1] * 70]


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: str(len(steps)))
@pytest.mark.parametrize(("group", "near"), [(3, 40), (7, 33), (1, 64)])
def test_self_extend(steps: list[int], group: int, near: int) -> None:
    qkv = random_qkv(200)
    found = computed(SelfExtend(group, near).fitted(TRAINED), qkv, steps)
    torch.testing.assert_close(found.double(), explicit(qkv, self_extend_rule(group, near)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: str(len(steps)))
@pytest.mark.parametrize(
    ("sinks", "local", "ceiling", "ratio"), [(10, 50, 50, None), (3, 30, 20, None), (10, 0, 0, 0.25)]
)
def test_lm_infinite(steps: list[int], sinks: int, local: int, ceiling: int, ratio: float | None) -> None:
    qkv = random_qkv(200)
    positions = LMInfinite(sinks, local, ratio, ceiling).fitted(TRAINED)
    rule = lm_infinite_rule(sinks, local or TRAINED, ceiling or TRAINED - 1, ratio)
    torch.testing.assert_close(computed(positions, qkv, steps).double(), explicit(qkv, rule), atol=2e-5, rtol=0)


def reattention_read(qkv: list[torch.Tensor], first: int, end: int, made: ReAttention) -> list[int]:
    """Which tokens the queries from `first` to `end` read, as the paper's section 3 and its code say it."""
    q, k = qkv[0].tolist(), qkv[1].tolist()
    low, high = made.sink_tokens, end - made.local_tokens
    if high <= low:
        return list(range(end))
    votes = [0] * (high - low)
    for head in range(len(q)):
        keys = k[head // 2][low:high]
        for m in range(first, end):
            products = [sum(a * b for a, b in zip(q[head][m], key, strict=True)) for key in keys]
            for best in sorted(range(len(keys)), key=lambda at: -products[at])[: made.votes]:
                votes[best] += 1
    most = made.spans
    if made.budget_ratio is not None:
        most = min(most, max(1, int(made.budget_ratio * end) // made.span_tokens))
    centres = sorted((at for at, count in enumerate(votes) if count), key=lambda at: (-votes[at], at))[:most]
    half = made.span_tokens // 2
    spans = {min(max(at + off, 0), len(votes) - 1) for at in centres for off in range(-half, made.span_tokens - half)}
    return [*range(low), *(at + low for at in sorted(spans)), *range(high, end)]


@pytest.mark.parametrize("ratio", [None, 0.1])
@pytest.mark.parametrize("steps", [[64, 64, 64, 8], [60, *[1] * 40, 40, 60], [48, 48, 16, 48, 40]], ids=str)
def test_reattention(steps: list[int], ratio: float | None) -> None:
    qkv = random_qkv(200)
    made = ReAttention(4, 64, 3 if ratio is None else 9, ratio, 5, 2, 128)
    asking, start = {}, 0  # which queries choose together: up to 16 tokens each for themselves
    for step in steps:
        for at in range(start, start + step):
            asking[at] = (start, start + step) if step > 16 else (at, at + 1)
        start += step
    reads = {span: reattention_read(qkv, *span, made) for span in set(asking.values())}
    places = {span: {token: place for place, token in enumerate(read)} for span, read in reads.items()}
    assert min(len(read) for (_, end), read in reads.items() if end == 200) < 120

    def rule(m: int, j: int) -> float | None:
        placed = places[asking[m]]
        return placed[m] - placed[j] if j in placed else None

    torch.testing.assert_close(computed(made, qkv, steps).double(), explicit(qkv, rule), atol=2e-5, rtol=0)


# --- whole models

NAMES = [name for name in catalogue.names("positions") if issubclass(catalogue.find("positions", name), Reaching)]
SMALL: dict[str, dict[str, Any]] = {
    "self-extend": {"neighbour_tokens": 40, "group_tokens": 4},
    "lm-infinite": {"local_tokens": 60},
    "reattention": {"local_tokens": 256, "spans": 2, "span_tokens": 8, "queries_tokens": 128},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def opened(folder: str, plan: Any, **options: Any) -> LocalModel:
    return LocalModel(folder, device="cpu", plan=plan, **options)


def logits(model: LocalModel, tokens: np.ndarray) -> torch.Tensor:
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        model._engine.run([Job(tokens, 0, lambda offset, rows: found.append(rows.clone()))])
    return torch.cat(found)


@pytest.mark.parametrize("name", NAMES)
def test_short_texts_are_read_as_without_and_long_ones_otherwise(folder: str, name: str) -> None:
    plan = {"positions": {name: SMALL[name]}}
    tokens = np.random.default_rng(1).integers(3, 400, 420)
    found, dense = logits(opened(folder, plan), tokens), logits(opened(folder, None), tokens)
    most = dense.abs().max()
    assert (found - dense)[:40].abs().max() < 1e-4 * most
    assert (found - dense)[400:].abs().max() > 1e-3 * most
    again = logits(opened(folder, plan, forward_tokens=256), tokens)
    assert (found - again).abs().max() < 1e-4 * most, "however it is cut"


@pytest.mark.parametrize("name", NAMES)
def test_a_reply_does_not_depend_on_drafts_or_what_is_kept(folder: str, name: str) -> None:
    plan = {"positions": {name: SMALL[name]}}
    asked = [Request.user(f"{tiny_models.TEXT * 3} {question}", max_tokens=24) for question in ("Who?", "When?")]
    model = opened(folder, plan)
    first = [reply.text for reply in model.complete(asked)]
    assert [model.complete([request])[0].text for request in asked] == first
    assert [reply.text for reply in opened(folder, plan, draft_tokens=0).complete(asked)] == first
    assert model.plan_name.startswith(f"positions={name}(")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"self-extend": {"neighbour_tokens": 2048}}, "trained with texts of 2048 tokens"),
        ({"self-extend": {"factor": 0.5}}, "factor"),
        ({"lm-infinite": {"local_tokens": 4096}}, "trained with texts of 2048 tokens"),
        ({"lm-infinite": {"ceiling_tokens": 2048}}, "trained with texts of 2048 tokens"),
        ({"lm-infinite": {"budget_ratio": 1.5}}, "budget_ratio"),
        ({"reattention": {"spans": 100}}, "no room"),
        ({"reattention": {"local_tokens": 300}}, "choose together"),
        ({"reattention": {"queries_tokens": 100}}, "multiple of 128"),
        ({"reattention": {"budget_ratio": 0}}, "budget_ratio"),
    ],
    ids=str,
)
def test_what_a_model_cannot_serve_is_refused(folder: str, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(folder, {"positions": spec})


@pytest.mark.parametrize("name", NAMES)
def test_models_with_a_sliding_window_and_other_parts_are_refused(tmp_path: Path, name: str) -> None:
    sliding = tiny_models.save(tmp_path, "Mistral", sliding_window=64)
    with pytest.raises(ConfigError, match="sliding window"):
        opened(str(sliding), {"positions": name})
    with pytest.raises(ConfigError, match="cannot be combined with keep"):
        opened(str(sliding), {"positions": name, "keep": "snapkv"})


def test_how_long_a_text_may_be() -> None:
    fitted = SelfExtend(0, 1024, 4.0).fitted(4096)
    assert fitted.group_tokens == 6 and fitted.window_tokens(4096) == 16384
    assert SelfExtend(4, 1024, 8.0).fitted(4096).window_tokens(4096) == (4096 - 1024) * 4 + 1024
    last = fitted.window_tokens(4096) - 1
    assert last // 6 + 1024 - 1024 // 6 <= 4095
    assert SelfExtend(5, 1024).fitted(4096).window_tokens(4096) == (4096 - 1024 + 1024 // 5) * 5
    usual = ReAttention().fitted(8192)
    assert (usual.local_tokens, usual.spans) == (4096, 96), "as in the authors' settings"
