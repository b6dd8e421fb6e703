"""Graphs that loop or fan out, in a batch with a limit of calls: each document ends in time, what it has is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from readthrough.types import Limits
from tests.agent_samples import fill_in
from tests.batch_samples import SAID, asking, go, lights, rows, scripted, served, write_folder
from tests.fake_server import FakeServer, Handler, completion, says

LOOP = """\
graph:
  nodes:
    find: {retrieve: {k: 8}}
    read: {reader: {notes_tokens: 256}}
    check: {enough: {threshold: 0.9}}
    ask: queries
    answer: manager
  edges:
    - start -> find -> read -> check
    - ask -> find
    - answer -> end
  branch:
    check: {enough: answer, more: ask}
  limits: {rounds: 1000}
"""


def never_content(handler: Handler, body: dict[str, Any]) -> None:
    """A model that always says No, and has another query each time."""
    if "response_format" not in body:
        says(f"{SAID} {len(handler.server.fake.requests)}")(handler, body)
        return
    schema = body["response_format"]["json_schema"]["schema"]
    value = fill_in(schema, f"boats {len(handler.server.fake.requests)}", schema)
    choice = schema["properties"].get("choice", {}).get("enum")
    handler.json(200, completion(body, json.dumps({"choice": "No"} if choice and "No" in choice else value)))


@pytest.mark.parametrize("workflow", ["map-reduce", "chain-of-agents", "memory-agent"])
def test_a_fan_out_ends_at_its_calls(tmp_path: Path, workflow: str) -> None:
    texts = {f"{part}.txt": "\n\n".join(lights(400, start=400 * part).values()) for part in range(2)}
    job = asking(
        write_folder(tmp_path / "docs", texts), tmp_path / "out.jsonl", document_limits=Limits(calls=4), workers=1
    )
    settings = scripted(tmp_path / "home", window_tokens=1024, workflow=workflow)
    done = go(job, settings)
    assert (done.counts, done.failed, done.partial) == ({"done": 2}, 2, True)
    for row in rows(job.out):
        assert row["stopped"] == "max_calls=4"
        assert row["usage"]["calls"] <= 4
        assert sum(row["coverage"].values()) == 2 * row["coverage"]["tokens"]


def test_a_graph_that_loops_ends_at_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    graph = tmp_path / "loop.yaml"
    graph.write_text(LOOP)
    folder = write_folder(tmp_path / "docs", {"long.txt": "\n\n".join(lights(600).values())})
    with FakeServer([never_content]) as server:
        settings = served(tmp_path / "home", server.url, workflow=str(graph))
        for calls in (7, 15):
            job = asking(folder, tmp_path / f"{calls}.jsonl", document_limits=Limits(calls=calls))
            before = len(server.requests)
            assert go(job, settings).failed == 1
            (row,) = rows(job.out)
            assert row["stopped"] == f"max_calls={calls}"
            assert calls - 2 <= row["usage"]["calls"] <= len(server.requests) - before <= calls
