"""Several questions over one read: the answers of single asks, each chunk computed once, runs of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import readthrough as rt
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.asking import Tally
from readthrough.errors import ModelError, StoppedError, UsageError
from readthrough.models.deadline import check_stop, stoppable
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Event
from tests import tiny_models
from tests.agent_samples import decides, says_what_it_reads, write_book

QUESTIONS = (
    "Who hid the brass key of the lighthouse?",
    "When did the storm come to the harbour, and who was out at sea on that day?",
    "Where?",
    "What was the name of the ship?",
)
FLOWS: dict[str, dict[str, Any]] = {
    "chain-of-agents": {"window_tokens": 2000, "message_tokens": 16, "passage_tokens": 200},
    "memory-agent": {"chunk_tokens": 1000, "memory_tokens": 16, "gate_below": None, "passage_tokens": 200},
    "map-reduce": {"window_tokens": 900, "part_tokens": 12, "passage_tokens": 200},
    "full-context": {},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    folder = tiny_models.save(tmp_path_factory.mktemp("tiny"), max_position_embeddings=16384)
    yield LocalModel(str(folder), device="cpu", dtype="fp32", readings_bytes=0)


def read(tmp_path: Path, model: Any, paragraphs: int = 6, **given: Any) -> rt.Book:
    path = write_book(tmp_path / "books", paragraphs=paragraphs)
    return rt.read(path, home=tmp_path / "home", index="bm25", model=model, **given)


def computed(answers: list[Answer]) -> int:
    """The tokens of prompts that the model had to read."""
    return sum(answer.usage.prompt_tokens - answer.usage.cached_tokens for answer in answers)


def scripted(**options: Any) -> ScriptedModel:
    return ScriptedModel(replies=says_what_it_reads, choices=decides, **options)


@pytest.mark.parametrize("name", FLOWS)
def test_the_answers_of_single_asks_and_the_text_computed_once(name: str, tmp_path: Path, model: LocalModel) -> None:
    flow = {name: FLOWS[name]}
    with read(tmp_path, model) as book:
        alone = []
        for question in QUESTIONS:
            model.close()  # as in a new process
            alone.append(book.ask(question, workflow=flow))
        model.close()
        together = book.ask_all(QUESTIONS, workflow=flow)
        assert [answer.answer for answer in together] == [answer.answer for answer in alone]
        assert [answer.coverage for answer in together] == [answer.coverage for answer in alone]
        text = alone[0].coverage.tokens
        once = computed(alone) - (len(QUESTIONS) - 1) * text  # what is left where the text is read by one of them
        assert text > 1000
        assert computed(together) <= once * 1.02, (computed(alone), computed(together), text)
        runs = [book.runs.find(answer.run) for answer in together]
    assert [run.question for run in runs] == list(QUESTIONS)
    assert len({run.id for run in runs}) == len(QUESTIONS) and all(run.state == "done" for run in runs)


def test_windows_are_cut_alike_whatever_is_asked(tmp_path: Path) -> None:
    model = scripted()
    with read(tmp_path, model, paragraphs=30) as book:
        services = book.prepare("chain-of-agents").services
        for window in range(700, 900, 10):
            flow = ChainOfAgents(window_tokens=window, message_tokens=40)
            plans = [flow._windows(question, services) for question in ("Who?", " ".join(["where"] * 40))]
            assert plans[0] == plans[1], window


def test_nobody_asks_nothing(tmp_path: Path) -> None:
    with read(tmp_path, scripted()) as book:
        assert book.ask_all([]) == []
        with pytest.raises(UsageError, match="2 questions, but 1"):
            book.ask_all(QUESTIONS[:2], runs=["one"])
        with pytest.raises(UsageError, match="empty"):
            book.ask_all(["Who?", " "])
        assert book.runs.runs() == []


def test_runs_have_the_ids_and_choices_they_were_given_and_budgets_of_their_own(tmp_path: Path) -> None:
    model = scripted()
    asked = ["Who hid the key?", rt.Asked("Who hid the key?", ("Ann Weller", "Tom Hale"))]
    with read(tmp_path, model, paragraphs=30) as book:
        ids = [f"run-{number}" for number in range(len(asked))]
        flow = {"chain-of-agents": {"window_tokens": 600, "message_tokens": 40}}
        free, chosen = book.ask_all(asked, workflow=flow, runs=ids)
        assert [free.run, chosen.run] == ids and chosen.answer in ("Ann Weller", "Tom Hale")
        cut = book.ask_all(asked, workflow=flow, limits=rt.Limits(calls=9))
        assert [answer.stopped for answer in cut] == ["max_calls=9"] * 2
        assert all(answer.usage.calls <= 9 for answer in cut)
        assert book.resume(cut[0].run).answer == free.answer


def test_where_one_fails_the_others_are_answered(tmp_path: Path) -> None:
    model = scripted(window_tokens=2000)
    heard: dict[int, Answer] = {}
    with read(tmp_path, model) as book:
        with pytest.raises(ModelError, match="tokens"):
            book.ask_all(
                ["Who hid the key?", "word " * 3000, "Where is the key?"],
                workflow={"chain-of-agents": {"message_tokens": 40}},
                on_answer=heard.__setitem__,
            )
        assert sorted(heard) == [0, 2] and all(answer.usage.calls for answer in heard.values())
        assert len(book.runs.runs()) == 2


class Endpoint(ScriptedModel):
    """Serves three at a time, and counts how many there are; `hold` keeps replies to a question back."""

    concurrency = 3

    def __init__(self) -> None:
        super().__init__(replies=says_what_it_reads, choices=decides)
        self.at_once = self.most = 0
        self.hold: tuple[str, threading.Event] | None = None
        self.count = threading.Lock()

    def complete(self, requests: Any) -> Any:
        with self.count:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.02)
        if self.hold is not None and self.hold[0] in requests[0].messages[-1].content:
            self.hold[1].wait(20)
        with self.count:
            self.at_once -= 1
        return super().complete(requests)


def test_an_endpoint_is_asked_by_as_many_as_it_bears(tmp_path: Path) -> None:
    model = Endpoint()
    flow = {"chain-of-agents": {"window_tokens": 600, "message_tokens": 40}}
    with read(tmp_path, model, paragraphs=30) as book:
        asked = [f"Who hid key {number}?" for number in range(7)]
        answers = book.ask_all(asked, workflow=flow)
    assert [answer.question for answer in answers] == asked
    assert model.most == 3


def test_an_interrupt_ends_the_others_at_their_next_call_and_they_can_go_on(tmp_path: Path) -> None:
    model = Endpoint()
    go_on = threading.Event()
    model.hold = ("Who hid the slow key?", go_on)
    flow = {"chain-of-agents": {"window_tokens": 600, "message_tokens": 40}}

    def leave(number: int, answer: Answer) -> None:
        threading.Timer(0.3, go_on.set).start()
        raise KeyboardInterrupt

    with read(tmp_path, model, paragraphs=30) as book:
        with pytest.raises(KeyboardInterrupt):
            book.ask_all(["Who hid the key?", "Who hid the slow key?"], flow, runs=["quick", "slow"], on_answer=leave)
        assert book.runs.find("quick").state == "done"
        assert book.runs.answer("slow") is None and book.runs.steps("slow")
        assert "Ann Weller" in book.resume("slow").answer


def test_who_is_told_to_stop_calls_no_model() -> None:
    stop = threading.Event()
    with stoppable(stop):
        check_stop()
        stop.set()
        with pytest.raises(StoppedError):
            check_stop()
    check_stop()


def test_facts_that_are_kept_are_written_by_one(tmp_path: Path) -> None:
    flow = {"graph-reader": {"facts": "written", "chunk_tokens": 200, "steps_a_path": 1}}
    forms = []
    for asked in (["Who hid the key?"], ["Who hid the key?", "Who keeps the light?", "Where is the key?"]):
        model = scripted()
        with read(tmp_path / str(len(asked)), model) as book:
            book.ask_all(asked, workflow=flow)
        forms.append(sum(call.request.schema is not None for call in model.calls))
    assert forms[0] == forms[1] > 0


def test_what_a_workflow_keeps_is_made_by_one(tmp_path: Path) -> None:
    model = scripted()
    with read(tmp_path, model) as book:
        book.ask_all(["Who hid the key?", "Who keeps the light?"], workflow="gist-lookup")
        assert all(map(book.prepares, ("gist-lookup", "episodes", "verify-claim", "tree-walk")))
        assert [book.prepares("probe-and-consolidate", semantic=how) for how in ("kept", "grown")] == [False, True]
        assert not book.prepares("retrieve", no_such=1)
    gists = [call.request.messages[-1].content for call in model.calls if call.kind == "complete"]
    gists = [prompt for prompt in gists if "Question:" not in prompt]
    assert gists and len(set(gists)) == len(gists)


def test_approvals_are_asked_for_one_at_a_time(tmp_path: Path) -> None:
    at_once, asked = [0, 0], list[str]()

    def approve(what: Any) -> bool:
        at_once[0] += 1
        at_once[1] = max(at_once)
        time.sleep(0.05)
        asked.append(what["message"])
        at_once[0] -= 1
        return True

    with read(tmp_path, Endpoint()) as book:
        questions = [f"{QUESTIONS[0]} (Letter {number})" for number in range(3)]
        book.ask_all(questions, limits=rt.Limits(approve_below=0.999), on_approval=approve)
    assert len(asked) == 3 and at_once[1] == 1


def test_progress_is_told_as_of_one() -> None:
    heard: list[Event] = []
    tally = Tally(heard.append, 2)
    tally.of(0)(Event("read", 1, 4, "windows"))
    tally.of(1)(Event("read", 3, 4, "windows"))
    tally.of(0)(Event("warning", 0, note="cut"))
    tally.of(1)(Event("find", 1, None, "hops"))
    assert [(event.stage, event.done, event.total) for event in heard] == [
        ("read", 1, 8),
        ("read", 4, 8),
        ("warning", 0, None),
        ("find", 1, None),
    ]
