"""The installed command in a process of its own, with a home, a cache and settings of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("readthrough"))
SCRIPT = "replies:\n  '': Ann keeps the light.\n"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of several chunks in which one sentence says who keeps the light."""
    days = [
        f"On day {day} the boats went out at dawn and came back with {day * 3} baskets of fish." for day in range(300)
    ]
    days.insert(150, "Ann keeps the light on the cliff, and nobody else has the key.")
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(days) + "\n")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of the command: nothing of the user's readthrough, the scripted model, words only."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("READTHROUGH_")}
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    (tmp_path / "here").mkdir(exist_ok=True)
    return {
        **inherited,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "READTHROUGH_HOME": str(tmp_path / "home"),
        "READTHROUGH_MODEL": f"scripted:{script}",
        "READTHROUGH_INDEX": "bm25",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run `readthrough` with arguments; `stdin` is what is piped in, `extra` more environment."""

    def call(
        *arguments: str | Path, stdin: str | bytes = b"", extra: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=240,
            cwd=tmp_path / "here",
            env={**environment, **(extra or {})},
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return call
