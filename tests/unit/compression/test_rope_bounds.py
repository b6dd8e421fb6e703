"""How long a text a rotary base is good for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from readthrough.compression.positions.bounds import discerned_tokens, known_tokens, notices
from readthrough.kernels.rotary import linear_frequencies, ntk_frequencies, plain_frequencies
from readthrough.models.local.backend import LocalModel
from readthrough.types import Event
from tests import tiny_models


@pytest.mark.parametrize(("base", "tokens"), [(4.3e3, 1024), (1.6e4, 2048), (2.7e4, 4096), (8.4e4, 8192)])
def test_the_lower_bounds_of_the_paper(base: float, tokens: int) -> None:
    """Table 2 of arXiv 2405.14591, for heads of 128 channels: these bases suffice, nine tenths of them do not."""
    assert discerned_tokens(plain_frequencies(128, base).inverse, tokens) >= 0.99 * tokens
    assert discerned_tokens(plain_frequencies(128, base * 0.9).inverse, tokens) < 0.98 * tokens


def test_against_a_plain_loop() -> None:
    found = discerned_tokens(plain_frequencies(32, 500.0).inverse, 5000)
    sums = [sum(math.cos(m * 500.0 ** (-2 * i / 32)) for i in range(16)) for m in range(found + 1)]
    assert all(value >= 0 for value in sums[:-1]) and sums[-1] < 0


def test_angles_that_are_new() -> None:
    plain = plain_frequencies(128, 10000.0).inverse
    assert known_tokens(plain, plain, 4096) == 4096
    assert known_tokens(plain, linear_frequencies(128, 10000.0, 4).inverse, 4096) == pytest.approx(4 * 4096)
    # the critical dimension of Llama 2 is 92 (arXiv 2310.05209): pair 46 is the first that never turned once
    assert known_tokens(plain, ntk_frequencies(128, 10000.0, 4).inverse, 4096) == pytest.approx(
        4096 * 4 ** (46 * 2 / 126), rel=1e-4
    )
    assert known_tokens(plain[:40], plain[:40], 4096) == math.inf


def test_nothing_is_said_of_what_stays_within() -> None:
    plain = plain_frequencies(128, 10000.0).inverse
    assert notices(plain, plain, 4096, 4096) == []
    assert len(notices(plain, plain, 4096, 8192)) == 2


def test_a_plan_beyond_is_told_when_the_model_is_loaded(tmp_path: Path) -> None:
    folder = str(tiny_models.save(tmp_path))
    for plan, count in (({"ntk": {"factor": 4.0}}, 2), ("self-extend", 0), ("lm-infinite", 0), ("dual-chunk", 0)):
        events: list[Event] = []
        LocalModel(folder, device="cpu", plan={"positions": plan}, on_event=events.append)
        said = [event.note for event in events if event.stage == "warning"]
        assert len(said) == count, said
        assert all("ntk" in note and "8192 tokens" in note for note in said)
