"""A report whose process is killed while it is written: it goes on with the step it was at, into the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, signal, sys
import readthrough as rt
from readthrough.models.scripted import ScriptedModel

book, home, out, kill_at, run = sys.argv[1:]
calls = 0

def reply(request):
    global calls
    calls += 1
    if calls == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
    prompt = request.messages[-1].content
    if "Write the titles" in prompt:
        return "The light\\nThe boats\\nThe key"
    return "Ann keeps the light on the cliff." if "section “The light”" in prompt else f"On day {calls} boats went out."

with rt.read(book, model=ScriptedModel(replies=reply), home=home, index="bm25") as opened:
    if run:
        answer = opened.resume(run)
    else:
        answer = opened.write(into=out, run="written", sections=3, least_gain=None)
    print(answer.answer)
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    days = [f"On day {day} the boats went out and came back with {day * 3} baskets of fish." for day in range(60)]
    days.insert(30, "Ann keeps the light on the cliff.")
    (tmp_path / "book.txt").write_text("\n\n".join(days))
    return tmp_path / "book.txt"


def child(book: Path, home: Path, out: Path, kill_at: int, run: str = "") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("READTHROUGH_")}
    command = [sys.executable, "-c", CHILD, str(book), str(home), str(out), str(kill_at), run]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def test_killed_in_a_step(book: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    assert child(book, home, out, 4).returncode == -signal.SIGKILL  # in the second section
    before = {path.name: path.read_text() for path in out.iterdir()}
    assert sorted(before) == ["01-the-light.md", "report.md"]
    done = child(book, home, out, 0, "written")
    assert done.returncode == 0, done.stderr
    assert "## The light" in done.stdout and "## The boats" in done.stdout and "## The key" in done.stdout
    after = {path.name: path.read_text() for path in out.iterdir()}
    assert sorted(after) == ["01-the-light.md", "02-the-boats.md", "03-the-key.md", "report.md"]
    assert after["01-the-light.md"] == before["01-the-light.md"], "what was written is not written again"
    assert after["report.md"].startswith(before["report.md"].partition("### Sources")[0].rstrip())
