"""`chat` from a shell: at a terminal, with Ctrl-C and Ctrl-D, and with the small real model."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Run
from tests.schemas import ANSWER, checked

SLOW = """
import sys, time
from readthrough.cli.main import run
from readthrough.models.scripted import ScriptedModel
stream, calls = ScriptedModel.stream, []
def slow(model, request, on_text):
    calls.append(request)
    if len(calls) == 1:
        on_text("Ann ke")
        time.sleep(60)
    return stream(model, request, on_text)
ScriptedModel.stream = slow
sys.exit(run(sys.argv[1:]))
"""


class Seen:
    """What a terminal has shown so far."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self.text = ""

    def shows(self, words: str, after: int, seconds: float) -> bool:
        """Read until `words` are shown behind the place `after`; returns whether they were in that time."""
        deadline = time.monotonic() + seconds
        while words not in self.text[after:]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                return False
            self.text += os.read(self.terminal, 65536).decode("utf-8", "replace")
        return True

    def until(self, words: str, after: int = 0) -> int:
        """Read until `words` are shown behind the place `after`; returns the place behind them."""
        assert self.shows(words, after, 120), f"{words!r} was not shown: {self.text}"
        return self.text.index(words, after) + len(words)


@pytest.fixture
def chatting(environment: dict[str, str], book: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A terminal, and `chat` at it."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "chat", str(book), "--session", "light", "--no-color"],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**environment, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(end)
    yield terminal, process
    process.kill()
    process.wait()
    os.close(terminal)


def test_at_a_terminal(chatting: tuple[int, subprocess.Popen[bytes]]) -> None:
    terminal, process = chatting
    seen = Seen(terminal)
    place = seen.until("> ", seen.until("/help says what else there is"))
    os.write(terminal, b"Who keeps the light?\n")
    place = seen.until("Ann ke", place)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    place = seen.until("> ", seen.until("stopped; /again goes on", place))
    os.write(terminal, b"/again\n")
    place = seen.until("Ann keeps the light on the cliff", seen.until("Ann keeps the light.", place))
    place = seen.until("> ", seen.until("read ", place))
    for _ in range(20):  # between showing the prompt and waiting for keys, readline notices no signal before the next
        os.killpg(process.pid, signal.SIGINT)
        if seen.shows("> ", place, 2):
            break
    place = seen.until("> ", place)
    os.write(terminal, b"\x04")  # Ctrl-D
    seen.until("`readthrough chat --session light` goes on", place)
    assert process.wait(timeout=60) == 0


def test_the_small_model_converses(run: Run, tmp_path: Path) -> None:
    """Nothing scripted: a follow-up, and what was said before."""
    book = tmp_path / "light.txt"
    days = [f"On day {day} the boats went out at dawn and came back with baskets of fish." for day in range(16)]
    days[8:8] = ["The keeper of the light on the cliff is Ann Weller.", "Ann Weller was born in Whitby."]
    book.write_text("\n\n".join(days) + "\n")
    real = {"READTHROUGH_MODEL": "small", "READTHROUGH_INDEX": "hybrid"}
    questions = "Who is the keeper of the light?\nAnd where was she born?\nWhat did you tell me about the keeper?\n"
    done = run("chat", book, "--json", "--quiet", "--session", "light", stdin=questions, extra=real)
    assert done.returncode == 0, done.stderr
    keeper, born, told = (checked(line, ANSWER) for line in done.stdout.splitlines())
    assert keeper["question"] == "Who is the keeper of the light?" and "Ann Weller" in keeper["answer"]
    assert "Ann Weller" in born["question"] and "Whitby" in born["answer"]
    assert any(item["document"].startswith("chat:light#") for item in told["evidence"]), told
    assert all(item["verified"] for item in told["evidence"])
    shown = json.loads(run("runs", "search", "birthplace of the keeper", "--json", extra=real).stdout)["runs"]
    assert {row["id"] for row in shown} >= {keeper["run"], born["run"]}
