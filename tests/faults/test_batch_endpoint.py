"""Batches over an endpoint that fails: for one document, for a while, for good; and what it says stays secret."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from readthrough.batch import answering
from readthrough.batch.job import Job
from readthrough.batch.running import ENDPOINT_WORKERS, Listener
from readthrough.cli.main import run as run_command
from readthrough.config import Settings
from readthrough.errors import EndpointError
from readthrough.models.endpoint import breaker
from tests.batch_samples import SAID, WHEN, WHO, answers, asking, counts, go, lights, rows, said, served, write_folder
from tests.endpoints import KEY, quick
from tests.fake_server import FakeServer, Handler, Step, fails

__all__ = ["quick"]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(breaker, "_PAUSE_SECONDS", 0.3)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def where(wrong: Callable[[str], bool], step: Step) -> Step:
    """A server that does `step` for prompts that are `wrong`, and answers the others."""

    def chosen(handler: Handler, body: dict[str, Any]) -> None:
        (step if wrong(body["messages"][-1]["content"]) else answers)(handler, body)

    return chosen


def job_of(tmp_path: Path, count: int, *questions: str, **more: Any) -> Job:
    return asking(write_folder(tmp_path / "docs", lights(count)), tmp_path / "out.jsonl", *questions, **more)


@pytest.mark.parametrize("step", [fails(500, f"no: {KEY}"), fails(401, f"wrong key {KEY}")])
def test_an_endpoint_that_is_down_for_good_ends_the_batch_soon(tmp_path: Path, step: Step) -> None:
    job = job_of(tmp_path, 14)
    with FakeServer([step]) as server:
        settings = served(tmp_path / "home", server.url)
        with pytest.raises(EndpointError, match="failed for 3 documents in a row: .*(500|401)") as caught:
            go(job, settings)
        assert counts(job, settings)["waiting"] >= 14 - 2 * ENDPOINT_WORKERS
        assert caught.value.exit_code == 5
        server.steps = [answers]
        done = go(job, settings)
    assert (done.counts, done.failed) == ({"done": 14}, 0), "all of them are tried by the next run"
    assert set(said(job.out).values()) == {SAID}


def test_an_endpoint_that_fails_for_some_documents_does_not_end_the_batch(tmp_path: Path) -> None:
    job = job_of(tmp_path, 8, workers=1)
    bad = where(lambda prompt: "cliff 2" in prompt or "cliff 3" in prompt, fails(400, "I do not like it"))
    with FakeServer([bad]) as server:
        settings = served(tmp_path / "home", server.url)
        done = go(job, settings)
        assert (done.counts, done.failed) == ({"done": 8}, 2)
        assert {name for (name, _), text in said(job.out).items() if text == "EndpointError"} == {
            "light002.txt",
            "light003.txt",
        }
        requests = len(server.requests)
        again = go(job, settings)
        assert (again.asked, again.failed) == (2, 2), "these two alone are tried again"
        assert len(server.requests) - requests <= 2 * 3 * 2
        server.steps = [answers]
        assert go(job, settings).failed == 0


def test_many_questions_of_one_document_are_one_document(tmp_path: Path) -> None:
    """A document that an endpoint refuses whatever is asked does not look like an endpoint that is down."""
    job = job_of(tmp_path, 2, *(f"{WHO} {number}" for number in range(5)), workers=1)
    with FakeServer([where(lambda prompt: "cliff 0" in prompt, fails(400, "I do not like it"))]) as server:
        done = go(job, served(tmp_path / "home", server.url))
    assert (done.counts, done.failed) == ({"done": 2}, 5)


def test_an_endpoint_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    job = job_of(tmp_path, 6)
    with FakeServer([*[fails(503, "starting", {"Retry-After": "0.05"})] * 9, answers]) as server:
        done = go(job, served(tmp_path / "home", server.url))
    assert (done.counts, done.failed) == ({"done": 6}, 0)


def test_a_failed_answer_goes_on_with_its_run(tmp_path: Path) -> None:
    """What was paid for before the endpoint failed is not paid for again by the next run."""
    folder = write_folder(tmp_path / "docs", {"long.txt": "\n\n".join(lights(600).values())})
    job = asking(folder, tmp_path / "out.jsonl")
    with FakeServer([answers]) as server:
        whole_settings = served(tmp_path / "whole", server.url, workflow="map-reduce")
        go(job, whole_settings)
        whole = len(server.requests)
        assert whole > 6
        server.requests.clear()
        server.steps = [*[answers] * (whole - 2), fails(400, "no more money")]
        settings = served(tmp_path / "home", server.url, workflow="map-reduce")
        done = go(job, settings)
        assert done.failed == 1
        server.requests.clear()
        server.steps = [answers]
        assert go(job, settings).failed == 0
        assert len(server.requests) <= 4, "the rest was answered before it failed"


def test_a_prompt_that_is_too_long_costs_one_document(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", {**lights(3), "long.txt": "The boats went out at dawn. " * 4000})
    job = asking(folder, tmp_path / "out.jsonl")
    with FakeServer([answers]) as server:
        done = go(job, served(tmp_path / "home", server.url, workflow="full-context"))
    assert (done.counts, done.failed) == ({"done": 4}, 1)
    assert said(job.out)["long.txt", WHO] == "PromptTooLongError"


def test_it_ends_with_5_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, 12)
    monkeypatch.setenv("READTHROUGH_INDEX", "bm25")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with FakeServer([fails(500, f"broken, {KEY}")]) as server:
        model = f"openai:m@{server.url.replace('//', '//user:pass-word-1@')}"
        flags = ["--home", str(tmp_path / "home"), "--model", model, "--out", str(job.out), "-q", WHO, "-vv"]
        assert run_command(["batch", "run", str(job.folder), *flags]) == 5
    printed = capsys.readouterr()
    assert "the endpoint failed for 3 documents in a row" in printed.err
    assert "the same command goes on" in printed.err


def test_keys_are_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job = job_of(tmp_path, 4, WHO, WHEN)
    told: list[object] = []
    with FakeServer([where(lambda prompt: "cliff 2" in prompt, fails(400, f"{KEY} pass-word-1"))]) as server:
        url = server.url.replace("//", "//user:pass-word-1@")
        settings = Settings(
            home=tmp_path / "home",
            model={"openai": {"model": "m", "base_url": url, "api_key": KEY, "window_tokens": 4096}},
            index="bm25",
        )
        done = go(job, settings, Listener(told.append, lambda work, result: told.append((work, result))))
    assert done.failed == 2
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert any(path.name == "batch.sqlite" for path in kept)
    for path in kept:
        if path.name.startswith("batch"):
            assert path.stat().st_mode & 0o777 == 0o600, path
    for secret in (KEY, "pass-word-1"):
        assert [path for path in (*kept, job.out) if secret.encode() in path.read_bytes()] == []
        assert secret not in caplog.text + repr(told)


def test_the_work_is_shared_by_calls_at_once(tmp_path: Path) -> None:
    running, most, lock = [0], [0], threading.Lock()

    def step(handler: Handler, body: dict[str, Any]) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        handler.server.fake.stopped.wait(0.05)
        with lock:
            running[0] -= 1
        answers(handler, body)

    with FakeServer([step]) as server:
        go(job_of(tmp_path, 8), served(tmp_path / "home", server.url))
    assert most[0] >= 4
    assert len(rows(tmp_path / "out.jsonl")) == 8
