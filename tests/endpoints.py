"""Asking an `OpenAIModel` on a fake server, for the tests of endpoints."""

from __future__ import annotations

import itertools
import json
import pickle
import traceback
from typing import Any

import pytest

from readthrough.errors import ModelError
from readthrough.models.base import Request
from readthrough.models.endpoint import connection
from readthrough.models.openai import OpenAIModel
from tests.fake_server import FakeServer, Step

KEY = "sk-verysecret0123456789"
ASK = Request.user("Who keeps the lighthouse?", max_tokens=50)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
ASK_JSON = Request.user("Who keeps the lighthouse?", max_tokens=50, schema=SCHEMA)
GOOD_JSON = '{"answer": "Ann"}'

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def open_on(server: FakeServer, **options: Any) -> OpenAIModel:
    """A model that no other test has asked: what a server supports is remembered for the process."""
    options = {"window_tokens": 4096, "deadline_seconds": 5.0, "api_key": KEY, **options}
    return OpenAIModel(f"m{next(_numbers)}", base_url=server.url, **options)


def ask(steps: list[Step], request: Request = ASK, **options: Any) -> tuple[str, FakeServer]:
    with FakeServer(steps) as server:
        model = open_on(server, **options)
        try:
            return model.complete([request])[0].text, server
        finally:
            model.close()


def fault(steps: list[Step], kind: type[ModelError], match: str, request: Request = ASK, **options: Any) -> FakeServer:
    with FakeServer(steps) as server:
        model = open_on(server, **options)
        with pytest.raises(kind, match=match) as caught:
            model.complete([request])
        model.close()
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in json.dumps(caught.value.to_dict())
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)
    return server
