"""Graphs that a user wrote, run: rounds end, runs resume, budgets hold, models and settings are the ones asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import readthrough as rt
from readthrough.agents.base import Question, Workflow
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.spec.flow import Around, open_flow, read_flow
from readthrough.errors import ConfigError, ModelError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from readthrough.yaml_strict import parse
from tests.agent_samples import QUESTION, decides, final, says_what_it_reads, shelve, write_book

LOOP = """graph:
  nodes:
    find: {retrieve: {k: 3}}
    read: {reader: {notes_tokens: 32}}
    check: {enough: {threshold: 0.7}}
    ask: queries
    answer: manager
  edges: [start -> find -> read -> check, ask -> find, answer -> end]
  branch: {check: {enough: answer, more: ask}}
  limits: {rounds: 3}
"""
SCAN = """graph:
  nodes:
    next: {scan: {window_tokens: 400}}
    read: {reader: {notes_tokens: 32}}
    answer: manager
  edges: [start -> next, read -> next, answer -> end]
  branch: {next: {more: read, done: answer}}
"""
HOPELESS = "Which comet was measured over the island?"


def flow(text: str) -> Workflow:
    return read_flow(parse(text, "own.yaml"), Around(index="bm25")).workflow


def model(**faults: ModelError) -> ScriptedModel:
    numbered: dict[int, Exception] = {int(key[1:]): error for key, error in faults.items()}
    return ScriptedModel(replies=says_what_it_reads, choices=decides, faults=numbered)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


def nodes(services: Services) -> list[str]:
    return [step.node for step in services.runs.steps(services.run)]


def test_a_scan_reads_everything_once(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    answer = run(flow(SCAN), Question(QUESTION), services)
    assert "Ann Weller" in answer.answer and "Ann Weller" in answer.evidence[0].quote
    assert answer.coverage.read == answer.coverage.tokens > 3_000
    text = shelf.document(shelf.documents[0].id).text
    spans = [span for step in services.runs.steps(answer.run) if step.node == "read" for span in step.spans]
    assert "".join(text[start:end] for _, start, end in spans) == text
    assert answer.workflow == "own.yaml"


def test_rounds_end_a_loop_that_finds_nothing(shelf: Shelf) -> None:
    services = Services(ScriptedModel(replies={"": "Nothing."}, choices={"": [0.01, 0.99]}), shelf, RunLog())
    answer = run(flow(LOOP), Question(HOPELESS), services)
    assert nodes(services).count("check") == 4, "three times it may choose; then the way out is taken"
    assert nodes(services).count("find") == 4
    assert answer.abstained and answer.stopped is None
    last = [step for step in services.runs.steps(answer.run) if step.node == "check"][-1]
    assert last.decisions == ({"what": "the rounds are over", "rounds": 3},) and last.usage.calls == 0
    assert answer.coverage.retrieved > 0


def test_each_round_finds_other_passages(shelf: Shelf) -> None:
    services = Services(ScriptedModel(replies={"": "Nothing."}, choices={"": [0.01, 0.99]}), shelf, RunLog())
    run(flow(LOOP), Question("What did Ann and Tom see at the harbour?"), services)
    read = [set(step.spans) for step in services.runs.steps(services.run) if step.node == "read"]
    assert len(read) == 4
    assert all(not one & other for number, one in enumerate(read) for other in read[:number])


def test_decisions_are_in_the_run_log(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    answer = run(flow(LOOP), Question(QUESTION), services)
    assert nodes(services) == ["find", "read", "check", "answer"]
    check = services.runs.steps(answer.run)[2]
    assert check.decisions[0]["options"] == ["Yes", "No"]
    assert check.decisions[-1]["what"] == "is it enough?" and check.decisions[-1]["stated"] > 0.7


@pytest.mark.parametrize(("text", "fault"), [(LOOP, 2), (LOOP, 5), (SCAN, 3), (SCAN, 6)])
def test_a_run_that_failed_goes_on_where_it_was(shelf: Shelf, tmp_path: Path, text: str, fault: int) -> None:
    question = Question(QUESTION)
    whole = run(flow(text), question, Services(model(), shelf, RunLog()))
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(**{f"f{fault}": ModelError("gone")}), shelf, runs)
        with pytest.raises(ModelError):
            run(flow(text), question, services, saver)
        # From the recipe alone, as JSON has it: the file may be gone.
        again = open_flow(runs.find(services.run).recipe["workflow"], Around()).workflow
        answer = resume(again, question, Services(model(), shelf, runs, services.run), saver)
    assert final(answer) == final(whole)


def test_a_changed_graph_does_not_resume(shelf: Shelf, tmp_path: Path) -> None:
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(f3=ModelError("gone")), shelf, runs)
        with pytest.raises(ModelError):
            run(flow(SCAN), Question(QUESTION), services, saver)
        for change in (("400", "500"), ("read: {reader", "note: {reader")):
            other = SCAN.replace(*change).replace("read ->", "note ->" if "note" in change[1] else "read ->")
            other = other.replace("more: read", "more: note") if "note" in change[1] else other
            with pytest.raises(UsageError, match="the workflow or its options"):
                resume(flow(other), Question(QUESTION), Services(model(), shelf, runs, services.run), saver)


@pytest.mark.parametrize("text", [LOOP, SCAN])
@pytest.mark.parametrize("calls", [1, 3, 5])
def test_a_budget_ends_a_graph_with_an_answer(shelf: Shelf, text: str, calls: int) -> None:
    question = "Who kept the ledger of the harbour?"
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    answer = run(flow(text), Question(question), services)
    assert answer.stopped == f"max_calls={calls}"
    assert answer.usage.calls <= calls and answer.coverage.unread > 0


def test_no_more_is_held_back_than_the_answer_may_have(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    limited = flow(SCAN.replace("manager", "{manager: {answer_tokens: 20}}"))
    held = [each.last_step(Question(QUESTION), services).completion_tokens for each in (flow(SCAN), limited)]
    assert held == [40, 20]


@pytest.mark.parametrize("text", [LOOP, SCAN])
def test_an_estimate_is_what_it_takes_at_most(shelf: Shelf, text: str) -> None:
    services = Services(ScriptedModel(replies={"": "Nothing."}, choices={"": [0.01, 0.99]}), shelf, RunLog())
    cost = flow(text).estimate(Question(HOPELESS), services)
    answer = run(flow(text), Question(HOPELESS), services)
    assert answer.usage.calls <= cost.calls <= 4 * answer.usage.calls
    assert answer.usage.prompt_tokens <= cost.prompt_tokens


def test_a_long_loop_is_not_ended_by_langgraph(shelf: Shelf) -> None:
    text = """graph:
  nodes: {check: {enough: {threshold: 1}}, find: {retrieve: {k: 1}}, answer: manager}
  edges: [start -> find -> check, answer -> end]
  branch: {check: {enough: answer, more: find}}
  limits: {rounds: 650}
