"""Several open the files of a new home at once: SQLite refuses to switch a file's journal for two at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from readthrough.agents.runs.checkpoints import open_saver
from readthrough.evaluation.store import Store
from readthrough.memory.conversations import Conversations
from readthrough.memory.runs import RunLog

AT_ONCE, ROUNDS = 4, 40


def a_saver(home: Path) -> None:
    with open_saver(home / "checkpoints.sqlite"):
        pass


def results(home: Path) -> None:
    Store(home, make=True).close()


def a_log(home: Path) -> None:
    RunLog(home / "runs.sqlite").close()


def conversations(home: Path) -> None:
    Conversations(home / "conversations.sqlite").close()


@pytest.mark.parametrize("opened", [a_saver, results, a_log, conversations])
def test_a_new_file_is_opened_by_several(opened: Callable[[Path], None], tmp_path: Path) -> None:
    barrier = Barrier(AT_ONCE)

    def together(home: Path) -> None:
        barrier.wait()
        opened(home)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(ROUNDS):
            for one in [pool.submit(together, tmp_path / f"home{number}") for _ in range(AT_ONCE)]:
                one.result()
