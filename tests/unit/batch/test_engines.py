"""What the workers of a batch are: how it is said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.batch.file import read_job
from readthrough.batch.job import Job
from readthrough.batch.works import asks
from readthrough.errors import ConfigError, UsageError
from readthrough.questions import Asked

WORKS = tuple(asks([Asked("Who keeps the light?")]))


def test_a_file_says_engine_gpus_and_database(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "folder: docs\nout: out.jsonl\nquestions: ['Who keeps the light?']\n"
        "engine: ray\nworkers: 4\ngpus_a_worker: 0.5\ndatabase: postgresql://ann@db/batches\n"
    )
    read = read_job(file)
    assert (read.job.engine, read.job.workers, read.job.gpus_a_worker) == ("ray", 4, 0.5)
    assert read.overrides == {"database": "postgresql://ann@db/batches"}


def test_an_engine_that_is_none_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("folder: docs\nout: out.jsonl\nquestions: ['Who?']\nengine: spark\n")
    with pytest.raises(ConfigError, match=r"engine: .*'threads' or 'ray'") as caught:
        read_job(file)
    assert caught.value.path == f"{file}:4"


@pytest.mark.parametrize(("engine", "gpus"), [("threads", 0.5), ("ray", -1.0)])
def test_shares_of_gpus_are_for_ray(engine: str, gpus: float) -> None:
    with pytest.raises(UsageError, match="for --engine ray"):
        Job(Path("docs"), WORKS, Path("out.jsonl"), engine=engine, gpus_a_worker=gpus)  # type: ignore[arg-type]


def test_a_job_in_another_folder_is_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(Path("docs"), WORKS, Path("here/../out.jsonl"))
    moved = job.absolute()
    monkeypatch.chdir("/")
    assert moved.folder == tmp_path / "docs"
    assert moved.name == str(tmp_path / "out.jsonl")
