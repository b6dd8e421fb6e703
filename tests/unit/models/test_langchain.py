"""LangChain models: usage, limits, structured output, errors, context."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda

from readthrough.errors import EndpointError, ModelError, PromptTooLongError
from readthrough.models.base import Message, Request
from readthrough.models.langchain import LangChainModel

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
CURRENT = contextvars.ContextVar("current", default="unset")


class Told(BaseChatModel):
    """Says the next of `replies` (an exception is raised) and keeps what it was asked."""

    replies: list[Any]
    asked: list[Any]
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "told"

    def _next(self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> AIMessage:
        self.asked.append((messages, stop, options, CURRENT.get()))
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, AIMessage) else AIMessage(reply)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages, stop, kwargs))])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in str(self._next(messages, stop, kwargs).text).split(" "):
            if word == "FAIL":
                raise ConnectionError("the line is dead")
            yield ChatGenerationChunk(message=AIMessageChunk(word + " "))


class Structured(Told):
    """One that has structured output."""

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **kwargs: Any) -> Runnable[Any, Any]:
        def run(messages: list[BaseMessage]) -> dict[str, Any]:
            raw = self._next(messages, None, {"schema": schema})
            return {"raw": raw, "parsed": json.loads(str(raw.text)), "parsing_error": None}

        return RunnableLambda(run)


def told(*replies: Any, kind: type[Told] = Told) -> tuple[LangChainModel, Told]:
    chat_model = kind(replies=list(replies), asked=[])
    return LangChainModel(chat_model, window_tokens=1000), chat_model


def test_usage_is_the_models_own() -> None:
    counts = {"input_tokens": 70, "output_tokens": 3, "total_tokens": 73, "input_token_details": {"cache_read": 64}}
    model, _ = told(AIMessage("Ann", usage_metadata=counts, response_metadata={"finish_reason": "length"}))
    completion = model.complete([Request.user("Who?")])[0]
    usage = completion.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (70, 64, 3)
    assert completion.finish == "length"


def test_limits_reach_the_model() -> None:
    model, chat_model = told("Ann END")
    request = Request((Message("system", "s"), Message("user", "u")), max_tokens=7, stop=("END",), prefill="A:")
    assert model.complete([request])[0].text == "Ann "
    messages, stop, options, _ = chat_model.asked[0]
    assert [message.type for message in messages] == ["system", "human", "ai"]
    assert (stop, options["max_tokens"]) == (["END"], 7)


def test_context_reaches_the_model() -> None:
    """LangChain's callbacks travel in context variables; calls run in another thread."""
    model, chat_model = told("Ann")
    CURRENT.set("traced")
    model.complete([Request.user("Who?")])
    assert chat_model.asked[0][3] == "traced"


def test_structured_output_of_its_own() -> None:
    model, chat_model = told('{"answer": "Ann"}', kind=Structured)
    assert json.loads(model.complete([Request.user("Who?", schema=SCHEMA)])[0].text) == {"answer": "Ann"}
    assert chat_model.asked[0][2]["schema"]["title"] == "reply"


@pytest.mark.parametrize("kind", [Told, Structured])
def test_repairs_are_bounded(kind: type[Told]) -> None:
    model, chat_model = told('{"answer": 7}', kind=kind)
    with pytest.raises(EndpointError, match="after 2 repairs"):
        model.complete([Request.user("Who?", schema=SCHEMA)])
    assert len(chat_model.asked) == 3


def test_choices_by_prompt_and_repair() -> None:
    model, _ = told("I think no", '{"choice": "No"}')
    choice = model.choose([Request.user("Is it?")], [("Yes", "No")])[0]
    assert choice.probabilities == (0.0, 1.0)
    assert choice.usage.calls == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (RuntimeError("GPU on fire"), ModelError),
        (ValueError("This model's maximum context length is 10 tokens"), PromptTooLongError),
        (" ", EndpointError),
    ],
)
def test_errors_are_typed(reply: Any, kind: type[ModelError]) -> None:
    model, _ = told(reply)
    for call in (lambda: model.complete([Request.user("Who?")]), lambda: model.stream(Request.user("Who?"), print)):
        with pytest.raises(kind):
            call()


def test_a_stream_and_a_cut_one() -> None:
    model, _ = told("Ann keeps it", "Ann FAIL it")
    pieces: list[str] = []
    assert model.stream(Request.user("Who?"), pieces.append).text == "".join(pieces) == "Ann keeps it "
    with pytest.raises(ModelError, match="the line is dead"):
        model.stream(Request.user("Who?"), pieces.append)
