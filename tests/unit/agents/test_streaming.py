"""LangGraph's own ways to run and to watch a workflow's graph: stream modes, and any checkpointer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langgraph.checkpoint.memory import InMemorySaver

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import Reply
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.errors import ModelError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

FLOW = ChainOfAgents(window_tokens=600, message_tokens=40)
ASKED = Question(QUESTION)


def model(**options: Any) -> ScriptedModel:
    return ScriptedModel(replies=says_what_it_reads, choices=decides, **options)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


@pytest.fixture
def services(shelf: Shelf) -> Services:
    made = Services(model(), shelf, RunLog())
    made.run = made.runs.start(QUESTION, FLOW.name, made.model.name)
    return made


def test_every_stream_mode_says_its_part(services: Services) -> None:
    modes = ["values", "updates", "messages", "custom"]
    seen = list(FLOW.build().stream(ASKED.to_state(), context=services, stream_mode=modes))
    by_mode = {mode: [part for name, part in seen if name == mode] for mode in modes}
    assert by_mode["values"][-1]["reply"] == by_mode["updates"][-1]["manage"]["reply"]
    assert [next(iter(update)) for update in by_mode["updates"]][:2] == ["plan", "work"]
    windows = len(by_mode["updates"]) - 2
    told = [(event["stage"], event["done"], event["total"], event["unit"]) for event in by_mode["custom"]]
    assert told == [("read", number, windows, "windows") for number in range(1, windows + 1)]
    reply = Reply.kept(services, by_mode["values"][-1]["reply"]).text
    chunks = [chunk for chunk, _ in by_mode["messages"]]
    assert len(chunks) > 1 and all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert "".join(chunk.content for chunk in chunks).strip() == reply
    assert {metadata["langgraph_node"] for _, metadata in by_mode["messages"]} == {"manage"}


def test_it_streams_to_an_event_loop_too(services: Services) -> None:
    async def listen() -> list[Any]:
        stream = FLOW.build().astream(ASKED.to_state(), context=services, stream_mode=["messages", "custom"])
        return [part async for part in stream]

    seen = asyncio.run(listen())
    assert "Ann Weller" in "".join(part[0].content for mode, part in seen if mode == "messages")
    assert [part["stage"] for mode, part in seen if mode == "custom"]


def test_callbacks_hear_the_answer_with_what_it_took(services: Services) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Ends(BaseCallbackHandler):
        said: AIMessage | None = None

        def on_llm_end(self, response: Any, **_: Any) -> None:
            self.said = response.generations[0][0].message

    heard = Ends()
    FLOW.build().invoke(ASKED.to_state(), {"callbacks": [heard]}, context=services)
    assert heard.said is not None and "Ann Weller" in heard.said.content
    last = services.model.calls[-1].result.usage
    assert heard.said.usage_metadata["input_tokens"] == last.prompt_tokens
    assert heard.said.usage_metadata["output_tokens"] == last.completion_tokens


def test_a_fault_while_the_answer_is_streamed_reaches_callbacks_and_caller(services: Services) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Errors(BaseCallbackHandler):
        seen: BaseException | None = None

        def on_llm_error(self, error: BaseException, **_: Any) -> None:
            self.seen = error

    said: list[str] = []

    class Breaks(ScriptedModel):
        def stream(self, request: Any, on_text: Any) -> Any:
            on_text("Ann")
            raise ModelError("gone")

    heard = Errors()
    services.model = Breaks(replies=says_what_it_reads, choices=decides)
    services.on_text = said.append
    with pytest.raises(ModelError, match="gone"):
        FLOW.build().invoke(ASKED.to_state(), {"callbacks": [heard]}, context=services)
    assert isinstance(heard.seen, ModelError) and said == ["Ann"]


def test_where_nobody_listens_nothing_is_streamed(services: Services) -> None:
    class Quiet(ScriptedModel):
        def stream(self, request: Any, on_text: Any) -> Any:
            raise AssertionError("nobody listens")

    services.model = Quiet(replies=says_what_it_reads, choices=decides)
    FLOW.build().invoke(ASKED.to_state(), context=services)


def test_any_checkpointer_serves(shelf: Shelf) -> None:
    saver, runs = InMemorySaver(), RunLog()
    services = Services(model(faults={4: ModelError("gone")}), shelf, runs)
    with pytest.raises(ModelError):
        run(FLOW, ASKED, services, saver)
    second = model()
    answer = resume(FLOW, ASKED, Services(second, shelf, runs, services.run), saver)
    whole = run(FLOW, ASKED, Services(model(), shelf, RunLog()))
    assert answer.answer == whole.answer and answer.evidence == whole.evidence
    assert len(second.calls) == whole.usage.calls - 4
