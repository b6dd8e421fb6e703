"""What tests of batches share: folders, jobs with a scripted model, and the rows of their results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from readthrough.batch.job import Job
from readthrough.batch.open import open_table
from readthrough.batch.running import Listener, Outcome, run
from readthrough.batch.table import Claim, Result, Table
from readthrough.batch.works import asks
from readthrough.config import Settings
from readthrough.questions import Asked
from tests.agent_samples import fill_in
from tests.fake_server import Handler, completion, says

WHO = "Who keeps the light?"
WHEN = "When did the boats go out?"
SAID = "Ann keeps the light."
JOB = "results.jsonl"
"""The name of a job where only the table is tested."""


def write_folder(folder: Path, texts: Mapping[str, str | bytes]) -> Path:
    """A folder of these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def lights(count: int, start: int = 0) -> dict[str, str]:
    """The texts of small documents, all of them different."""
    return {
        f"light{number:03}.txt": f"Light {number}. Ann keeps the light on cliff {number}. The boats went out at dawn."
        for number in range(start, start + count)
    }


def scripted(home: Path, replies: Mapping[str, str] | None = None, **settings: Any) -> Settings:
    """Settings with a home folder, a scripted model, and an index that needs no vectors."""
    home.mkdir(parents=True, exist_ok=True)
    script = write_script(home / "script.yaml", replies)
    return Settings(home=home, model=f"scripted:{script}", index="bm25", **settings)


def write_script(path: Path, replies: Mapping[str, str] | None = None) -> Path:
    """The file of a scripted model."""
    path.write_text(json.dumps({"replies": dict(replies or {"(?s).*": SAID})}))
    return path


def served(home: Path, url: str, **settings: Any) -> Settings:
    """Settings with a home folder and a model behind an address."""
    chosen = {"model": f"openai:m@{url}", "window_tokens": 4096, "deadline_seconds": 5.0, "index": "bm25"}
    return Settings(**{"home": home, **chosen, **settings})


def answers(handler: Handler, body: dict[str, Any]) -> None:
    """What a served model says: SAID, also in every place of a form; of options the first."""
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        handler.json(200, completion(body, json.dumps(fill_in(schema, SAID, schema))))
    else:
        says(SAID)(handler, body)


def asking(folder: Path, out: Path, *questions: str, **more: Any) -> Job:
    """A job that asks every document of a folder."""
    return Job(folder, tuple(asks([Asked(text) for text in questions or (WHO,)])), out, **more)


def go(job: Job, settings: Settings, listener: Listener | None = None) -> Outcome:
    """Run a batch in this process."""
    return run(job, settings, listener)


def rows(out: Path) -> list[dict[str, Any]]:
    """The lines of a file of results."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def said(out: Path) -> dict[tuple[str, str], str]:
    """The answer, or the type of the error, by document and question."""
    return {
        (row["document"], row["question"]): row["answer"] if "answer" in row else row["error"]["type"]
        for row in rows(out)
    }


def lasting(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is another in every run: its id, and what it took."""
    return [{name: value for name, value in line.items() if name not in ("run", "usage")} for line in lines]


def counts(job: Job, settings: Settings) -> dict[str, int]:
    """How many documents are in each state."""
    table = open_table(settings)
    try:
        return table.counts(job.name)
    finally:
        table.close()


def claimed(table: Table, worker: str, lease_seconds: float = 60.0) -> str | None:
    """The path of the document that a worker is given next."""
    claim = table.claim(JOB, worker, lease_seconds)
    return None if claim is None else claim.path


def must_claim(table: Table, worker: str, lease_seconds: float = 60.0) -> Claim:
    """The document that a worker is given next."""
    claim = table.claim(JOB, worker, lease_seconds)
    assert claim is not None
    return claim


def answered(path: str, work: str = "w", recipe: str = "r", **more: Any) -> Result:
    """A result that is done."""
    answer = {"answer": "yes", "evidence": [], "usage": {}}
    return Result(path, work, recipe, "done", **{"run": "run", "answer": answer, "finished": 1.0, **more})
