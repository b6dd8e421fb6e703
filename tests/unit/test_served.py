"""langgraph.json: every graph loads as a LangGraph server loads it, and answers from its context alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph

from readthrough import catalogue
from readthrough.errors import UsageError
from readthrough.memory.runs import RunLog
from tests.agent_samples import FACT, QUESTION, write_book

ROOT = Path(__file__).parents[2]
CONFIG = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
GRAPHS: dict[str, str] = CONFIG["graphs"]

SCRIPT = """
replies: {"Ann Weller": "Ann Weller hid it.", "": "Nothing about it."}
choices: {"(?s)Ann Weller.*Yes or No": "Yes", "Yes or No": "No", "": "1]"}
"""


def load_module(path: str) -> ModuleType:
    """The module at `path` under a name of its own, as the server imports it."""
    name = path.replace("/", "__").replace(".py", "").lstrip(".")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def load(name: str, config: dict[str, Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    path, _, attribute = GRAPHS[name].partition(":")
    return load_module(path).__dict__[attribute](config)


@pytest.fixture
def reading(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    book = write_book(tmp_path / "books", paragraphs=12)
    return {
        "paths": [str(book)],
        "model": f"scripted:{tmp_path / 'script.yaml'}",
        "home": str(tmp_path / "home"),
        "index": "bm25",
    }


def test_every_built_in_workflow_is_listed() -> None:
    assert list(GRAPHS) == list(catalogue.PARTS["workflows"])
    assert CONFIG["dependencies"] == ["."] and CONFIG["env"] == {"LANGGRAPH_STRICT_MSGPACK": "true"}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_loads_without_a_checkpointer_and_opens_nothing(name: str) -> None:
    graph = load(name, {"configurable": {"paths": ["/nowhere"], "thread_id": "t"}})
    assert graph.checkpointer is None and graph.name == name
    assert set(graph.get_input_jsonschema()["properties"]) == {"question", "choices"}
    assert set(graph.get_output_jsonschema()["properties"]) == {"answer", "run"}
    assert set(graph.get_context_jsonschema()["properties"]) == {"paths", "model", "home", "index", "as_of"}
    assert graph.get_graph().draw_mermaid()


@pytest.mark.parametrize("where", ["configurable of the factory", "configurable of the call", "context"])
def test_a_graph_answers_from_its_context(reading: dict[str, Any], where: str) -> None:
    graph = load("chain-of-agents", {"configurable": reading if where.endswith("factory") else {}})
    config = {"configurable": reading} if where.endswith("call") else {}
    context = reading if where == "context" else None
    values = graph.invoke({"question": QUESTION}, config, context=context)
    answer = values["answer"]
    assert answer["answer"] == "Ann Weller hid it." and answer["run"] == values["run"]
    assert any(FACT in item["quote"] for item in answer["evidence"])
    assert RunLog(Path(reading["home"]) / "runs.sqlite").answer(values["run"]) == answer


def test_progress_and_the_answer_come_through(reading: dict[str, Any]) -> None:
    stream = load("chain-of-agents", {}).stream(
        {"question": QUESTION}, context=reading, stream_mode=["custom", "messages", "updates"], subgraphs=True
    )
    seen = list(stream)
    assert {part["stage"] for _, mode, part in seen if mode == "custom"} >= {"read"}
    assert "".join(part[0].content for _, mode, part in seen if mode == "messages") == "Ann Weller hid it."
    nodes = [node for _, mode, part in seen if mode == "updates" for node in part]
    assert nodes[0] == "start" and nodes[-1] == "answer" and "work" in nodes


def test_a_run_that_failed_goes_on_where_it_was(reading: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
    from readthrough.errors import ModelError

    graph = load("chain-of-agents", {}).copy({"checkpointer": InMemorySaver()})
    thread: Any = {"configurable": {"thread_id": "t"}}

    def gone(*_: Any) -> Any:
        raise ModelError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(ChainOfAgents, "_manage", gone)
        with pytest.raises(ModelError):
            graph.invoke({"question": QUESTION}, thread, context=reading, durability="sync")
    values = graph.invoke(None, thread, context=reading)
    assert values["answer"]["answer"] == "Ann Weller hid it."
    nodes = [step.node for step in RunLog(Path(reading["home"]) / "runs.sqlite").steps(values["run"])]
    assert nodes.count("plan") == 1 and nodes.count("manage") >= 1


def test_without_paths_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text to read"):
        load("retrieve", {}).invoke({"question": QUESTION}, {"configurable": {"home": str(tmp_path)}})
