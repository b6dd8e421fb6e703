"""Memory that does not suffice: smaller passes and the same replies, or a clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from readthrough.errors import ModelError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.types import Event
from tests import tiny_models

ASKED = [Request.user(f"{tiny_models.TEXT * 6} {question}", max_tokens=12) for question in ("Who?", "What?", "When?")]
FAILURES: list[Callable[[], RuntimeError]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory"),
]
SPARSE = {"select": {"sink-window": {"window_tokens": 128, "dense_below_tokens": 200}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def limited(model: LocalModel, rows: int, error: Callable[[], RuntimeError], most: int = 10_000) -> list[int]:
    """The model fails with more than `rows` tokens a pass, up to `most`; what it computed nevertheless."""
    forward, computed = model._loaded.model.forward, []

    def fail(*args: Any, input_ids: torch.Tensor, **kw: Any) -> Any:
        if rows < input_ids.shape[1] <= most:
            raise error()
        computed.append(input_ids.shape[1])
        return forward(*args, input_ids=input_ids, **kw)

    model._loaded.model.forward = fail
    return computed


@pytest.mark.parametrize("plan", [None, SPARSE, {"keep": "kvzip"}], ids=str)
@pytest.mark.parametrize("rows", [300, 2])
@pytest.mark.parametrize("error", FAILURES)
def test_passes_become_smaller(folder: str, plan: Any, rows: int, error: Callable[[], RuntimeError]) -> None:
    events: list[Event] = []
    model = LocalModel(folder, device="cpu", plan=plan, on_event=events.append, draft_tokens=0)
    expected = [reply.text for reply in LocalModel(folder, device="cpu", plan=plan).complete(ASKED)]
    computed = limited(model, rows, error)
    if rows < 128:
        with pytest.raises(ModelError, match="out of memory with .* tokens of prompts"):
            model.complete(ASKED)
        return
    found = [reply.text for reply in model.complete(ASKED)]
    assert max(computed) <= rows
    assert any("out of memory" in (event.note or "") for event in events)
    if plan is None:
        assert found == expected


def test_steps_are_taken_in_halves(folder: str) -> None:
    model = LocalModel(folder, device="cpu", draft_tokens=0)
    expected = [reply.text for reply in model.complete(ASKED)]
    other = LocalModel(folder, device="cpu", draft_tokens=0)
    computed = limited(other, 2, FAILURES[0], most=len(ASKED))
    assert [reply.text for reply in other.complete(ASKED)] == expected
    assert 2 in computed and len(ASKED) not in computed


def test_other_errors_are_not_taken_for_it(folder: str) -> None:
    model = LocalModel(folder, device="cpu")
    limited(model, 0, lambda: RuntimeError("a broken kernel"))
    with pytest.raises(RuntimeError, match="a broken kernel"):
        model.complete(ASKED)
