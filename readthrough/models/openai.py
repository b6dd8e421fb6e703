"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, SGLang, llama.cpp, Ollama, a proxy."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from readthrough.errors import ConfigError, PromptTooLongError
from readthrough.models.base import Choice, Completion, ModelBackend, Prices, Request
from readthrough.models.endpoint.address import PUBLIC_URL, parse_address
from readthrough.models.endpoint.connection import Connection
from readthrough.models.endpoint.hedge import Hedge
from readthrough.models.endpoint.replies import Reply, check_answer, decode_json, parse_reply
from readthrough.models.endpoint.streaming import read_stream
from readthrough.models.endpoint.traffic import traffic_of
from readthrough.models.endpoint.traits import traits_of
from readthrough.models.estimate import (
    ESTIMATE_ID,
    estimate_prompt_tokens,
    estimate_tokens,
    fewest_prompt_tokens,
)
from readthrough.models.journal import once
from readthrough.models.structured import check_options, check_schema, choose_json, complete_json, prompted
from readthrough.types import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

DEFAULT_WINDOW_TOKENS = 8192

_WINDOW_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
_WINDOW_SECONDS = 5.0
_TOP_TOKENS = 20
_LEAST_MASS = 0.5
_CUT_BELOW = 0.5
_CUT_FROM_TOKENS = 200
# What a call, and a token that is read, take beside a token that is written: a server reads in large batches.
_CALL_WORK_TOKENS = 10.0
_READ_WORK_TOKENS = 0.01


