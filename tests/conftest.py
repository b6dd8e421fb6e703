"""What every test may use: the environment as the program sets it, and the small real model, loaded once."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import readthrough.runtime  # noqa: F401  before anything imports torch

if TYPE_CHECKING:
    from readthrough.models.local.backend import LocalModel

# A background job of a shell ignores SIGINT, and the processes that the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 << 30


def pytest_configure(config: pytest.Config) -> None:
    """The files of tests lie in memory where there is plenty of room: on a disk half the time is waiting for it."""
    if config.option.basetemp or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return
    config.option.basetemp = tempfile.mkdtemp(prefix="readthrough-tests-", dir=MEMORY)
    config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


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
