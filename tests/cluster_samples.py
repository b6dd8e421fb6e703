"""Batches that several processes share, for the tests: a folder, an endpoint that counts, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from readthrough.batch.job import Job
from readthrough.batch.table import Table
from readthrough.batch.works import asks
from readthrough.config import Settings, load_settings
from readthrough.questions import Asked
from tests.fake_server import Body, FakeServer, Handler, obeys

QUESTION = "Who keeps the lighthouse?"
WINDOW_TOKENS = 4096


def write_documents(folder: Path, count: int = 8) -> Path:
    """Short texts, each of another lighthouse."""
    folder.mkdir(parents=True)
    for number in range(count):
        text = f"The keeper of lighthouse number {number} is Ann{number}. It stands on a rock in the sea."
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder


def settings_of(home: Path, server: FakeServer, database: str | None = None) -> Settings:
    """Settings for the fake endpoint, found by words."""
    model = {"model": f"openai:m@{server.url}", "window_tokens": WINDOW_TOKENS}
    return load_settings({"home": home, "index": "bm25", "database": database, **model}, {}).settings


def job_of(folder: Path, out: Path, **options: Any) -> Job:
    """One question about each document."""
    return Job(folder, tuple(asks([Asked(QUESTION)])), out, **options)


def slowly(seconds: float) -> Callable[[Handler, Body], None]:
    """An endpoint that takes its time for every call."""
    answer = obeys(lambda prompt: "Ann keeps it.")

    def step(handler: Handler, body: Body) -> None:
        time.sleep(seconds)
        answer(handler, body)

    return step


def calls(server: FakeServer) -> Counter[str]:
    """How often each call was made."""
    return Counter(json.dumps(body, sort_keys=True) for body in server.requests)


def begin(folder: Path, home: Path, out: Path, server: FakeServer, *flags: str) -> subprocess.Popen[str]:
    """`readthrough batch run` in a process of its own."""
    command = [sys.executable, "-m", "readthrough", "batch", "run", str(folder), "-q", QUESTION, "--out", str(out)]
    command += ["--home", str(home), "--model", f"openai:m@{server.url}", "--index", "bm25", *flags]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("READTHROUGH_")}
    environment = {
        **inherited,
        "READTHROUGH_WINDOW_TOKENS": str(WINDOW_TOKENS),
        "XDG_CONFIG_HOME": str(home / "none"),
        "NO_PROXY": "127.0.0.1",
        "OPENAI_API_KEY": "sk-test",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=folder.parent)


def ended(process: subprocess.Popen[str], code: int = 0) -> None:
    """Wait for a command, which must end with `code`."""
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said


def wait_until(what: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for something to be so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


def rows(out: Path) -> list[dict[str, Any]]:
    """The results, without what differs from run to run."""
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for row in found:
        row.pop("run", None), row.pop("usage", None)
    return found


def in_thread(target: Callable[[], object]) -> threading.Thread:
    """Something that happens beside the test."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def kill_a_holder(table: Table, job: str, but: int | None = None) -> int:
    """Kill the process of a worker that holds a document; returns its id."""
    pids: list[int] = []

    def found() -> list[int]:
        pids[:] = [int(name.split(":")[1]) for name in table.holders(job) if int(name.split(":")[1]) != but]
        return pids

    wait_until(found)
    os.kill(pids[0], 9)
    return pids[0]
