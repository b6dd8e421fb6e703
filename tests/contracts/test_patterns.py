"""What every attention pattern promises: causal choices, attention over just these, and dense where all is chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern
from readthrough.kernels.attention import reference
from readthrough.kernels.block_sparse import count_blocks
from readthrough.spec import build
from tests.kernel_samples import BUDGET, explicit, inputs

NAMES = catalogue.names("patterns")
SPARSE: dict[str, dict[str, Any]] = {
    "sink-window": {"window_tokens": 256},
    "vertical-slash": {"vertical_tokens": 30, "slash_tokens": 2},
    "block-topk": {"blocks": 3},
    "antidiagonal": {"mass_ratio": 0.5},
    "flexprefill": {"mass_ratio": 0.1, "budget_tokens": 128},
    "critiprefill": {"segment_tokens": 256, "budget_tokens": 128},
    "power-attention": {"window_tokens": 0},
    "sale": {"budget_ratio": 0.25},
    "hip": {"budget_tokens": 128},
    "hyper-attention": {"exact_tokens": 128, "block_tokens": 64, "sample_tokens": 32},
    "random": {"blocks": 3},
}
"""Options under which a text of a few thousand tokens is sparse; a pattern that is added here needs some."""
ALL: dict[str, dict[str, Any]] = {
    "sink-window": {"window_tokens": 1 << 20},
    "vertical-slash": {"slash_tokens": 1 << 20},
    "block-topk": {"blocks": 1 << 20},
    "antidiagonal": {"mass_ratio": 1.0},
    "flexprefill": {"mass_ratio": 1.0},
    "critiprefill": {"budget_tokens": 1 << 20},
    "power-attention": {"window_tokens": 1 << 20},
    "sale": {"threshold": 0.0},
    "hip": {"budget_tokens": 1 << 20},
    "hyper-attention": {"exact_tokens": 1 << 20},
    "random": {"blocks": 1 << 20},
}
"""Options under which everything is kept."""
CHOOSING = [name for name in NAMES if not catalogue.find("patterns", name).estimates]
SHAPES = [(1500, 1500, (2, 3)), (1152, 1152, (1, 7)), (300, 1500, (2, 1)), (130, 1999, (3, 4))]


def pattern(name: str, options: dict[str, Any]) -> AttentionPattern:
    found: AttentionPattern = build("patterns", {name: {"dense_below_tokens": 0, **options}})
    return found


def seen(made: AttentionPattern, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Bool `[H, Tq, Tk]`: what each query sees by a pattern's choice."""
    choice = made.choose(q, k, scale=0.125)
    past, keys = k.shape[1] - q.shape[1], k.shape[1]
    rows = torch.arange(past, keys) // BLOCK_TOKENS - choice.blocks.first_block
    at = torch.arange(keys)
    found = choice.blocks.mask()[:, rows][:, :, at // BLOCK_TOKENS]
    if choice.columns is not None:
        before = at // BLOCK_TOKENS < (torch.arange(past, keys) // BLOCK_TOKENS)[:, None]
        for head, columns in enumerate(choice.columns):
            marked = torch.zeros(keys, dtype=torch.bool)
            marked[columns[columns >= 0]] = True
            found[head] |= marked & before
    own = (at // BLOCK_TOKENS == (torch.arange(past, keys) // BLOCK_TOKENS)[:, None]) & (
        at <= torch.arange(past, keys)[:, None]
    )
    return (found | own).repeat_interleave(q.shape[0] // found.shape[0], 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CHOOSING)
def test_attention_is_over_what_is_chosen(name: str, shape: tuple[int, int, tuple[int, int]]) -> None:
    q, k, v = inputs(*shape)
    made = pattern(name, SPARSE[name])
    marked = seen(made, q, k)
    expected = explicit([q, k, v], marked)
    out, lse = made.attend(q, k, v, layer=0, scale=0.125)
    torch.testing.assert_close(out.double(), expected[0], atol=BUDGET[q.dtype], rtol=0)
    torch.testing.assert_close(lse.double(), expected[1], atol=BUDGET[q.dtype], rtol=0)
    causal = torch.ones(shape[0], shape[1], dtype=torch.bool).tril(shape[1] - shape[0])
    assert not (marked & ~causal).any(), "nothing behind a query is seen"
    if shape[0] > 1000:
        assert marked.sum() < 0.9 * causal.sum() * q.shape[0], "something is left out"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_with_everything_kept_it_is_dense(name: str, shape: tuple[int, int, tuple[int, int]]) -> None:
    q, k, v = inputs(*shape)
    found = pattern(name, ALL[name]).attend(q, k, v, layer=0, scale=0.125)
    dense = reference.attend(q.double(), k.double(), v.double(), causal=True, scale=0.125)
    for one, other in zip(found, dense, strict=True):
        torch.testing.assert_close(one.double(), other, atol=BUDGET[q.dtype], rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_short_texts_and_first_layers_are_dense(name: str) -> None:
    q, k, v = inputs(1500, 1500, (2, 2))
    dense = reference.attend(q, k, v, causal=True, scale=0.125)[0]
    for options, layer in (({"dense_below_tokens": 1500}, 5), ({"dense_below_tokens": 0, "dense_layers": 2}, 1)):
        made: AttentionPattern = build("patterns", {name: {**SPARSE[name], **options}})
        torch.testing.assert_close(made.attend(q, k, v, layer=layer, scale=0.125)[0], dense, atol=1e-5, rtol=0)
    later = pattern(name, {**SPARSE[name], "dense_layers": 2}).attend(q, k, v, layer=2, scale=0.125)[0]
    assert (later - dense).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_choices_have_the_shape_of_the_blocks(name: str) -> None:
    for queries, keys in ((1, 1), (1, 5000), (128, 128), (129, 4097)):
        q, k, _ = inputs(queries, keys, (2, 7))
        choice = pattern(name, SPARSE[name]).choose(q, k, scale=0.125)
        query_blocks, key_blocks = count_blocks(queries, keys, BLOCK_TOKENS)
        assert choice.blocks.key_blocks == key_blocks and choice.blocks.blocks.shape[1] == query_blocks
        assert choice.blocks.blocks.shape[0] in (2, 14)
