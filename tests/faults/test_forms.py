"""Replies that are no form: bounded repair, a typed error, and nothing of it is kept (fault test 14)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.forms import REPAIRS, fill
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.errors import ModelError, PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Choice, Completion, ModelBackend, Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Usage
from tests import tiny_models
from tests.agent_samples import QUESTION, shelve, write_book

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "sure": {"type": "integer"}},
    "required": ["name", "sure"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ann", "sure": 3}'
BAD = {
    "not JSON": "The keeper is Ann.",
    "empty": "",
    "a refusal": "I'm sorry, but I cannot help with that.",
    "cut": '{"name": "An',
    "more after it": f"{GOOD} and so on",
    "a megabyte": '{"name": "' + "a" * 1_000_000 + '", "sure": 3}',
    "deep": "[" * 100_000,
    "NaN": '{"name": "Ann", "sure": NaN}',
    "half a surrogate": '{"name": "\\ud83d", "sure": 3}',
    "another type": '{"name": "Ann", "sure": "very"}',
    "another key": '{"name": "Ann", "sure": 3, "tool": "rm"}',
    "a list": f"[{GOOD}]",
}


class Says(ModelBackend):
    """Says one thing after another whatever the schema, as a model that is not held to it; the last for ever."""

    name, window_tokens, tokenizer_id = "says", 8192, "says:letters"
    capabilities = frozenset({"schema"})

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return [Completion(self._next(), "stop", Usage(calls=1)) for _ in requests]

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        return [Choice((1.0,) + (0.0,) * (len(given) - 1), Usage(calls=1)) for given in options]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 4 for text in texts]

    def _next(self) -> str:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("texts")
    return shelve(folder / "home", write_book(folder / "books"))


def ask(model: ModelBackend, shelf: Shelf, count: int = 1, **options: Any) -> tuple[list[Any], Services]:
    services = Services(model, shelf, RunLog())
    requests = [Request.user(f"Who? {number}", schema=SCHEMA, **options) for number in range(count)]
    return fill(services, requests), services


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD)
def test_a_bad_reply_is_asked_for_again_twice_then_it_is_an_error(reply: str, shelf: Shelf) -> None:
    model = Says(reply)
    with pytest.raises(ModelError, match="no reply satisfied the schema, after 2 repairs"):
        ask(model, shelf)
    assert len(model.requests) == 1 + REPAIRS


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD)
def test_only_the_bad_one_is_asked_for_again(reply: str, shelf: Shelf) -> None:
    model = Says(GOOD, reply, GOOD)
    values, services = ask(model, shelf, count=3)
    assert values == [json.loads(GOOD)] * 3
    assert [request.messages[-1].content for request in model.requests] == ["Who? 0", "Who? 1", "Who? 2", "Who? 1"]
    assert services.usage.calls == 4


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD)
def test_a_run_with_a_bad_reply_keeps_nothing_of_it(reply: str, shelf: Shelf, tmp_path: Path) -> None:
    runs = RunLog(tmp_path / "runs.sqlite")
    services = Services(Says(reply), shelf, runs)
    with pytest.raises(ModelError, match="no reply satisfied"):
        MapReduce(confidence="written").run(Question(QUESTION), services)
    assert runs.answer(services.run) is None
    kept = [runs.get(text) for step in runs.steps(services.run) for text in step.texts]
    assert all(reply not in text for text in kept if reply)


def test_a_repair_that_has_no_room_names_what_was_wrong_before_it(shelf: Shelf) -> None:
    def cut(request: Request) -> str:
        return BAD["cut"] + " and so on" * 100

    model = ScriptedModel(replies=cut, window_tokens=300)
    with pytest.raises(ModelError, match="cut at 200 tokens"):
        ask(model, shelf, max_tokens=200)
    with pytest.raises(PromptTooLongError):
        ask(model, shelf, max_tokens=400)


def test_the_local_engine_writes_valid_forms_or_says_that_they_were_cut(shelf: Shelf, tmp_path: Path) -> None:
    """A random model: nothing but the grammar makes its replies valid."""
    model = LocalModel(str(tiny_models.save(tmp_path)), device="cpu")
    values, services = ask(model, shelf, count=3, max_tokens=24)  # too few: the limit is doubled, twice at most
    assert all(set(value) == {"name", "sure"} and len(value["name"]) <= 40 for value in values)
    assert services.usage.calls > 3
    with pytest.raises(ModelError, match="cut at 8 tokens"):
        ask(model, shelf, max_tokens=2)
