"""The embeddings of a server: batches, order, retries, and replies that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from readthrough.errors import ConfigError, DeadlineError, EndpointError
from readthrough.models.endpoint import connection
from readthrough.retrieval.embedders.endpoint import EndpointEmbedder
from readthrough.retrieval.embedders.open import open_embedder
from readthrough.retrieval.embedding import embed_queries, embed_texts
from tests.embedder_samples import serves
from tests.fake_server import FakeServer, Step, fails, hangs, sends
from tests.library_samples import HashingEmbedder

HASHING = HashingEmbedder()
KEY = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def opened(server: FakeServer, **options: Any) -> EndpointEmbedder:
    return EndpointEmbedder("tiny", server.url, **options)


def test_batches_in_order() -> None:
    texts = [f"word{number} of the keeper" for number in range(50)]
    with FakeServer([serves(HASHING.embed)]) as server:
        embedder = opened(server, batch=8)
        vectors = embedder.embed(texts)
        assert np.allclose(vectors, HASHING.embed(texts), atol=1e-6)
        assert sorted(len(request["input"]) for request in server.requests) == [2, *[8] * 6]
        assert server.requests[0]["model"] == "tiny"
        assert server.requests[0]["encoding_format"] == "float"
        assert embedder.name == f"openai:tiny@{server.url}"


def test_dimensions_are_asked_once() -> None:
    with FakeServer([serves(HASHING.embed)]) as server:
        embedder = opened(server)
        assert [embedder.dimensions, embedder.dimensions] == [64, 64]
        assert embedder.embed([]).shape == (0, 64)
        assert len(server.requests) == 1


def test_prompts_and_empty_texts() -> None:
    with FakeServer([serves(HASHING.embed)]) as server:
        embedder = opened(server, query_prompt="query: ", document_prompt="passage: ")
        embed_texts(embedder, ["lamp", " "])
        embed_queries(embedder, ["lamp"])
        sent = [text for request in server.requests for text in request["input"]]
        assert {"passage: lamp", "passage: .", "query: lamp"} <= set(sent)
        assert embedder.name.endswith(":passage: ")
        assert embedder.max_tokens < 512


def test_a_server_that_fails_at_first() -> None:
    busy = fails(503, "busy")
    with FakeServer([busy, fails(429, "slow down", {"Retry-After": "0.01"}), serves(HASHING.embed)]) as server:
        assert opened(server).embed(["lamp"]).shape == (1, 64)
        assert len(server.requests) == 3


def test_dimensions_asked_for() -> None:
    shortened = HashingEmbedder(dimensions=8)
    with FakeServer([serves(shortened.embed)]) as server:
        embedder = opened(server, dimensions_asked=8)
        assert embedder.embed(["lamp"]).shape == (1, embedder.dimensions) == (1, 8)
        assert server.requests[0]["dimensions"] == 8
        with pytest.raises(EndpointError, match="8 dimensions, asked for 16"):
            opened(server, dimensions_asked=16).embed(["lamp"])


def reply(*rows: Any) -> Step:
    return sends(json.dumps({"object": "list", "data": rows}).encode())


@pytest.mark.parametrize(
    "step",
    [
        reply(),
        reply({"index": 0, "embedding": [1.0]}),
        reply({"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}),
        reply({"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}),
        reply({"index": 0, "embedding": [0.0, 0.0]}, {"index": 1, "embedding": [1.0, 2.0]}),
        reply({"index": 0, "embedding": [1e400, 0.0]}, {"index": 1, "embedding": [1.0, 2.0]}),
        reply({"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}),
        reply({"index": 0, "embedding": []}, {"index": 1, "embedding": []}),
        reply("nonsense", None),
        sends(b'{"data": null}'),
        sends(b"<html>", "text/html"),
        sends(b"{"),
        fails(400, "no such model"),
    ],
)
def test_replies_that_cannot_be_used(step: Step) -> None:
    with FakeServer([step]) as server, pytest.raises(EndpointError) as error:
        opened(server).embed(["lamp", "key"])
    assert KEY not in str(error.value)


def test_a_server_that_says_nothing() -> None:
    with FakeServer([hangs]) as server, pytest.raises(DeadlineError):
        opened(server, deadline_seconds=0.3).embed(["lamp"])


def test_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_embedder("openai:text-embedding-3-small@https://user:secret@host/v1")
    assert made.name == "openai:text-embedding-3-small@https://host/v1"
    assert "secret" not in repr(made)
    assert open_embedder({"openai": {"model": "m", "base_url": "http://host/v1", "batch": 2}}).name.startswith(
        "openai:m@"
    )
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="no key"):
        open_embedder("openai:text-embedding-3-small")
    with pytest.raises(ConfigError, match="batch"):
        open_embedder({"openai": {"model": "m", "base_url": "http://host/v1", "batch": 0}})
