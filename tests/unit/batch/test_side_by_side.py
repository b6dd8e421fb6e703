"""Over a local model the questions of documents are asked side by side, with the answers of single asks."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import readthrough
from readthrough.batch.answering import Stop, Worker
from readthrough.batch.job import Job
from readthrough.batch.running import run, workers_of
from readthrough.batch.works import asks
from readthrough.config import load_settings
from readthrough.models.gathering import Gathering
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from readthrough.questions import Asked
from tests import tiny_models
from tests.agent_samples import write_book

CHOICES = ("Ann Weller", "Tom Hale", "nobody")
QUESTIONS = ("Who hid the brass key of the lighthouse?", "When did the storm come?", "Where did the letters go?")


def test_what_is_kept_for_all_is_made_by_one(tmp_path: Path) -> None:
    """The first question alone where its workflow prepares, the others beside each other behind it."""
    at_once: list[int] = []
    working = 0

    def answer_one(*_: object) -> None:
        nonlocal working
        working += 1
        at_once.append(working)
        time.sleep(0.2)
        working -= 1

    for flow in ("gist-lookup", "retrieve"):
        job = Job(tmp_path, tuple(asks(Asked(text) for text in QUESTIONS)), tmp_path / "rows.jsonl")
        worker: Any = object.__new__(Worker)
        book = SimpleNamespace(model=ScriptedModel(), beside=lambda: None)
        book.prepares = lambda *_, flow=flow: flow == "gist-lookup"
        with ThreadPoolExecutor(3) as pool:
            worker._stop, worker._job, worker._answer_one = Stop(), job, answer_one
            worker._tools = SimpleNamespace(side_by_side=pool)
            assert worker._answer_all("book.txt", [(work, work.id) for work in job.works], book)
    assert at_once == [1, 1, 2, 1, 2, 3]


def test_the_answers_of_single_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(tiny_models.save(tmp_path / "tiny"))
    for number in range(2):
        write_book(tmp_path / "books" / str(number), fact=f"Ann Weller {number} hid the brass key of the lighthouse.")
    paths = sorted(path for path in (tmp_path / "books").rglob("*") if path.is_file())
    given = {"model": model, "index": "bm25", "device": "cpu", "dtype": "float32", "readings_bytes": 0}
    flow = {"retrieve": {"whole_tokens": 0, "choice_tokens": 1000}}
    sizes: list[int] = []
    ask = Gathering._ask

    def noted(self: Gathering, kind: str, requests: list[object], rest: list[object]) -> list[object]:
        sizes.append(len(requests))
        return ask(self, kind, requests, rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Gathering, "_ask", noted)
    job = Job(tmp_path / "books", tuple(asks(Asked(text, CHOICES) for text in QUESTIONS)), tmp_path / "rows.jsonl")
    settings = load_settings({**given, "workflow": flow, "home": tmp_path / "home"}).settings  # type: ignore[typeddict-item]
    assert workers_of(job, settings) == 3
    outcome = run(job, settings)
    assert outcome.counts == {"done": 2} and outcome.asked == 6
    assert outcome.failed == 0, (tmp_path / "rows.jsonl").read_text()
    assert max(sizes) >= 4  # several questions' calls in one
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    found = {(row["document"], row["question"]): row["answer"] for row in rows}
    backend = LocalModel(model, device="cpu", dtype="fp32")
    alone = {}
    for path in paths:
        options = {**given, "workflow": flow, "model": backend, "home": tmp_path / "other"}
        with readthrough.read(path, **options) as book:  # type: ignore[arg-type]
            for question in QUESTIONS:
                name = path.relative_to(tmp_path / "books").as_posix()
                alone[name, question] = book.ask(question, CHOICES).answer
    assert found == alone
