"""A real OpenAI-compatible server that is not ours, `transformers serve`, with the small model behind it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from readthrough.errors import WeightsError
from readthrough.models.base import Request
from readthrough.models.open import open_model
from readthrough.models.weights import resolve

pytestmark = [pytest.mark.services, pytest.mark.slow]

START_SECONDS = 180.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`openai:MODEL@URL` of the server."""
    if find_spec("fastapi") is None:
        pytest.skip("transformers[serving] is not installed (extra services)")
    try:
        folder = resolve("small")
    except WeightsError as error:
        pytest.skip(f"the small model is not installed: {error}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cache = tmp_path_factory.mktemp("hub")  # it lists what is there, and fails where there is no folder
    log = (tmp_path_factory.mktemp("log") / "log").open("w+")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        until = time.monotonic() + START_SECONDS
        while not _is_up(port):
            log.seek(0)
            assert server.poll() is None and time.monotonic() < until, log.read()[-3000:]
            time.sleep(0.5)
        yield f"openai:{folder}@http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def test_it_completes_streams_and_counts(served: str) -> None:
    model = open_model(served, window_tokens=4096, deadline_seconds=240)
    ask = Request.user("What is the capital of France? One word.", max_tokens=8)
    reply = model.complete([ask])[0]
    assert "Paris" in reply.text and reply.usage.prompt_tokens > 10 and 0 < reply.usage.completion_tokens <= 8
    pieces: list[str] = []
    assert "Paris" in model.stream(ask, pieces.append).text and len(pieces) >= 1
    model.close()


def test_a_batch_over_it(served: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "docs", tmp_path / "out.jsonl"
    folder.mkdir()
    (folder / "light.txt").write_text("Ann keeps the lighthouse on the cliff. It was built of white stone in 1802.")
    command = [sys.executable, "-m", "readthrough", "batch", "run", str(folder), "-q", "Who keeps the lighthouse?"]
    command += ["--out", str(out), "--home", str(tmp_path / "home"), "--model", served, "--index", "bm25"]
    environment = {**os.environ, "READTHROUGH_WINDOW_TOKENS": "4096"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    row = json.loads(out.read_text())
    assert "Ann" in row["answer"] and row["usage"]["prompt_tokens"] > 0
    assert any("Ann keeps the lighthouse" in item["quote"] for item in row["evidence"])
