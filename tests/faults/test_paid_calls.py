"""A run that is cut off within a step pays for no reply of that step twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.errors import EndpointError
from readthrough.memory.runs import RunLog, Step
from readthrough.models.base import Completion
from readthrough.models.journal import journal, once
from readthrough.types import Usage
from tests.agent_samples import QUESTION, fill_in, shelve, write_book
from tests.endpoints import open_on
from tests.fake_server import Body, FakeServer, Handler, fails, says


class Counting:
    """A server that answers, but for the request of one number, which it refuses; it counts what it answered."""

    def __init__(self, refused: int | None = None) -> None:
        self.refused = refused
        self.asked = self.answered = 0

    def __call__(self, handler: Handler, body: Body) -> None:
        self.asked += 1
        if self.asked == self.refused:
            fails(403, "not now")(handler, body)
            return
        self.answered += 1
        said = "Ann Weller hid it." if "Ann Weller" in body["messages"][-1]["content"] else "Nothing about it."
        if "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            said = json.dumps(fill_in(schema, said, schema))
        says(said)(handler, body)


def calls_for(home: Path, server_step: Counting) -> tuple[str, int]:
    """The answer of a run over a book, which goes on where it failed, and how many calls were answered for it."""
    shelf, runs = shelve(home / "library", write_book(home)), RunLog(home / "runs.sqlite")
    with FakeServer([server_step]) as server, open_saver(home / "checkpoints.sqlite") as saver:
        model = open_on(server, concurrency=1, window_tokens=2048)
        services = Services(model, shelf, runs)
        try:
            answer = run(MapReduce(), Question(QUESTION), services, saver)
        except EndpointError:
            answer = resume(MapReduce(), Question(QUESTION), Services(model, shelf, runs, run=services.run), saver)
        model.close()
    return answer.answer, server_step.answered


def test_a_failed_step_repeats_only_what_had_no_reply(tmp_path: Path) -> None:
    whole = calls_for(tmp_path / "whole", Counting())
    assert whole[1] >= 6  # a step of several calls is cut somewhere in its middle
    for refused in range(2, whole[1] + 1):
        answer, calls = calls_for(tmp_path / str(refused), Counting(refused))
        assert answer == whole[0]
        assert calls <= whole[1] + 1  # one more may be in flight when the error comes back


class _Kept(dict[str, dict[str, Any]]):
    def find(self, call: str) -> dict[str, Any] | None:
        return self.get(call)

    def keep(self, call: str, reply: dict[str, Any]) -> None:
        self[call] = reply


def test_equal_calls_have_a_reply_each_and_errors_are_not_kept() -> None:
    made: list[str] = []

    async def call(item: str) -> Completion:
        made.append(item)
        if item == "bad" and made.count("bad") == 1:
            raise EndpointError("no")
        return Completion(f"{item}{len(made)}", "stop", Usage(calls=1))

    def ask(item: str) -> str:
        return asyncio.run(once(call, Completion.of, "m")(item)).text  # type: ignore[arg-type]

    kept = _Kept()
    with journal(kept):
        assert [ask("a"), ask("a"), ask("b")] == ["a1", "a2", "b3"]
        with pytest.raises(EndpointError):
            ask("bad")
    with journal(kept):
        assert [ask("a"), ask("a"), ask("b"), ask("a")] == ["a1", "a2", "b3", "a5"]
        assert ask("bad") == "bad6"
    assert ask("a") == "a7"


def test_replies_are_dropped_once_the_next_step_is_noted(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "runs.sqlite")
    run_id = log.start("who?", "w", "m")
    log.calls(run_id, 1, "read").keep("x", {"text": "Ann"})
    log.log(run_id, Step(1, "read"))
    assert log.calls(run_id, 1, "read").find("x") == {"text": "Ann"}
    log.log(run_id, Step(2, "answer"))
    assert log.calls(run_id, 1, "read").find("x") is None
