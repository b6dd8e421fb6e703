"""Long runs, pruning beside a run at work, what changed meanwhile, crafted checkpoints, runaway graphs."""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

import readthrough as rt
from benchmarks.checkpoint_growth import measure
from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.runs import recipe
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver, prune
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.errors import LibraryError, ModelError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Limits
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

FLOW = ChainOfAgents(window_tokens=600, message_tokens=40)
ASKED = Question(QUESTION)


@dataclass
class Place:
    """A book on a shelf, a run log and the file of checkpoints."""

    folder: Path
    shelf: Shelf

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints.sqlite"

    def runs(self) -> RunLog:
        return RunLog(self.folder / "runs.sqlite")

    def fail(self, at_call: int = 4) -> str:
        """A run whose model fails at a call; its id."""
        services = Services(model(faults={at_call: ModelError("gone")}), self.shelf, self.runs())
        with open_saver(self.checkpoints) as saver, pytest.raises(ModelError):
            run(FLOW, ASKED, services, saver)
        return services.run

    def go_on(self, name: str, flow: Workflow = FLOW, shelf: Shelf | None = None) -> Answer:
        services = Services(model(), shelf or self.shelf, self.runs(), name)
        with open_saver(self.checkpoints) as saver:
            return resume(flow, ASKED, services, saver)


def model(**options: Any) -> ScriptedModel:
    return ScriptedModel(replies=says_what_it_reads, choices=decides, **options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60)))


