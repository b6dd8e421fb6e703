"""What every test may use: the environment as the program sets it, and the small real model, loaded once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

import readthrough.runtime  # noqa: F401  before anything imports torch

if TYPE_CHECKING:
    from readthrough.models.local.backend import LocalModel

# A background job of a shell ignores SIGINT, and the processes that the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL_MODEL = "qwen2.5-coder-0.5b-instruct"


@pytest.fixture(scope="session")
def small_model() -> LocalModel:
    """The embedded small model on the CPU, shared by all tests of a run; skipped where it is not installed."""
    from readthrough.errors import WeightsError
    from readthrough.models.local.backend import LocalModel

    try:
        return LocalModel(SMALL_MODEL, device="cpu")
    except WeightsError as error:
        pytest.skip(f"the small model is not installed: {error}")
