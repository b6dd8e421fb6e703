"""readthrough's models and its search as LangChain parts: `ChatReadthrough` and `ReadthroughRetriever`.

from readthrough.langchain import ChatReadthrough, ReadthroughRetriever

ChatReadthrough(model="small").invoke("Who keeps a lighthouse?")
ReadthroughRetriever(paths=["book.epub"], k=5).invoke("storm at sea")
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, Field, PrivateAttr

from readthrough.agents.runs.streaming import usage_metadata
from readthrough.errors import UsageError
from readthrough.filters import Filter
from readthrough.models.base import Completion, Message, ModelBackend, Request, Role

_ROLES: dict[str, Role] = {"system": "system", "human": "user", "ai": "assistant"}
_PER_CALL = ("max_tokens", "temperature", "schema")


class ChatReadthrough(BaseChatModel):
    """A model of readthrough as a LangChain chat model: no tools, structured output by constrained decoding.

    Attributes:
        model: a name, a spec (see `readthrough.models.open.open_model`), or an open backend.
        options: what `open_model` is given beside it: device, dtype, base_url, ...
        max_tokens: the most tokens of a reply.
        temperature: 0 is greedy.
        stop: strings that end a reply.
    """

    model: Any = "default"
    options: dict[str, Any] = Field(default_factory=dict)
    max_tokens: int = 1024
    temperature: float = 0.0
    stop: list[str] = Field(default_factory=list)

    _backend: ModelBackend | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def backend(self) -> ModelBackend:
        """The model behind it, opened on first use.

        Raises:
            ConfigError: there is no such model.
        """
        with self._lock:
            if self._backend is None:
                from readthrough.models.open import open_model

                given = isinstance(self.model, ModelBackend)
                self._backend = self.model if given else open_model(self.model, **self.options)
            return self._backend

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Replies that satisfy `schema`: a JSON Schema gives dictionaries, a pydantic class its objects.

        `method` and `strict` are there for other models' sake: the reply is always held to the schema while it is
        written, whichever is named.

        Raises:
            UsageError: an option that is not known.
        """
        if kwargs or method not in ("json_schema", "function_calling", "json_mode"):
            raise UsageError(f"unknown option of with_structured_output: {', '.join(kwargs) or method}")
        form = convert_to_json_schema(schema)
        traced = {"kwargs": {"method": method, "strict": strict}, "schema": form}
        bound = self.bind(schema=form, ls_structured_output_format=traced)

        def read(reply: BaseMessage) -> Any:
            value = json.loads(str(reply.text))
            if not isinstance(schema, type) or not is_basemodel_subclass(schema):
                return value
            kind: Any = schema
            return kind.model_validate(value) if issubclass(kind, BaseModel) else kind.parse_obj(value)

        def read_with_raw(reply: BaseMessage) -> dict[str, Any]:
            try:
                return {"raw": reply, "parsed": read(reply), "parsing_error": None}
            except ValueError as error:
                return {"raw": reply, "parsed": None, "parsing_error": error}

        return bound | RunnableLambda(read_with_raw if include_raw else read)

    @property
    def _name(self) -> str:
        return self.model.name if isinstance(self.model, ModelBackend) else str(self.model)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(**{"ls_model_name": self._name, **super()._get_ls_params(stop=stop, **kwargs)})

    @property
    def _llm_type(self) -> str:
        return "readthrough"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self._name, "max_tokens": self.max_tokens, "temperature": self.temperature, "stop": self.stop}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        completion = self.backend.complete([self._request(messages, stop, kwargs)])[0]
        message = AIMessage(
            content=completion.text,
            usage_metadata=usage_metadata(completion),
            response_metadata=self._metadata(completion),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for item in _pieces(self.backend, self._request(messages, stop, kwargs)):
            if isinstance(item, str):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=item))
                if run_manager is not None:
                    run_manager.on_llm_new_token(item, chunk=chunk)
            else:
                last = AIMessageChunk(
                    content="",
                    usage_metadata=usage_metadata(item),
                    response_metadata=self._metadata(item),
                    chunk_position="last",
                )
                chunk = ChatGenerationChunk(message=last)
            yield chunk

    def _request(self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: dict[str, Any]) -> Request:
        unknown = [name for name in given if name not in _PER_CALL]
        if unknown:
            raise UsageError(f"unknown option of a call: {', '.join(unknown)}", hint=f"known: {', '.join(_PER_CALL)}")
        turns = [_turn(message) for message in messages]
        prefill = turns.pop().content if turns and turns[-1].role == "assistant" else ""
        return Request(
            messages=tuple(turns),
            max_tokens=given.get("max_tokens", self.max_tokens),
            stop=tuple(stop if stop is not None else self.stop),
            schema=given.get("schema"),
            prefill=prefill,
            temperature=given.get("temperature", self.temperature),
        )

    def _metadata(self, completion: Completion) -> dict[str, Any]:
        return {"finish_reason": completion.finish, "model_name": self.backend.name}


class ReadthroughRetriever(BaseRetriever):
    """The passages of some texts that fit a query best, by readthrough's search.

    Attributes:
        paths: files and folders; not needed where `book` is given.
        k: how many passages.
        within: a filter that the passages pass.
        settings: what `readthrough.read` is given beside the paths: home, index, ...
        book: texts that were read already; they stay open.
    """

    paths: list[str | Path] = Field(default_factory=list)
    k: int = 10
    within: Filter | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    book: Any = None

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        with self._lock:
            if self.book is None:
                from readthrough.api import read

                self.book = read(*self.paths, **self.settings)
        found = []
        for hit in self.book.search(query, self.k if k is None else k, self.within):
            chunk = hit.chunk
            source = self.book.document(chunk.document)
            metadata = {
                "source": source.path,
                "page": source.page_at(chunk.start),
                "line": source.line_at(chunk.start),
                "section": source.section_at(chunk.start),
                "start_char": chunk.start,
                "end_char": chunk.end,
                "chunk_id": chunk.id,
                "score": hit.score,
            }
            name = f"{chunk.document}:{chunk.start}-{chunk.end}"
            found.append(Document(id=name, page_content=chunk.text, metadata=metadata))
        return found


def _turn(message: BaseMessage) -> Message:
    if message.type not in _ROLES or getattr(message, "tool_calls", None):
        raise UsageError(f"a message of the kind {message.type!r} cannot be answered", hint="tools are not supported")
    other = (
        []
        if isinstance(message.content, str)
        else [block.get("type") for block in message.content if isinstance(block, dict) and block.get("type") != "text"]
    )
    if other:
        raise UsageError(f"a message holds {other[0]!r}", hint="only text is read")
    return Message(_ROLES[message.type], str(message.text))


class _Unheard(Exception):
    """Nobody takes the pieces any more."""


def _pieces(backend: ModelBackend, request: Request) -> Iterator[str | Completion]:
    """The text piece by piece as the backend hands it over, then the completion; it stops where the reader does."""
    items: SimpleQueue[str | None] = SimpleQueue()
    unheard = threading.Event()

    def put(piece: str) -> None:
        if unheard.is_set():
            raise _Unheard
        items.put(piece)

    executor = ThreadPoolExecutor(1, "readthrough-chat")
    future = executor.submit(copy_context().run, backend.stream, request, put)
    future.add_done_callback(lambda _: items.put(None))
    executor.shutdown(wait=False)
    try:
        while (item := items.get()) is not None:
            yield item
        yield future.result()
    finally:
        unheard.set()