def test_a_long_run_does_not_grow_its_checkpoints(tmp_path: Path) -> None:
    sizes = [mark["bytes"] for mark in measure(tmp_path, steps=400)["marks"]]
    assert sizes[-1] < 1.5 * sizes[len(sizes) // 2]
    assert sizes[-1] < 6_000_000


def test_pruning_leaves_a_run_at_work_alone(place: Place) -> None:
    old, busy, runs = place.fail(), [], place.runs()

    def prunes(request: Request) -> str:
        if len(busy) == 0 and len(spy.calls) > 3:
            before = state(runs.find("last").id)
            assert prune(place.runs(), place.checkpoints, [each.id for each in runs.runs()]) == [old]
            busy.append(runs.find("last").id)
            assert state(busy[0]) == before
        return says_what_it_reads(request)

    def state(name: str) -> Any:
        with open_saver(place.checkpoints) as saver:
            return list(saver.list({"configurable": {"thread_id": name}}))

    spy = ScriptedModel(replies=prunes, choices=decides)
    with open_saver(place.checkpoints) as saver:
        answer = run(FLOW, ASKED, Services(spy, place.shelf, runs), saver)
    assert busy == [answer.run] and "Ann Weller" in answer.answer
    assert [each.id for each in runs.runs()] == [answer.run]
    assert all(runs.get(text) for step in runs.steps(answer.run) for text in step.texts)
    assert prune(runs, place.checkpoints, [answer.run]) == [answer.run]
    rows = [
        sqlite3.connect(path).execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for path, tables in {
            place.checkpoints: ("checkpoints", "writes"),
            place.folder / "runs.sqlite": ("runs", "steps", "texts", "run_texts"),
        }.items()
        for table in tables
    ]
    assert rows == [0] * 6


def test_what_changed_is_named_and_nothing_is_mixed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    name = place.fail()
    with pytest.raises(UsageError, match="the workflow or its options"):
        place.go_on(name, replace(FLOW, message_tokens=50))
    with monkeypatch.context() as changed:
        changed.setattr(recipe.inspect, "getsource", lambda module: "other prompts")
        with pytest.raises(UsageError, match="the workflow's graph or prompts"):
            place.go_on(name)
    with monkeypatch.context() as changed:
        changed.setattr(rt, "__version__", "9.9")
        with pytest.raises(UsageError, match="was 0.1.0, is 9.9"):
            place.go_on(name)
    book = place.folder / "books" / "book.txt"
    text = book.read_text()
    book.write_text(text + "\nOne line more.\n")
    with pytest.raises(UsageError, match=r"the documents \(.*book.txt\)"):
        place.go_on(name, shelf=shelve(place.folder / "home", book))
    book.write_text(text)
    with pytest.raises(UsageError, match="indexed anew"):  # the state holds ids of chunks that are gone
        place.go_on(name, shelf=shelve(place.folder / "home", book))


def test_without_its_checkpoints_a_run_does_not_start_over(place: Place) -> None:
    name = place.fail()
    place.checkpoints.unlink()
    with pytest.raises(UsageError, match="no checkpoints here"):
        place.go_on(name)


def test_a_checkpoint_cannot_name_code(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    name, marker = place.fail(), place.folder / "marker"
    db, crafted = sqlite3.connect(place.checkpoints), f"touch {marker}"
    rows = db.execute("SELECT rowid, checkpoint FROM checkpoints").fetchall()
    for code, call in ((0, ("os", "system", crafted)), (1, ("os", "system", (crafted,)))):
        for row, blob in rows:
            checkpoint = ormsgpack.unpackb(blob, ext_hook=ormsgpack.Ext)
            checkpoint["channel_values"]["message"] = ormsgpack.Ext(code, ormsgpack.packb(call))
            crafted_blob = ormsgpack.packb(checkpoint)
            db.execute("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", (crafted_blob, row))
        db.commit()
        JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", crafted_blob))
        assert marker.exists(), "a reader that trusts the file makes the call"
        marker.unlink()
        with pytest.raises((LibraryError, sqlite3.Error)):
            place.go_on(name)
        assert not marker.exists()
        assert "Blocked deserialization of os.system" in caplog.text


def test_a_damaged_checkpoint_is_named(place: Place) -> None:
    name, db = place.fail(), sqlite3.connect(place.checkpoints)
    for blob in (b"", ormsgpack.packb({"v": 4, "id": "x"}), b"\xc1 no msgpack"):
        db.execute("UPDATE checkpoints SET checkpoint = ?", (blob,))
        db.commit()
        with pytest.raises(LibraryError, match=f"the checkpoints of run {name} cannot be read"):
            place.go_on(name)


class Rounds(TypedDict, total=False):
    question: str
    choices: list[str] | None
    rounds: Annotated[int, operator.add]
    reply: str


@dataclass(frozen=True)
class Runaway(Workflow):
    """A graph that nobody bounded: it asks the model for ever, or a thousand times at once."""

    name: ClassVar[str] = "runaway"
    at_once: bool = False

    def build(self) -> Any:
        graph = StateGraph(Rounds, context_schema=Services)
        add_nodes(graph, {"ask": self._ask})
        if self.at_once:
            graph.add_conditional_edges(START, lambda state: [Send("ask", state)] * 1000, ["ask"])
            graph.add_edge("ask", END)
        else:
            graph.add_edge(START, "ask")
            graph.add_edge("ask", "ask")
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        reply = Reply.kept(services, state["reply"])
        return reply.to_answer(question, (), ledger(services))

    def _ask(self, state: Rounds, runtime: Runtime[Services]) -> Rounds:
        runtime.context.complete([Request.user("And?")])
        return {"rounds": 1}


@pytest.mark.parametrize("at_once", [False, True])
def test_a_runaway_graph_stops_at_its_budget(place: Place, at_once: bool) -> None:
    asked, runs = model(), place.runs()
    services = Services(asked, place.shelf, runs, budget=Budget(Limits(calls=25)))
    answer = run(Runaway(at_once=at_once), ASKED, services)
    assert answer.stopped == "max_calls=25"
    assert len(asked.calls) == 25 == answer.usage.calls
    assert runs.answer(answer.run) == answer.to_dict()


def test_a_graph_without_a_bound_or_a_budget_ends_all_the_same(place: Place) -> None:
    answer = run(Runaway(), ASKED, Services(model(), place.shelf, place.runs()))
    assert answer.stopped is not None and answer.stopped.startswith("max_steps=")
