"""The rows that the forty questions keep: no text of the data is among them, and other systems' rows stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import forty_questions
from readthrough.evaluation.store import Result
from tests.unit.evaluation.test_store import RESULT

WORDS = ("secret question", "secret answer", "secret quote", "secret story", "secret choice", "secret path")


def told(workflow: str, score: float = 1.0) -> Result:
    question, answer, quote, story, choice, path = WORDS
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 0, "calls": 1, "seconds": 1.0, "cost": None}
    said = {"answer": answer, "usage": usage, "confidence": 0.5, "abstained": False, "stopped": None, "evidence": quote}
    return replace(
        RESULT,
        task={"questions": {"path": path}},
        system={"workflow": workflow, "model": "small", "index": "bm25", "file": None},
        question=question,
        choices=(choice,),
        answers=(answer,),
        evidence=(quote,),
        tags={"hops": 2, "answer_text": story},
        sources=({"name": "book.txt", "path": path},),
        answer=said,
        scores={"score": score},
        error=None,
    )


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in (("KEPT", "kept.jsonl"), ("EARLIER", "earlier.md"), ("REPORT", "results.md")):
        monkeypatch.setattr(forty_questions, name, tmp_path / file)
    forty_questions.EARLIER.write_text("## Before\n", encoding="utf-8")


def test_no_text_is_kept() -> None:
    forty_questions.write_report([told("retrieve")])
    kept = forty_questions.KEPT.read_text(encoding="utf-8")
    assert not [words for words in WORDS if words in kept]
    assert json.loads(kept)["tags"] == {"hops": 2}
    report = forty_questions.REPORT.read_text(encoding="utf-8")
    assert "retrieve" in report and report.endswith("## Before\n")


def test_a_system_takes_the_place_of_its_earlier_rows() -> None:
    forty_questions.write_report([told("retrieve", 0.0), told("map-reduce", 0.5)])
    forty_questions.write_report([told("retrieve", 1.0)])
    rows = [json.loads(line) for line in forty_questions.KEPT.read_text(encoding="utf-8").splitlines()]
    assert [(row["system"]["workflow"], row["scores"]["score"]) for row in rows] == [
        ("map-reduce", 0.5),
        ("retrieve", 1.0),
    ]
