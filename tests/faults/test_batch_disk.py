"""Batches on a full disk: the error names the file, what was kept can be read, and the next run goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from readthrough.batch import open as opening
from readthrough.batch.files import unfinished
from readthrough.batch.job import Job, Work
from readthrough.batch.open import FILE
from readthrough.batch.running import Listener
from readthrough.batch.table import Result
from readthrough.cli.main import run as run_command
from readthrough.config import Settings
from readthrough.errors import LibraryError
from readthrough.memory.sqlite_file import SqliteFile
from tests.batch_samples import SAID, WHO, asking, counts, go, lights, rows, said, scripted, write_folder

LONG = "Ann keeps the light, and has done so since the winter of the great storm. " * 20


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return scripted(tmp_path / "home", {"(?s).*": LONG})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return asking(write_folder(tmp_path / "docs", lights(4)), tmp_path / "out.jsonl", workers=1)


class SmallFile(SqliteFile):
    """A file that SQLite lets have no more pages than it has, once its owner says so."""

    full_after: int | None = None

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        with super().write() as db:
            if SmallFile.full_after is not None:
                SmallFile.full_after -= 1
                if SmallFile.full_after < 0:
                    (pages,) = db.execute("PRAGMA page_count").fetchone()
                    db.execute(f"PRAGMA max_page_count = {pages}")
            yield db


@pytest.mark.parametrize("full_after", [0, 4, 9])
def test_a_table_without_room(job: Job, settings: Settings, monkeypatch: pytest.MonkeyPatch, full_after: int) -> None:
    """SQLite itself says that it is full, from one write of the table on."""
    monkeypatch.setattr(opening, "SqliteFile", SmallFile)
    monkeypatch.setattr(SmallFile, "full_after", full_after)
    more = asking(job.folder, job.out, *(f"{WHO} {number} {'why? ' * 500}" for number in range(3)), workers=1)
    with pytest.raises(LibraryError, match="full") as caught:
        go(more, settings)
    assert caught.value.path == str(settings.home / FILE)
    assert caught.value.exit_code == 1
    assert "free some space" in (caught.value.hint or "")
    monkeypatch.setattr(SmallFile, "full_after", None)
    kept = rows(more.out) if more.out.exists() else []
    done = go(more, settings)
    assert (done.counts, done.asked) == ({"done": 4}, 12 - len(kept))
    assert {row["run"] for row in kept} <= {row["run"] for row in rows(more.out)}, "what was kept is still there"


def test_results_without_room(job: Job, settings: Settings) -> None:
    go(asking(job.folder, job.out, WHO, include=("*[01].txt",)), settings)
    before = job.out.read_bytes()
    unfinished(job.out).symlink_to("/dev/full")
    with pytest.raises(LibraryError, match="No space left") as caught:
        go(job, settings)
    assert caught.value.path == str(job.out)
    assert job.out.read_bytes() == before, "the old file is as it was"
    assert not unfinished(job.out).is_symlink()
    done = go(job, settings)
    assert (done.counts, done.asked) == ({"done": 4}, 2)


def test_room_runs_out_between_two_results(job: Job, settings: Settings) -> None:
    def fill(work: Work, result: Result) -> None:
        job.out.unlink(missing_ok=True)
        job.out.symlink_to("/dev/full")

    with pytest.raises(LibraryError, match="No space left"):
        go(job, settings, Listener(on_result=fill))
    assert len(rows(job.out)) == 2, "the answer of then is in the table, from which the file is written in the end"
    assert counts(job, settings) == {"done": 1, "waiting": 3}
    done = go(job, settings)
    assert (done.counts, done.asked) == ({"done": 4}, 2)


def test_it_ends_with_1_and_names_the_file(
    job: Job, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings.home))
    flags = ["--home", str(settings.home), "--model", str(settings.model), "--index", "bm25", "-q", WHO]
    unfinished(job.out).symlink_to("/dev/full")
    assert run_command(["batch", "run", str(job.folder), "--out", str(job.out), *flags]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"readthrough: {job.out}: ")
    assert run_command(["batch", "run", str(job.folder), "--out", str(job.out), *flags]) == 0


def test_the_folder_of_the_home_is_a_file(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError) as caught:
        go(job, scripted(tmp_path / "other").model_copy(update={"home": tmp_path / "file" / "home"}))
    assert str(tmp_path / "file") in str(caught.value)


def test_a_table_that_is_none(job: Job, settings: Settings) -> None:
    go(job, settings)
    before = said(job.out)
    assert set(before.values()) != {SAID}
    (settings.home / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(LibraryError) as caught:
        go(job, settings)
    assert caught.value.path == str(settings.home / FILE)
    assert said(job.out) == before, "the results are not touched"
