"""Ctrl-C in a batch: once lets the answers of now be finished, twice ends at once; both go on where they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from readthrough.batch.running import ENDPOINT_WORKERS
from tests.batch_processes import until
from tests.batch_samples import WHO, answers, counts, go, lasting, lights, rows, served, write_folder
from tests.batch_samples import asking as job_of
from tests.fake_server import FakeServer, Handler

COMMAND = str(Path(sys.executable).with_name("readthrough"))
DOCUMENTS = 10
CALLS_OF_A_STEP = 4


def slowly(handler: Handler, body: dict[str, Any]) -> None:
    handler.server.fake.stopped.wait(0.25)
    answers(handler, body)


def command(tmp_path: Path, server: FakeServer) -> tuple[list[str], dict[str, str]]:
    """The batch as a command, and its environment."""
    arguments = ["batch", "run", str(tmp_path / "docs"), "-q", WHO, "--out", str(tmp_path / "out.jsonl")]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("READTHROUGH_")}
    mine = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "READTHROUGH_HOME": str(tmp_path / "home"),
        "READTHROUGH_MODEL": f"openai:m@{server.url}",
        "READTHROUGH_WINDOW_TOKENS": "4096",
        "READTHROUGH_DEADLINE_SECONDS": "5",
        "READTHROUGH_INDEX": "bm25",
        "OPENAI_API_KEY": "none",
        "NO_PROXY": "127.0.0.1",
    }
    return [sys.executable, "-m", "readthrough", *arguments], inherited | mine


def begin(tmp_path: Path, server: FakeServer) -> subprocess.Popen[str]:
    """The batch, once its first answers are there and others are on their way."""
    arguments, environment = command(tmp_path, server)
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    out = tmp_path / "out.jsonl"
    until(lambda: process.poll() is not None or (out.exists() and out.read_text()), 60)
    return process


@pytest.fixture
def whole(tmp_path: Path) -> list[dict[str, Any]]:
    """What a batch that nobody interrupts says."""
    folder = write_folder(tmp_path / "docs", lights(DOCUMENTS))
    with FakeServer([answers]) as server:
        go(job_of(folder, tmp_path / "whole.jsonl"), served(tmp_path / "whole", server.url))
    return without_model(lasting(rows(tmp_path / "whole.jsonl")))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def without_model(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the name of the model, which holds the server's port."""
    return [{name: value for name, value in line.items() if name != "model"} for line in lines]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(tmp_path: Path, whole: list[dict[str, Any]], times: int) -> None:
    with FakeServer([slowly]) as server:
        process = begin(tmp_path, server)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        if times == 2:
            time.sleep(0.1)
            assert process.poll() is None, "once, it finishes what it is at"
            os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        if times == 2:
            assert time.monotonic() - started < 1
        assert "Traceback" not in errors
        job, settings = job_of(tmp_path / "docs", tmp_path / "out.jsonl"), served(tmp_path / "home", server.url)
        found = counts(job, settings)
        assert sum(found.values()) == DOCUMENTS
        if times == 1:
            assert found.get("running", 0) == 0, "nothing is held any more"
            assert 0 < found["done"] < DOCUMENTS, "what was at work is done, and no more begun"
            assert len(rows(job.out)) == found["done"]
            assert "goes on" in errors
        server.steps = [answers]
        arguments, environment = command(tmp_path, server)
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert without_model(lasting(rows(job.out))) == whole
        asked = [json.dumps(body) for body in server.requests]
        repeated = len(asked) - len(set(asked))
        assert repeated <= (0 if times == 1 else ENDPOINT_WORKERS * CALLS_OF_A_STEP)