"""
    services = Services(ScriptedModel(replies={"": "Nothing."}, choices={"": [0.01, 0.99]}), shelf, RunLog())
    run(flow(text), Question(HOPELESS), services)
    assert nodes(services).count("check") == 651


def test_the_state_of_a_long_scan_stays_small(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.sqlite"
    with open_saver(path) as saver:
        services = Services(model(), shelf, RunLog())
        run(flow(SCAN.replace("400", "130")), Question(QUESTION), services, saver)
        sizes = [
            size for (size,) in saver.conn.execute("SELECT length(checkpoint) FROM checkpoints ORDER BY checkpoint_id")
        ]
    assert len(nodes(services)) > 60
    assert max(sizes) < 3_000
    assert max(sizes[-40:-20]) < 1.2 * max(sizes[20:40]), "it does not grow"


def test_nodes_have_models_of_their_own(shelf: Shelf) -> None:
    text = LOOP.replace("notes_tokens: 32", "notes_tokens: 32, model: small")
    small, asked = model(), []

    def opened(spec: object) -> ScriptedModel:
        asked.append(spec)
        return small

    main = model()
    services = Services(main, shelf, RunLog(), open_model=opened)
    answer = run(flow(text), Question(QUESTION), services)
    assert set(asked) == {"small"}
    assert [call.kind for call in small.calls] == ["complete"]
    assert len(main.calls) == answer.usage.calls - 1
    with pytest.raises(UsageError, match="cannot be opened here"):
        run(flow(text), Question(QUESTION), Services(model(), shelf, RunLog()))


def test_prompts_of_nodes(shelf: Shelf) -> None:
    text = (
        LOOP.replace("answer: manager", "answer: {manager: {prompt: 'SAY {material} {question}'}}")
        + "prompts:\n  read: 'NOTE {chunk} {message} {question}'\n"
    )
    used = model()
    run(flow(text), Question(QUESTION), Services(used, shelf, RunLog()))
    said = [call.request.messages[-1].content for call in used.calls if call.kind == "complete"]
    assert said[0].startswith("NOTE ") and said[-1].startswith("SAY ")


class TestBook:
    """Through `read` and `ask`."""

    @pytest.fixture
    def book(self, tmp_path: Path) -> Path:
        return write_book(tmp_path / "books", paragraphs=60)

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / "user" / name)
        for name in ("one", "two"):
            (tmp_path / f"{name}.yaml").write_text(f"replies: {{'': 'Ann Weller hid it, says {name}.'}}\n")
        return {"home": tmp_path / "home"}

    def test_a_file_brings_model_chunker_and_index(self, book: Path, settings: dict[str, Any], monkeypatch) -> None:
        monkeypatch.setenv("READTHROUGH_MODEL", "scripted:two.yaml")
        head = "model: scripted:one.yaml\nchunker: {tokens: {size_tokens: 40}}\nindex: bm25\n"
        Path("own.yaml").write_text(head + LOOP)
        with rt.read(book, index="bm25", **settings) as opened:
            small = opened.ask(QUESTION, workflow="own.yaml")
            assert "says one" in small.answer and small.model == "scripted:one.yaml"
            usual = opened.ask(QUESTION, workflow={"graph": parse(LOOP).value["graph"]})
            assert "says two" in usual.answer and usual.workflow == "graph"
        assert 0 < small.coverage.retrieved < usual.coverage.retrieved, "smaller chunks"

    def test_what_is_given_wins_over_the_file(self, book: Path, settings: dict[str, Any]) -> None:
        text = LOOP.replace("notes_tokens: 32", "notes_tokens: 32, model: small").replace(
            "k: 3", "k: 3, index: vectors"
        )
        Path("own.yaml").write_text("model: default\nindex: hybrid\n" + text)
        with rt.read(book, model="scripted:one.yaml", index="bm25", workflow="own.yaml", **settings) as opened:
            answer = opened.ask(QUESTION)
            recipe = opened.runs.find("last").recipe["workflow"]["own.yaml"]
        assert "says one" in answer.answer
        assert recipe["graph"]["nodes"]["find"] == {"retrieve": {"k": 3}} and recipe["index"] == "bm25"
        handed = model()
        with rt.read(book, model=handed, index="bm25", **settings) as opened:
            opened.ask(QUESTION, workflow="own.yaml")
        assert handed.calls

    def test_a_run_goes_on_though_the_file_is_gone(self, book: Path, settings: dict[str, Any]) -> None:
        Path("own.yaml").write_text("model: scripted:one.yaml\nchunker: {tokens: {size_tokens: 40}}\n" + SCAN)
        with rt.read(book, model="scripted:two.yaml", index="bm25", **settings) as opened:
            whole = opened.ask(QUESTION, workflow="own.yaml")
        assert whole.model == "scripted:two.yaml"
        Path("two.yaml").rename("three.yaml")
        with rt.read(book, index="bm25", **settings) as opened:
            stopped = opened.ask(QUESTION, workflow="own.yaml", limits=Limits(calls=4))
            assert stopped.stopped and stopped.model == "scripted:one.yaml"
        Path("own.yaml").unlink()
        answer = rt.resume(stopped.run, **settings)
        assert answer.stopped is None and answer.coverage.read == answer.coverage.tokens
        assert (answer.workflow, answer.model) == ("own.yaml", "scripted:one.yaml")

    def test_options_of_a_built_in_from_a_file(self, book: Path, settings: dict[str, Any]) -> None:
        Path("own.yaml").write_text("workflow: {retrieve: {k: 3}}\nmodel: scripted:one.yaml\nindex: bm25\n")
        with rt.read(book, **{**settings, "index": "bm25"}) as opened:
            assert opened.ask(QUESTION, workflow="own.yaml").workflow == "retrieve"
            recipe = opened.runs.find("last").recipe["workflow"]["retrieve"]
            opened.ask(QUESTION, workflow="own.yaml", k=5)
            won = opened.runs.find("last").recipe["workflow"]["retrieve"]
        assert (recipe["k"], won["k"], recipe["index"]) == (3, 5, "bm25")

    def test_a_graph_has_no_options(self, book: Path, settings: dict[str, Any]) -> None:
        Path("own.yaml").write_text(LOOP)
        with (
            rt.read(book, model=model(), index="bm25", **settings) as opened,
            pytest.raises(UsageError, match="no option 'k'"),
        ):
            opened.ask(QUESTION, workflow="own.yaml", k=5)

    def test_a_missing_or_wrong_file_is_said_before_anything_is_read(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            rt.read("no-such-book.txt", workflow="none.yaml", **settings)
        Path("own.yaml").write_text(LOOP.replace("queries", "querys"))
        with pytest.raises(ConfigError, match="did you mean 'queries'"):
            rt.read("no-such-book.txt", workflow="own.yaml", **settings)