@dataclass(repr=False)
class OpenAIModel(ModelBackend):
    """A model behind an OpenAI-compatible server.

    Structured output falls back from `json_schema` to `json_object` to a prompt, and is always checked. Token counts
    of a reply are the server's own; `count_tokens` is an upper-leaning estimate, as a server's tokenizer is not known.
    A `prefill` goes out as an assistant turn: not every server continues it, and one that repeats it is cut.

    Attributes:
        model: the server's name for the model.
        base_url: the address; empty means `OPENAI_BASE_URL`, else OpenAI's own.
        api_key: empty means `OPENAI_API_KEY`. It is never shown, and not kept here.
        window_tokens: 0 means: as the server's list of models says, else `DEFAULT_WINDOW_TOKENS`.
        deadline_seconds: the total time for one request, with its retries, hedges and repairs, once it is its turn.
        concurrency: the most requests at a time, of all models of this process with this name and address; how many
            there are adapts to what the server refuses and how long it takes.
        hedge_after_seconds: send a request that was not answered by then once more, where the server has room and
            the budget allows, and take the first good answer; None for never. The other is cancelled: it counts as a
            call, its tokens, which the server may charge, are not known. Not for replies that are streamed.
        votes: how many replies `choose` asks for where the server gives no logprobs.
        prices: what tokens cost; None means the cost is not known.

    Raises:
        ConfigError: the address is not usable, or OpenAI's own is meant and there is no key.
    """

    model: str
    base_url: str = ""
    api_key: str = ""
    window_tokens: int = 0
    deadline_seconds: float = 300.0
    concurrency: int = 16
    hedge_after_seconds: float | None = None
    votes: int = 1
    prices: Prices | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_seconds", "concurrency", "hedge_after_seconds", "votes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} = {value}: it must be above 0")
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        url = self.base_url or os.environ.get("OPENAI_BASE_URL") or PUBLIC_URL
        self._address = parse_address(url, key)
        self.base_url, self.api_key = self._address.shown, ""
        if not key and self.base_url == PUBLIC_URL:
            raise ConfigError(f"no key for {PUBLIC_URL}", hint="set OPENAI_API_KEY, or name a server: openai:MODEL@URL")
        traffic = traffic_of(self.base_url, self.model, self.concurrency)
        self._connection = Connection(self._address, key, self.deadline_seconds, traffic)
        self._traits = traits_of(self.base_url, self.model)
        self.name = f"openai:{self.model}@{self.base_url}"
        self.tokenizer_id = ESTIMATE_ID
        self.repeatable = True
        self.capabilities = frozenset({"schema", "stream"})
        if not self.window_tokens and self.base_url == PUBLIC_URL:
            self.window_tokens = DEFAULT_WINDOW_TOKENS  # its list of models says nothing of windows
        elif not self.window_tokens:
            loop = self._connection.loop
            self.window_tokens = loop.wait(loop.submit(self._find_window())) or DEFAULT_WINDOW_TOKENS

    @property
    def identity(self) -> str:
        """The name, and the number of votes on a choice where there are several."""
        return self.name if self.votes == 1 else f"{self.name} {self.votes} votes"

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name})"

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, at most `concurrency` at a time; a call's deadline covers its retries and repairs.

        Raises:
            PromptTooLongError: a prompt does not fit the window, or the server says so, or it cut the prompt.
            DeadlineError: the deadline passed.
            CircuitOpenError: the server has failed so often that it is left alone for some seconds.
            EndpointError: the server failed, or sent what cannot be used. Nothing partial is ever returned.
        """
        for request in requests:
            self._check_fits(request)
            if request.schema is not None:
                check_schema(request.schema)
        return self._connection.loop.map(once(self._complete, Completion.of, self.name), requests, self.concurrency)

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """By the first token's logprobs where the server gives them and they tell the options apart, else by votes.

        Raises: as `complete`, and UsageError for options that are empty or repeated.
        """
        check_options(requests, options)
        for request in requests:
            self._check_fits(replace(request, max_tokens=1))
        pairs = list(zip(requests, options, strict=True))
        return self._connection.loop.map(once(self._choose, Choice.of, self.name), pairs, self.concurrency)

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """Complete one request, handing over the text as it comes. Checked JSON comes in one piece.

        Raises: as `complete`. What was handed over before an error is no answer.
        """
        if request.schema is not None:
            return super().stream(request, on_text)
        self._check_fits(request)
        return self._connection.loop.stream(lambda put: self._stream(request, put), on_text)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An upper-leaning estimate."""
        return [estimate_tokens(text) for text in texts]

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _check_fits(self, request: Request) -> None:
        asked = prompted(request) if request.schema is not None else request
        tokens = estimate_prompt_tokens(asked)
        if tokens + request.max_tokens > self.window_tokens:
            raise PromptTooLongError(
                f"a prompt of about {tokens} tokens and {request.max_tokens} to generate do not fit the window of "
                f"{self.window_tokens} tokens of {self.name}",
                hint="set window_tokens if the server's is larger",
            )

    async def _complete(self, request: Request) -> Completion:
        async with self._connection.deadline() as ends:
            return await self._answer(request, ends)

    async def _answer(self, request: Request, ends: float) -> Completion:
        if request.schema is None:
            reply, completion = await self._ask(request, ends)
            check_answer(reply, request, self._address)
            return completion

        async def ask(attempt: Request) -> Completion:
            self._check_fits(attempt)
            completion = (await self._ask(attempt, ends))[1]
            if not self._traits.ignores_schema(completion):
                return completion
            prompted_one = (await self._ask(attempt, ends))[1]
            return replace(prompted_one, usage=completion.usage + prompted_one.usage)

        return await complete_json(ask, request)

    async def _choose(self, pair: tuple[Request, Sequence[str]]) -> Choice:
        request, options = pair
        async with self._connection.deadline() as ends:
            usage = Usage()
            if "logprobs" not in self._traits.refused:
                asked = replace(request, max_tokens=1, temperature=0.0, schema=None, stop=())
                with suppress(_NoLogprobs):
                    reply, completion = await self._ask(asked, ends, logprobs=True)
                    usage = completion.usage
                    if not reply.first_tokens:
                        self._traits.refused.add("logprobs")
                    probabilities = shares(reply.first_tokens, options)
                    if probabilities:
                        return Choice(probabilities, usage)
            choice = await choose_json(lambda r: self._answer(r, ends), request, options, self.votes)
            return replace(choice, usage=usage + choice.usage)

    async def _ask(self, request: Request, ends: float, logprobs: bool = False) -> tuple[Reply, Completion]:
        started = time.monotonic()
        extra: dict[str, Any] = {"logprobs": True, "top_logprobs": _TOP_TOKENS} if logprobs else {}
        hedge = Hedge(self.hedge_after_seconds, self._connection.traffic.limiter)
        reply = await self._connection.call(
            lambda client: hedge.ask(lambda: self._send(client, request, extra)),
            ends,
            _work_tokens,
        )
        completion = self._completion(request, reply, time.monotonic() - started)
        usage = replace(completion.usage, calls=1 + hedge.sent)
        return reply, replace(completion, usage=usage)

    async def _send(self, client: AsyncOpenAI, request: Request, extra: dict[str, Any]) -> Reply:
        from openai import APIStatusError

        create: Any = client.chat.completions.with_raw_response.create
        while True:
            if extra and "logprobs" in self._traits.refused:
                raise _NoLogprobs  # a reply without them would be paid for, and say nothing
            body = {**self._traits.body(self.model, request), **extra}
            try:
                response = (await create(**body)).http_response
            except APIStatusError as error:
                if not self._traits.learn(error.status_code, error.response.text, body):
                    raise
                continue
            content_type = response.headers.get("content-type", "")
            return parse_reply(decode_json(response.text, content_type, self._address), request, self._address)

    async def _stream(self, request: Request, put: Callable[[str], None]) -> Completion:
        started = time.monotonic()
        async with self._connection.deadline() as ends:
            reply = await self._connection.call(
                lambda client: self._send_stream(client, request, put), ends, _work_tokens
            )
        check_answer(reply, request, self._address)
        return self._completion(request, reply, time.monotonic() - started)

    async def _send_stream(self, client: AsyncOpenAI, request: Request, put: Callable[[str], None]) -> Reply:
        from openai import APIStatusError

        create: Any = client.chat.completions.with_streaming_response.create
        while True:
            extra = self._traits.allowed({"stream_options": {"include_usage": True}})
            body = {**self._traits.body(self.model, request), **extra}
            try:
                async with create(stream=True, **body) as response:
                    return await read_stream(response, request, self._address, put)
            except APIStatusError as error:
                if not self._traits.learn(error.status_code, error.response.text, body):
                    raise

    def _completion(self, request: Request, reply: Reply, seconds: float) -> Completion:
        """The reply with its account.

        Raises:
            PromptTooLongError: the server counted so few prompt tokens that it must have cut the prompt.
        """
        counted, fewest = reply.prompt_tokens, fewest_prompt_tokens(request)
        if counted is not None and fewest >= _CUT_FROM_TOKENS and counted + reply.cached_tokens < _CUT_BELOW * fewest:
            raise PromptTooLongError(
                f"{self._address.shown} read {counted} tokens of a prompt of at least {fewest}: it cuts long prompts "
                "without saying so",
                hint="raise the server's context length, or set window_tokens to it",
            )
        prompt_tokens = counted if counted is not None else estimate_prompt_tokens(request)
        completion_tokens = reply.completion_tokens
        if completion_tokens is None:
            completion_tokens = estimate_tokens(reply.text)
        prices = self.prices
        cost = prices.cost(prompt_tokens, reply.cached_tokens, completion_tokens) if prices else None
        usage = Usage(prompt_tokens, reply.cached_tokens, completion_tokens, 1, seconds, cost)
        return Completion(reply.text, reply.finish, usage)

    async def _find_window(self) -> int | None:
        from openai import OpenAIError

        try:
            async with asyncio.timeout(_WINDOW_SECONDS):
                raw = await self._connection.client().models.with_raw_response.list()
            models = json.loads(raw.http_response.text)["data"]
            mine = next(entry for entry in models if entry["id"] == self.model)
        except (OpenAIError, TimeoutError, ValueError, KeyError, TypeError, StopIteration) as error:
            log.info("%s does not say how long its window is: %s", self._address.shown, type(error).__name__)
            return None
        sizes = [mine.get(name) for name in _WINDOW_FIELDS]
        return next((size for size in sizes if isinstance(size, int) and size > 0), None)


class _NoLogprobs(Exception):
    """The server gives no logprobs."""


def _work_tokens(reply: Reply) -> float:
    written = reply.completion_tokens or estimate_tokens(reply.text)
    return _CALL_WORK_TOKENS + _READ_WORK_TOKENS * (reply.prompt_tokens or 0) + written


def shares(tokens: Sequence[tuple[str, float]], options: Sequence[str]) -> tuple[float, ...] | None:
    """The options' shares of the first token's probability; None where the tokens do not tell the options apart.

    A token counts for the one option that it begins; one that could begin two of them counts for none.
    """
    mass = [0.0] * len(options)
    for token, probability in tokens:
        text = token.strip().strip("\"'`*.,:").casefold()
        begun = [index for index, option in enumerate(options) if text and option.casefold().startswith(text)]
        if len(begun) == 1:
            mass[begun[0]] += probability
    total = sum(mass)
    return tuple(part / total for part in mass) if total >= _LEAST_MASS else None
