"""A deadline in the local engine: a pass that cannot end in time is not begun."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from readthrough.errors import BudgetError
from readthrough.models.base import Request
from readthrough.models.deadline import deadline
from readthrough.models.local.backend import LocalModel
from tests import tiny_models

PASS_SECONDS = 0.4


@pytest.mark.parametrize(("seconds", "passes"), [(1.5, 3), (0.2, 1)])
def test_a_prompt_is_given_up_in_time(tmp_path: Path, seconds: float, passes: int) -> None:
    model = LocalModel(str(tiny_models.save(tmp_path)), device="cpu", forward_tokens=256)
    forward, begun = model._loaded.model.forward, []

    def slow(*args: Any, **kw: Any) -> Any:
        begun.append(time.monotonic())
        time.sleep(PASS_SECONDS)
        return forward(*args, **kw)

    model._loaded.model.forward = slow
    with deadline(time.monotonic() + seconds, "max_seconds"), pytest.raises(BudgetError, match="max_seconds"):
        model.complete([Request.user(tiny_models.TEXT * 16, max_tokens=4)])
    assert len(begun) == passes
    if passes > 1:
        assert begun[-1] - begun[0] + PASS_SECONDS < seconds, "the last pass ended in time, and the next was not begun"
