"""readthrough as LangChain parts: the suites that LangChain gives its integrations, and what is particular to it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel, Field

import readthrough as rt
from readthrough.errors import ModelError, UsageError
from readthrough.langchain import ChatReadthrough, ReadthroughRetriever
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import FACT, write_book

JOKE = '{"setup": "Why did the fog stay?", "punchline": "It could not see the way out."}'


def replies(request: Request) -> str:
    if request.schema is None:
        return "Ann kept the lighthouse for forty years."
    return JOKE if "setup" in request.schema["properties"] else '{"name": "Ann", "age": 41}'


def chat(**options: Any) -> ChatReadthrough:
    return ChatReadthrough(model=ScriptedModel(replies=replies), **options)


class _OurModel:
    """What both suites are told of the model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatReadthrough

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": ScriptedModel(replies=replies)}

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def has_tool_calling(self) -> bool:
        return False


class TestUnit(_OurModel, ChatModelUnitTests):
    """LangChain's unit tests."""


class TestIntegration(_OurModel, ChatModelIntegrationTests):
    """LangChain's integration tests."""

    @property
    def supports_json_mode(self) -> bool:
        return True


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_book(tmp_path_factory.mktemp("books"))


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _texts(self, book: Path, tmp_path: Path) -> None:
        self._params = {"paths": [book], "settings": {"home": tmp_path, "index": "bm25"}}

    @property
    def retriever_constructor(self) -> type[ReadthroughRetriever]:
        return ReadthroughRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self._params

    @property
    def retriever_query_example(self) -> str:
        return "the lighthouse"


def test_a_passage_says_where_it_stands(book: Path, tmp_path: Path) -> None:
    with rt.read(book, home=tmp_path, index="bm25") as texts:
        found = texts.as_retriever(k=3).invoke("Ann Weller hid the brass key under the third stair")
    assert len(found) == 3
    passage = next(each for each in found if FACT in each.page_content)
    place = passage.metadata
    text = book.read_text(encoding="utf-8")
    assert text[place["start_char"] : place["end_char"]] == passage.page_content
    assert place["source"] == str(book) and place["line"] == text.count("\n", 0, place["start_char"]) + 1
    assert set(place) == {"source", "page", "line", "section", "start_char", "end_char", "chunk_id", "score"}
    assert len({each.id for each in found}) == 3


class Person(BaseModel):
    name: str = Field(description="The name.")
    age: int


def test_structured_output_is_the_class_or_the_raw_reply_beside_it() -> None:
    assert chat().with_structured_output(Person).invoke("Who?") == Person(name="Ann", age=41)
    both = chat().with_structured_output(Person.model_json_schema(), include_raw=True).invoke("Who?")
    assert both["parsed"] == {"name": "Ann", "age": 41} and both["raw"].usage_metadata and not both["parsing_error"]
    with pytest.raises(UsageError, match="tools"):
        chat().with_structured_output(Person, tools=[])


def test_turns_roles_and_limits_reach_the_model() -> None:
    model = ScriptedModel(replies=replies)
    turns = [SystemMessage("Be brief."), HumanMessage("Who?"), AIMessage("It was ")]
    reply = ChatReadthrough(model=model, stop=["forty"]).bind(max_tokens=5).invoke(turns)
    request = model.calls[0].request
    assert [message.role for message in request.messages] == ["system", "user"] and request.prefill == "It was "
    assert request.max_tokens == 5 and request.stop == ("forty",)
    assert reply.content == "Ann kept the lighthouse" and reply.response_metadata["finish_reason"] == "length"


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="tool"):
        chat().invoke([HumanMessage("Who?"), ToolMessage("Ann", tool_call_id="1")])
    with pytest.raises(UsageError, match="image_url"):
        chat().invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}])])
    with pytest.raises(UsageError, match="top_q"):
        chat().bind(top_q=1).invoke("Who?")


def test_a_stream_has_all_of_the_reply_and_ends_with_what_it_took() -> None:
    async def listen() -> list[Any]:
        return [chunk async for chunk in chat().astream("Who?")]

    for chunks in (list(chat().stream("Who?")), asyncio.run(listen())):
        assert "".join(chunk.content for chunk in chunks) == replies(Request.user("Who?")) and len(chunks) > 3
        assert chunks[-1].usage_metadata["output_tokens"] > 0


def test_a_stream_that_is_left_stops_the_model_and_a_fault_comes_through() -> None:
    told: list[str] = []

    class Slow(ScriptedModel):
        def stream(self, request: Request, on_text: Any) -> Any:
            for number in range(10_000):
                told.append(str(number))
                on_text(str(number))
                time.sleep(0.001)
            raise AssertionError("nobody stopped it")

    stream = ChatReadthrough(model=Slow()).stream("Who?")
    next(stream)
    stream.close()
    time.sleep(0.05)
    count = len(told)
    time.sleep(0.05)
    assert len(told) == count < 1_000
    broken = ScriptedModel(replies=replies, faults={0: ModelError("gone")})
    with pytest.raises(ModelError, match="gone"):
        list(ChatReadthrough(model=broken).stream("Who?"))
