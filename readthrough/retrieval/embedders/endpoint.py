"""The embeddings of an OpenAI-compatible server: OpenAI, vLLM, llama.cpp, Ollama, text-embeddings-inference."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from readthrough.errors import ConfigError, EndpointError
from readthrough.models.endpoint.address import PUBLIC_URL, parse_address
from readthrough.models.endpoint.connection import Connection
from readthrough.models.endpoint.replies import decode_json
from readthrough.models.estimate import estimate_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_NOTHING = "."
"""What is sent for a text without a letter: servers refuse empty ones."""


@dataclass(eq=False)
class EndpointEmbedder:
    """A model behind an OpenAI-compatible server's /embeddings.

    Tokens are estimated, upwards, as a server's tokenizer is not known.

    Attributes:
        model: the server's name for the model.
        base_url: the address; empty means `OPENAI_BASE_URL`, else OpenAI's own. The key is `OPENAI_API_KEY`.
        window_tokens: the most that the model reads at once. Some servers cut longer texts without saying so.
        dimensions_asked: ask for vectors of so many dimensions, where the model can shorten them.
        query_prompt: what stands before queries, such as `query: ` for e5.
        document_prompt: what stands before texts, such as `passage: `.
        batch: how many texts a request holds.
        concurrency: the most requests at a time.
        deadline_seconds: the total time for one request, with its retries.
    """

    model: str
    base_url: str = ""
    window_tokens: int = 512
    dimensions_asked: int | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    batch: int = 64
    concurrency: int = 4
    deadline_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in ("window_tokens", "batch", "concurrency", "deadline_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: it must be above 0")
        key = os.environ.get("OPENAI_API_KEY")
        self._address = parse_address(self.base_url or os.environ.get("OPENAI_BASE_URL") or PUBLIC_URL, key)
        if not key and self._address.shown == PUBLIC_URL:
            raise ConfigError(f"no key for {PUBLIC_URL}", hint="set OPENAI_API_KEY, or name a server: openai:MODEL@URL")
        self._connection = Connection(self._address, key, self.deadline_seconds)

    def __repr__(self) -> str:
        return f"EndpointEmbedder({self.name})"

    @property
    def name(self) -> str:
        """The model, its address, and what changes its vectors."""
        changed = "".join(f":{value}" for value in (self.dimensions_asked, self.document_prompt) if value)
        return f"openai:{self.model}@{self._address.shown}{changed}"

    @cached_property
    def dimensions(self) -> int:
        """See `Embedder`; asked of the server once."""
        return self.dimensions_asked or self._embed([_NOTHING]).shape[1]

    @property
    def max_tokens(self) -> int:
        """See `Embedder`."""
        return max(1, self.window_tokens - max(map(estimate_tokens, (self.query_prompt, self.document_prompt))))

    @cached_property
    def queries(self) -> EndpointEmbedder:
        """What embeds queries."""
        same = self.query_prompt == self.document_prompt
        return self if same else replace(self, document_prompt=self.query_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """About how many tokens each text has; rather too many than too few."""
        return [estimate_tokens(text) for text in texts]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors `[len(texts), dimensions]`, float32.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
            DeadlineError: the deadline passed.
            EndpointError: the server failed, or sent what cannot be used.
        """
        longest = max(self.count_tokens(texts), default=0)
        if longest > self.max_tokens:
            raise ValueError(
                f"a text of about {longest} tokens is longer than the {self.max_tokens} that {self.model} reads"
            )
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return self._embed([self.document_prompt + (text if text.strip() else _NOTHING) for text in texts])

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        batches = [texts[start : start + self.batch] for start in range(0, len(texts), self.batch)]
        vectors = np.concatenate(self._connection.loop.map(self._ask, batches, self.concurrency))
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32)

    async def _ask(self, texts: Sequence[str]) -> np.ndarray:
        async with self._connection.deadline() as ends:
            body = await self._connection.call(lambda client: self._send(client, texts), ends)
        return self._parse(body, len(texts))

    async def _send(self, client: AsyncOpenAI, texts: Sequence[str]) -> dict[str, Any]:
        create: Any = client.embeddings.with_raw_response.create
        extra = {} if self.dimensions_asked is None else {"dimensions": self.dimensions_asked}
        response = await create(model=self.model, input=list(texts), encoding_format="float", **extra)
        sent = response.http_response
        return decode_json(sent.text, sent.headers.get("content-type", ""), self._address)

    def _parse(self, body: dict[str, Any], count: int) -> np.ndarray:
        """The vectors of a reply to `count` texts, in their order.

        Raises:
            EndpointError: there are not as many, or one is no vector.
        """
        try:
            rows = {int(row["index"]): [float(value) for value in row["embedding"]] for row in body["data"]}
            vectors = np.array([rows[index] for index in range(count)], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise self._unusable(f"not one vector a text: {type(error).__name__} {error}") from None
        if len(rows) != count or vectors.ndim != 2 or not vectors.shape[1]:
            raise self._unusable(f"{len(rows)} vectors for {count} texts")
        if self.dimensions_asked and vectors.shape[1] != self.dimensions_asked:
            raise self._unusable(f"{vectors.shape[1]} dimensions, asked for {self.dimensions_asked}")
        if not math.isfinite(vectors.sum()) or not np.linalg.norm(vectors, axis=1).all():
            raise self._unusable("a vector without a direction")
        return vectors

    def _unusable(self, what: str) -> EndpointError:
        shown = self._address.redact(what)
        hint = "is this a model that makes embeddings?"
        return EndpointError(f"{self._address.shown} sent no usable embeddings: {shown}", hint=hint)
