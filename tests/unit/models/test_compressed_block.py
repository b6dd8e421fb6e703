"""A compressed block by itself: packed a piece at a time, forked, and read by few or many queries at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readthrough.compression.store import Store
from readthrough.models.local.cache import CompressedBlock, KeptKV
from tests.kernel_samples import check, explicit

HEADS, GROUP, WIDTH = 2, 3, 32
FORMS = ("int8", "int4", "int2", "fp8")


def piece(start: int, end: int, seed: int) -> list[KeptKV]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(HEADS, end - start, WIDTH, generator=generator).bfloat16() for _ in range(2))
    return [KeptKV(tuple(keys), tuple(values), (torch.arange(start, end, dtype=torch.int32),) * HEADS)]


def grown(form: Any, ends: list[int], ragged: bool = False) -> CompressedBlock:
    block = CompressedBlock(HEADS, ragged=ragged, store=Store(form, group=16))
    for start, end in zip([0, *ends], ends, strict=False):
        block = block.extended(start, end, piece(start, end, end))
    return block


def queries(count: int) -> torch.Tensor:
    return torch.randn(HEADS * GROUP, count, WIDTH, generator=torch.Generator().manual_seed(count)).bfloat16()


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_attended_to_is_what_is_read(form: str, ragged: bool) -> None:
    block = grown(form, [512, 528, 2576], ragged)
    q = queries(90)
    for tokens in (512, 528, 2576):
        found = block.read(0, tokens)
        keys, values = (torch.cat([heads[index] for heads in found]) for index in (0, 1))
        expected = explicit([q, keys, values], torch.ones(1, 1, tokens).bool())
        for count in (1, 90):
            own = (expected[0][:, :count], expected[1][:, :count])
            check(block.attend(0, tokens, q[:, :count], 0.125), own, torch.bfloat16)


@pytest.mark.parametrize("form", FORMS)
def test_queries_do_not_depend_on_their_number(form: str) -> None:
    """But for the last place: products of matrices add up in another order where there are fewer rows."""
    block, q = grown(form, [512, 2560]), queries(80)
    together = block.attend(0, 2560, q, 0.125)
    for at in (slice(0, 1), slice(5, 21), slice(10, 75)):
        for alone, beside in zip(block.attend(0, 2560, q[:, at], 0.125), together, strict=True):
            torch.testing.assert_close(alone, beside[:, at], rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_fork_leaves_the_other_as_it_was(form: str) -> None:
    block, q = grown(form, [64, 128]), queries(1)
    before = block.attend(0, 128, q, 0.125)
    other = block.extended(64, 160, piece(64, 160, 7))
    assert other is not block
    for one, two in zip(other.read(0, 64), block.read(0, 64), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    longer = block.extended(128, 256, piece(128, 256, 8))
    assert longer is block
    for now, then in zip(block.attend(0, 128, q, 0.125), before, strict=True):
        assert torch.equal(now, then)
    assert not torch.equal(other.attend(0, 160, q, 0.125)[0], block.attend(0, 128, q, 0.125)[0])
