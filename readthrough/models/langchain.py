"""Any LangChain chat model as a backend."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from readthrough.errors import ConfigError, EndpointError, ModelError, PromptTooLongError, ReadthroughError
from readthrough.models.base import Choice, Completion, ModelBackend, Request
from readthrough.models.endpoint.address import redact
from readthrough.models.endpoint.faults import is_too_long
from readthrough.models.endpoint.replies import stop_at
from readthrough.models.estimate import ESTIMATE_ID, estimate_prompt_tokens, estimate_tokens
from readthrough.models.journal import once
from readthrough.models.loop import Loop
from readthrough.models.structured import check_options, check_schema, choose_json, complete_json, prompted
from readthrough.types import Usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

DEFAULT_WINDOW_TOKENS = 8192

_LENGTH_REASONS = frozenset({"length", "max_tokens", "model_length"})
_LIMIT_FIELDS = ("max_tokens", "max_output_tokens", "num_predict")


@dataclass
class LangChainModel(ModelBackend):
    """A LangChain `BaseChatModel`. Its own retries, keys and timeouts are those it was made with.

    Token counts of a reply are the model's `usage_metadata`, or an estimate where it gives none. A reply longer than
    `max_tokens` is cut there, with the finish `length`, where the model does not take the limit itself.

    Attributes:
        chat_model: the model.
        window_tokens: its window; 0 means what its profile says, else `DEFAULT_WINDOW_TOKENS`.
        concurrency: the most requests at a time.
        name: what it is called in answers; empty means by its own name, or its class's.

    Raises:
        ConfigError: `chat_model` is no LangChain chat model.
    """

    chat_model: Any
    window_tokens: int = 0
    concurrency: int = 4
    name: str = ""

    def __post_init__(self) -> None:
        from langchain_core.language_models import BaseChatModel

        if not isinstance(self.chat_model, BaseChatModel):
            raise ConfigError(f"{self.chat_model!r:.80} is no LangChain chat model", hint="pass a BaseChatModel object")
        profile = getattr(self.chat_model, "profile", None) or {}
        self.window_tokens = self.window_tokens or profile.get("max_input_tokens") or DEFAULT_WINDOW_TOKENS
        self.name = self.name or f"langchain:{_model_name(self.chat_model)}"
        self.tokenizer_id = ESTIMATE_ID
        self.capabilities = frozenset({"schema", "stream"})
        self._structured = True
        self._loop = Loop("readthrough-langchain")

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, at most `concurrency` at a time.

        Raises:
            PromptTooLongError: a prompt does not fit the window, or the model says so.
            EndpointError: the reply is empty, or no reply satisfied the schema.
            ModelError: the model raised an error.
        """
        for request in requests:
            self._check_fits(request)
            if request.schema is not None:
                check_schema(request.schema)
        return self._loop.map(once(self._answer, Completion.of, self.name), requests, self.concurrency)

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """One vote by structured output: probability 1 for the option that it names."""
        check_options(requests, options)
        for request in requests:
            self._check_fits(replace(request, max_tokens=1))

        async def one(pair: tuple[Request, Sequence[str]]) -> Choice:
            return await choose_json(self._answer, *pair)

        pairs = list(zip(requests, options, strict=True))
        return self._loop.map(once(one, Choice.of, self.name), pairs, self.concurrency)

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """Complete one request, handing over the text as it comes.

        It comes in one piece where it must be checked, or may have to be cut, before it is shown: JSON, stop strings,
        a model that takes no limit.
        """
        if request.schema is not None or request.stop or not self._limits():
            return super().stream(request, on_text)
        self._check_fits(request)
        return self._loop.stream(lambda put: self._stream(request, put), on_text)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An upper-leaning estimate."""
        return [estimate_tokens(text) for text in texts]

    def close(self) -> None:
        """Stop the loop that calls run on."""
        self._loop.close()

    def _check_fits(self, request: Request) -> None:
        tokens = estimate_prompt_tokens(prompted(request) if request.schema is not None else request)
        if tokens + request.max_tokens > self.window_tokens:
            raise PromptTooLongError(
                f"a prompt of about {tokens} tokens and {request.max_tokens} to generate do not fit the window of "
                f"{self.window_tokens} tokens of {self.name}",
                hint="set window_tokens if the model's is larger",
            )

    async def _answer(self, request: Request) -> Completion:
        if request.schema is None:
            completion = await self._ask(request)
            if not completion.text.strip() and not (request.stop and completion.finish == "stop"):
                raise EndpointError(f"{self.name} answered with nothing")
            return completion

        async def ask(attempt: Request) -> Completion:
            self._check_fits(attempt)
            if self._structured:
                completion = await self._ask_structured(attempt)
                if completion is not None:
                    return completion
            return await self._ask(prompted(attempt))

        return await complete_json(ask, request)

    async def _ask(self, request: Request) -> Completion:
        started = time.monotonic()
        try:
            message = await self._bound(request).ainvoke(to_messages(request))
        except Exception as error:
            raise self._typed(error) from error
        return self._completion(request, message, time.monotonic() - started)

    async def _ask_structured(self, request: Request) -> Completion | None:
        """One call by the model's own structured output; None where it has none, which is then remembered."""
        started = time.monotonic()
        schema = {"title": "reply", "description": "The reply.", **(request.schema or {})}
        try:
            runnable = self.chat_model.with_structured_output(schema, include_raw=True)
        except (NotImplementedError, TypeError, ValueError):
            self._structured = False
            return None
        try:
            answer: Any = await runnable.ainvoke(to_messages(request))
        except Exception as error:
            raise self._typed(error) from error
        completion = self._completion(request, answer["raw"], time.monotonic() - started)
        parsed = answer.get("parsed")
        return completion if parsed is None else replace(completion, text=json.dumps(parsed, ensure_ascii=False))

    async def _stream(self, request: Request, put: Callable[[str], None]) -> Completion:
        started = time.monotonic()
        whole: Any = None
        try:
            async for chunk in self._bound(request).astream(to_messages(request)):
                whole = chunk if whole is None else whole + chunk
                put(str(chunk.text))
        except Exception as error:
            raise self._typed(error) from error
        if whole is None or not str(whole.text).strip():
            raise EndpointError(f"{self.name} answered with nothing")
        return self._completion(request, whole, time.monotonic() - started)

    def _bound(self, request: Request) -> Any:
        """The model with the request's limits, by the names that its class has for them."""
        options: dict[str, Any] = dict.fromkeys(self._limits(), request.max_tokens)
        if "temperature" in type(self.chat_model).model_fields:
            options["temperature"] = request.temperature
        if request.stop:
            options["stop"] = list(request.stop)
        return self.chat_model.bind(**options)

    def _limits(self) -> list[str]:
        return [name for name in _LIMIT_FIELDS if name in type(self.chat_model).model_fields]

    def _typed(self, error: Exception) -> ReadthroughError:
        text = redact(f"{type(error).__name__}: {error}")
        if is_too_long(str(error)):
            return PromptTooLongError(f"{self.name} says the prompt is too long: {text}")
        return ModelError(f"{self.name} failed: {text}")

    def _completion(self, request: Request, message: AIMessage, seconds: float) -> Completion:
        text, finish = str(message.text), "stop"
        metadata = message.response_metadata
        if {metadata.get("finish_reason"), metadata.get("stop_reason")} & _LENGTH_REASONS:
            finish = "length"
        at = stop_at(text, request.stop)
        if at is not None:
            text, finish = text[:at], "stop"
        counts: Any = message.usage_metadata or {}
        tokens = counts.get("output_tokens") or estimate_tokens(text)
        if not counts and tokens > request.max_tokens:
            text, tokens, finish = _cut(text, request.max_tokens), request.max_tokens, "length"
        usage = Usage(
            prompt_tokens=counts.get("input_tokens") or estimate_prompt_tokens(request),
            cached_tokens=(counts.get("input_token_details") or {}).get("cache_read") or 0,
            completion_tokens=tokens,
            calls=1,
            seconds=seconds,
        )
        return Completion(text, "length" if finish == "length" else "stop", usage)


def to_messages(request: Request) -> list[BaseMessage]:
    """A request's turns as LangChain's, `prefill` as the beginning of a reply."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    kinds: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    messages = [kinds[message.role](content=message.content) for message in request.messages]
    return [*messages, AIMessage(content=request.prefill)] if request.prefill else messages


def _model_name(chat_model: BaseChatModel) -> str:
    own = getattr(chat_model, "model_name", None) or getattr(chat_model, "model", None)
    return str(own or type(chat_model).__name__)


def _cut(text: str, max_tokens: int) -> str:
    """The longest beginning of `text` with an estimate of at most `max_tokens`."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]
