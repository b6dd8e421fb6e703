"""Batches whose process is killed, dies of a document, or shares its folder: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.batch_kills import Killed, kill_batch
from readthrough.batch.job import Job
from readthrough.batch.open import open_table
from readthrough.batch.running import ENDPOINT_WORKERS
from readthrough.batch.table import Row
from readthrough.config import Settings
from tests.batch_processes import Child, calls, finish, start, until, writes
from tests.batch_samples import SAID, WHO, asking, counts, go, lasting, lights, rows, scripted, write_folder

NO_KILL = 1_000_000


def child_of(tmp_path: Path, documents: dict[str, str], **job: object) -> Child:
    """A batch over a folder of these documents, in a home of its own."""
    folder = write_folder(tmp_path / "docs", documents)
    return Child(asking(folder, tmp_path / "out.jsonl", **job), scripted(tmp_path / "home"))  # type: ignore[arg-type]


def documents(job: Job, settings: Settings) -> dict[str, Row]:
    table = open_table(settings)
    try:
        return {row.path: row for row in table.documents(job.name)}
    finally:
        table.close()


def test_killed_at_every_write_of_the_table(tmp_path: Path) -> None:
    child = replace(child_of(tmp_path, lights(2), workers=1), kill_at=NO_KILL)
    assert finish(child) == 0
    whole, whole_calls, moments = lasting(rows(child.job.out)), calls(child.settings), writes(child.settings)
    assert len(whole) == 2 and whole_calls >= 2
    assert moments >= 10
    for kill_at in range(moments):
        shutil.rmtree(child.settings.home)
        scripted(child.settings.home)
        child.job.out.unlink()
        assert finish(replace(child, kill_at=kill_at)) == -signal.SIGKILL
        killed_calls = calls(child.settings)
        assert finish(replace(child, kill_at=NO_KILL)) == 0
        assert lasting(rows(child.job.out)) == whole, f"killed at write {kill_at} of {moments}"
        assert counts(child.job, child.settings) == {"done": 2}
        repeated = calls(child.settings) - whole_calls
        assert 0 <= repeated <= min(killed_calls, whole_calls / 2), "of the one document that was at work"
    before = calls(child.settings)
    assert go(child.job, child.settings).asked == 0
    assert calls(child.settings) == before


@pytest.mark.parametrize("fresh", [True, False])
def test_two_processes_share_a_folder(tmp_path: Path, fresh: bool) -> None:
    """Each document is asked by one of them; `fresh`: both begin with an empty home, and make its files together."""
    child = child_of(tmp_path, lights(8), workers=2)
    elsewhere = child.settings.model_copy(update={"home": tmp_path / "alone"})
    elsewhere.home.mkdir()
    alone = replace(child, job=replace(child.job, out=tmp_path / "alone.jsonl"), settings=elsewhere)
    assert finish(alone) == 0
    if not fresh:
        open_table(child.settings).close()
    both = [start(child), start(child)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0], "neither met a locked file"
    assert counts(child.job, child.settings) == {"done": 8}
    assert {row.attempts for row in documents(child.job, child.settings).values()} == {1}
    assert calls(child.settings) == calls(alone.settings)
    assert lasting(rows(child.job.out)) == lasting(rows(alone.job.out)), "whoever ends last writes what both did"


def hanging(child: Child) -> int:
    """Kill a process that holds a document; returns its exit code."""
    process = start(replace(child, hang=True))
    until(lambda: calls(child.settings) > 0)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode or 0


@pytest.mark.parametrize(("host", "lease_seconds"), [("", 60.0), ("another-machine", 1.0)])
def test_what_a_dead_worker_held_is_taken_by_another(tmp_path: Path, host: str, lease_seconds: float) -> None:
    """At once where it died on this machine; elsewhere when its lease ends."""
    child = child_of(tmp_path, lights(2), workers=1)
    assert hanging(replace(child, host=host, lease_seconds=lease_seconds)) == -signal.SIGKILL
    assert counts(child.job, child.settings) == {"running": 1, "waiting": 1}
    done = go(child.job, child.settings)
    assert done.seconds < 15
    assert done.counts == {"done": 2}
    attempts = {path: row.attempts for path, row in documents(child.job, child.settings).items()}
    assert attempts == {"light000.txt": 2, "light001.txt": 1}
    assert host or not list((child.settings.home / "batch-workers").glob("*.lock")), "nothing is left of either"


@pytest.mark.parametrize("poison", ["loader", "model"])
def test_a_poisonous_document_is_set_aside(tmp_path: Path, poison: str) -> None:
    """It ends the process each time it is tried; those at work beside it are not taken for poison."""
    texts = {**lights(6), "light002.txt": "Ann keeps the light with poison in it."}
    child = replace(child_of(tmp_path, texts, workers=4), poison=poison)
    ends = [finish(child)]
    while ends[-1] == -signal.SIGKILL and len(ends) < 8:
        ends.append(finish(child))
    assert ends == [-signal.SIGKILL] * (len(ends) - 1) + [0]
    assert len(ends) == 4 + (poison == "model"), "after the first step of a run it had got further once"
    found = documents(child.job, child.settings)
    aside = found.pop("light002.txt")
    assert aside.state == "aside"
    assert "given up after 3 tries" in (aside.error or {})["message"]
    assert {row.state for row in found.values()} == {"done"}
    answers = {row["document"]: row.get("answer") for row in rows(child.job.out)}
    assert answers == {**dict.fromkeys(lights(6), SAID), "light002.txt": None}
    assert finish(child) == 0, "it stays aside"
    table = open_table(child.settings)
    assert table.retry(child.job.name) == 1
    table.close()
    assert go(child.job, child.settings).counts == {"done": 6}, "cured, it is answered"


def test_a_document_that_gets_further_each_time_is_no_poison(tmp_path: Path) -> None:
    """Killed again and again by somebody else, a document that has answers since is not given up."""
    child = child_of(tmp_path, lights(1))
    questions = [f"{WHO} {number}" for number in range(6)]
    child = replace(child, job=asking(child.job.folder, child.job.out, *questions, workers=1))
    for number, kill_at in enumerate((6, 8, 8, 8, 8), 1):  # after one more answer was kept
        assert finish(replace(child, kill_at=kill_at)) == -signal.SIGKILL
        assert len(rows(child.job.out)) == number
    assert go(child.job, child.settings).counts == {"done": 1}
    assert [row["question"] for row in rows(child.job.out)] == questions


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    return kill_batch(write_folder(folder / "docs", lights(8)), folder, kills=5, chance=random.Random(7))


def test_killed_at_random_it_says_the_same(killed: Killed) -> None:
    print(killed.summary())
    assert len(killed.kills) >= 3, "the batch may be done before the last ones"
    assert killed.same_rows
    assert killed.calls >= killed.calls_unkilled


def test_killed_at_random_it_pays_again_for_calls_in_flight_alone(killed: Killed) -> None:
    each = ENDPOINT_WORKERS  # of which none is at more than one call; what was in flight to the moment is less
    assert killed.calls <= killed.calls_unkilled + each * len(killed.kills)
