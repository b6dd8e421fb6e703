"""Batches by actors of a local Ray: the same rows, and nothing lost with a worker or with the driver."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="ray is not installed (extra ray)")
import ray

from readthrough.batch.open import open_table
from readthrough.batch.running import Listener, run
from readthrough.errors import EndpointError, MissingPathError, ModelError, UsageError
from tests.cluster_samples import (
    begin,
    calls,
    ended,
    in_thread,
    job_of,
    kill_a_holder,
    rows,
    settings_of,
    slowly,
    wait_until,
    write_documents,
)
from tests.fake_server import FakeServer, fails

pytestmark = pytest.mark.services

DOCUMENTS = 12


@pytest.fixture(autouse=True, scope="module")
def cluster() -> Iterator[None]:
    """A local Ray that the runs of this process share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("OPENAI_API_KEY", "sk-test")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, address="local")
        yield
        ray.shutdown()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True


def test_the_rows_are_those_of_threads(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", DOCUMENTS)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    found = {}
    for engine in ("threads", "ray"):
        with FakeServer([slowly(0.05)]) as server:
            settings = settings_of(tmp_path / engine, server)
            job = replace(job_of(folder, tmp_path / f"{engine}.jsonl", workers=2), engine=engine)
            heard: list[str] = []
            outcome = run(
                job, settings, Listener(on_result=lambda work, result, heard=heard: heard.append(result.path))
            )
            found[engine] = rows(job.out)
            assert outcome.counts == {"done": DOCUMENTS, "failed": 1} and outcome.asked == DOCUMENTS
            assert sorted(heard) == sorted({row["document"] for row in found[engine]} - {"broken.pdf"})
            assert outcome.usage.calls == len(server.requests)
    for line in (*found["threads"], *found["ray"]):
        line.pop("model", None)
    assert found["ray"] == found["threads"] and len(found["ray"]) == DOCUMENTS + 1


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", DOCUMENTS)
    with FakeServer([slowly(0.3)]) as server:
        settings = settings_of(tmp_path / "home", server)
        job = job_of(folder, tmp_path / "out.jsonl", workers=2, engine="ray")
        killed: list[int] = []

        def kill() -> None:
            with closing(open_table(settings)) as table:
                wait_until(lambda: len(server.requests) >= 6)
                killed.append(kill_a_holder(table, job.name, but=os.getpid()))

        thread = in_thread(kill)
        outcome = run(job, settings)
        thread.join()
        assert outcome.counts == {"done": DOCUMENTS}
        assert len(killed) == 1 and not alive(killed[0])
        again = sum(calls(server).values()) - len(calls(server))
        assert again <= 2, "more was asked again than the worker was at"
    assert len(rows(job.out)) == DOCUMENTS


def test_after_the_driver_is_killed_the_next_run_goes_on(tmp_path: Path) -> None:
    folder, home, out = write_documents(tmp_path / "docs", DOCUMENTS), tmp_path / "home", tmp_path / "out.jsonl"
    with FakeServer([slowly(0.3)]) as server:
        first = begin(folder, home, out, server, "--engine", "ray", "--workers", "2")
        wait_until(lambda: len(server.requests) >= 8 or first.poll() is not None)
        assert first.poll() is None, first.communicate()[1]
        with closing(open_table(settings_of(home, server))) as table:
            pids = [int(name.split(":")[1]) for name in table.holders(str(out))]
        first.kill()
        first.communicate()
        assert pids and first.pid not in pids, "the actors were processes of their own"
        wait_until(lambda: not any(alive(pid) for pid in pids), seconds=60)  # they end with their driver
        outcome = run(job_of(folder, out, workers=2, engine="ray"), settings_of(home, server))
        assert outcome.counts == {"done": DOCUMENTS} and 0 < outcome.asked < DOCUMENTS
        again = sum(calls(server).values()) - len(calls(server))
        assert again <= 4, "more was asked again than was under way"
    assert len(rows(out)) == DOCUMENTS


def test_ctrl_c_once_drains(tmp_path: Path) -> None:
    folder, home, out = write_documents(tmp_path / "docs", DOCUMENTS), tmp_path / "home", tmp_path / "out.jsonl"
    with FakeServer([slowly(0.3)]) as server:
        process = begin(folder, home, out, server, "--engine", "ray", "--workers", "2")
        wait_until(lambda: len(server.requests) >= 6 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        ended(process, 130)
        asked = len(server.requests)
        with closing(open_table(settings_of(home, server))) as table:
            counts = table.counts(str(out))
        assert set(counts) == {"done", "waiting"} and len(rows(out)) == counts["done"]
        assert run(job_of(folder, out), settings_of(home, server)).counts == {"done": DOCUMENTS}
        assert set(calls(server).values()) == {1} and asked < len(server.requests)


def test_sigterm_drains_as_well(tmp_path: Path) -> None:
    """Ray puts a handler of its own in place of the command's, which must be put back."""
    folder, home, out = write_documents(tmp_path / "docs", DOCUMENTS), tmp_path / "home", tmp_path / "out.jsonl"
    with FakeServer([slowly(0.3)]) as server:
        process = begin(folder, home, out, server, "--engine", "ray", "--workers", "1")
        wait_until(lambda: len(server.requests) >= 4 or process.poll() is not None)
        process.terminate()
        ended(process, 130)


def test_an_endpoint_that_is_down_ends_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_documents(tmp_path / "docs", DOCUMENTS)
    with FakeServer([fails(401, "no such key")]) as server:
        job = job_of(folder, tmp_path / "out.jsonl", workers=2, engine="ray", tries=1)
        with pytest.raises(EndpointError, match="no such key"):
            run(job, settings_of(tmp_path / "home", server))


def test_what_a_worker_cannot_open_is_said(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", 2)
    with FakeServer([slowly(0)]) as server:
        settings = settings_of(tmp_path / "home", server)
        nowhere = settings.model_copy(update={"model": str(tmp_path / "no-such-model")})
        with pytest.raises(ModelError, match="no-such-model"):
            run(job_of(folder, tmp_path / "out.jsonl", engine="ray"), nowhere)
        with pytest.raises(MissingPathError):
            run(job_of(tmp_path / "none", tmp_path / "out.jsonl", engine="ray"), settings)


def test_gpus_that_are_not_there_are_said(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", 2)
    with FakeServer([slowly(0)]) as server:
        job = job_of(folder, tmp_path / "out.jsonl", engine="ray", gpus_a_worker=0.5)
        if ray.cluster_resources().get("GPU"):
            pytest.skip("there are GPUs")
        with pytest.raises(UsageError, match=r"0\.5 of a GPU, and the cluster has none"):
            run(job, settings_of(tmp_path / "home", server))
