"""After an edit only what follows it is read again, and the answer is that of a fresh run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs.services import KEPT, Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.agents.workflows.iterative_summary import IterativeSummary
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.agents.workflows.memory_agent import MemoryAgent
from readthrough.memory.library import Library
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer
from tests.agent_samples import QUESTION, decides
from tests.library_samples import open_library, story

PARAGRAPHS = story(3, 250).strip().split("\n\n")
PARAGRAPHS[150] = "The brass key of the lighthouse was hidden under the third stair by Ann Weller."

READERS: dict[str, Workflow] = {
    "chain-of-agents": ChainOfAgents(window_tokens=1200, message_tokens=200, passage_tokens=0),
    "memory-agent": MemoryAgent(chunk_tokens=600, memory_tokens=200),
    "memory-agent, no gate": MemoryAgent(chunk_tokens=500, memory_tokens=200, gate_below=None, passage_tokens=0),
    "map-reduce": MapReduce(window_tokens=700),
    "summary": IterativeSummary(window_tokens=900, summary_tokens=100),
    "rolling summary": IterativeSummary(form="rolling", window_tokens=700, summary_tokens=100),
}


def remembers(request: Request) -> str:
    """What is written depends on all that is read, so that one other word before changes all that follows."""
    text = request.messages[-1].content
    return f"{'Ann Weller hid it.' if 'Ann Weller' in text else 'Nothing.'} Seen {sum(map(ord, text)) % 9973}."


def ask(workflow: Workflow, library: Library, path: Path, runs: RunLog, **more: Any) -> tuple[Answer, int]:
    """The answer, and how many tokens of prompts the model had to read for it."""
    model = ScriptedModel(replies=remembers, choices=decides, repeatable=True)
    services = Services(model=model, shelf=library.shelve([path]), runs=runs, **more)
    answer = workflow.run(Question(QUESTION), services)
    assert answer.usage.prompt_tokens == sum(call.result.usage.prompt_tokens for call in model.calls)
    return answer, answer.usage.prompt_tokens


def told(answer: Answer) -> dict[str, Any]:
    values = answer.to_dict()
    del values["run"], values["usage"]
    return values


@pytest.mark.parametrize("name", READERS)
def test_after_an_edit_only_what_follows_it_is_read_again(name: str, tmp_path: Path) -> None:
    workflow, path = READERS[name], tmp_path / "book.txt"
    library, runs = open_library(tmp_path / "home"), RunLog(tmp_path / "runs.sqlite")
    path.write_text("\n\n".join(PARAGRAPHS), encoding="utf-8")
    ask(workflow, library, path, runs)
    edited = [*PARAGRAPHS]
    edited[202] = "A stranger came ashore. " + edited[202]
    path.write_text("\n\n".join(edited), encoding="utf-8")
    again, read_again = ask(workflow, library, path, runs)
    fresh, fresh_read = ask(workflow, open_library(tmp_path / "other home"), path, RunLog())
    assert told(again) == told(fresh)
    print(f"{name}: {read_again} of {fresh_read} tokens ({read_again / fresh_read:.2f})")
    assert 0 < read_again <= 0.25 * fresh_read


def test_the_same_again_asks_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(PARAGRAPHS[:40]), encoding="utf-8")
    library, runs = open_library(tmp_path / "home"), RunLog()
    workflow = READERS["chain-of-agents"]
    first, took = ask(workflow, library, path, runs)
    again, nothing = ask(workflow, library, path, runs)
    assert took > 0 and nothing == 0 and again.usage.calls == 0
    assert told(again) == told(first)
    noted = [decision for step in runs.steps(again.run) for decision in step.decisions]
    assert sum(one["calls"] for one in noted if one.get("what") == KEPT) == first.usage.calls
    assert ask(workflow, library, path, runs, keep_replies=False)[1] == took


def test_replies_go_with_the_last_run_that_they_served(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(PARAGRAPHS[:40]), encoding="utf-8")
    library, runs = open_library(tmp_path / "home"), RunLog()
    workflow = READERS["chain-of-agents"]
    first, took = ask(workflow, library, path, runs)
    again, _ = ask(workflow, library, path, runs)
    runs.delete([first.run])
    last, nothing = ask(workflow, library, path, runs)
    assert nothing == 0
    runs.delete([again.run, last.run])
    assert ask(workflow, library, path, runs)[1] == took


def test_what_is_not_repeatable_is_asked_again(tmp_path: Path) -> None:
    runs = RunLog()
    run = runs.start("?", "w", "m")
    model = ScriptedModel(replies=["one", "two", "three", "four"])
    services = Services(model=model, shelf=None, runs=runs, run=run)  # type: ignore[arg-type]  # nothing is read
    request = Request.user("Say something.")
    assert [services.complete([request])[0].text for _ in range(2)] == ["one", "two"]
    model.repeatable = True
    warm = Request.user("Say something.", temperature=1.0)
    assert [services.complete([warm])[0].text for _ in range(2)] == ["three", "four"]


def test_a_streamed_reply_that_is_kept_is_heard(tmp_path: Path) -> None:
    runs, heard = RunLog(), list[str]()
    run = runs.start("?", "w", "m")
    services = Services(ScriptedModel(replies=["once"], repeatable=True), None, runs, run, on_text=heard.append)  # type: ignore[arg-type]
    assert [services.write(Request.user("Say it.")).text for _ in range(2)] == ["once", "once"]
    assert "".join(heard) == "onceonce"
