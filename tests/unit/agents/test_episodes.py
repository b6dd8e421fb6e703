"""Episodes: extraction once a document, names reconciled, summaries kept, and what ends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.keeping import kept
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.episodes import Episodes
from readthrough.agents.workflows.episodic import entities
from readthrough.agents.workflows.episodic.entities import parts_of_one, reconciled, summarize
from readthrough.agents.workflows.episodic.extracting import Episode, episodes_recipe, parts
from readthrough.errors import ModelError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.facts import Fact
from readthrough.types import Limits
from tests.agent_samples import QUESTION, final, run, shelve, write_book
from tests.library_samples import shelf_of

FLOW = Episodes(index="bm25", batch=4)
TALE = (
    "Ann Weller kept the lighthouse. In winter she hid the brass key under the stair. Bob Marsh rowed to the harbour. "
    "Weller gave him a lamp. The doctor slept. Nobody saw the storm."
)


def entry(**said: str) -> dict[str, str]:
    return {**dict.fromkeys(Episode._fields, ""), **said}


def writes(request: Request) -> str:
    """What some sentences of TALE say, and for others two words of the text; summaries begin with SUM."""
    prompt = request.messages[-1].content
    if request.schema is None:
        if "Use nothing else" in prompt:
            return f"SUM of {prompt.partition('says of ')[2].partition(',')[0]}."
        return "Ann Weller hid it." if "Ann Weller" in prompt else "Nothing about it."
    text = prompt.partition("Text: ")[2].partition("\n\nList what")[0]
    known = {
        "Weller kept": entry(who="Ann Weller", role="zebra", did="kept", whom="the lighthouse"),
        "key": entry(who="Ann Weller", did="hid", whom="the brass key", where="under the stair", when="In winter"),
        "Bob Marsh": entry(who="Bob Marsh", did="rowed", where="to the harbour"),
        "gave": entry(who="Weller", did="gave a lamp", whom="him"),
    }
    said = [each for words, each in known.items() if words in text]
    said = said or [entry(who=text.split()[0], did=text.split()[-1].strip("."))]
    return json.dumps({"episodes": [*said, entry(who="Zebras", did="fly"), entry(who="", did="slept")][:6]})


def yes(request: Request, options: list[str]) -> list[float]:
    first = 0.95 if "Ann Weller" in request.messages[-1].content else 0.05
    return [first, 1 - first] if len(options) == 2 else [1 / len(options)] * len(options)


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": writes, "choices": yes, **options})


def forms(scripted: ScriptedModel) -> int:
    return sum(call.request.schema is not None and call.result is not None for call in scripted.calls)


def written(services: Services, flow: Episodes) -> list[tuple[int, Fact]]:
    known = kept(services, episodes_recipe(services, flow.most))
    return [(place[0], fact) for place, facts in sorted(known.items()) for fact in facts]


@pytest.fixture
def tale(tmp_path: Path) -> Shelf:
    return shelf_of(tmp_path, {"tale.txt": TALE})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=16))


def test_parts_share_sentences_and_hold_them_all(tale: Shelf) -> None:
    services = Services(model(), tale, RunLog())
    shown = [TALE[start:end] for _, start, end in parts(services, 3, 1)]
    assert [text.count(".") for text in shown] == [3, 3, 2]
    assert shown[1].startswith("Bob Marsh rowed") and shown[0].endswith("to the harbour.")
    assert [text.count(".") for text in (TALE[a:b] for _, a, b in parts(services, 3, 0))] == [3, 3]
    assert len(parts(services, 6, 1)) == len(parts(services, 9, 1)) == 1


def test_episodes_point_to_their_sentences_and_hold_nothing_invented(tale: Shelf) -> None:
    flow = replace(FLOW, sentences=2)
    answer, _, _ = run(flow, tale, Question("Where was the brass key hidden?"), model())
    services = Services(model(), tale, RunLog())
    facts = {fact.text: fact for _, fact in written(services, flow)}
    key = facts["Ann Weller hid the brass key; under the stair; In winter"]
    assert TALE[key.start : key.end] == "In winter she hid the brass key under the stair."
    assert facts["Ann Weller kept the lighthouse"].elements[1] == "", "no such role stands there"
    assert not any("Zebras" in text for text in facts)
    assert any("brass key" in item.quote for item in answer.evidence)


def test_a_part_is_shown_with_what_stands_before_it(tale: Shelf) -> None:
    _, asked, _ = run(replace(FLOW, sentences=2), tale, Question(QUESTION), model())
    first, second, *_ = [call.request.messages[-1].content for call in asked.calls if call.request.schema]
    assert first.startswith("Before this: (nothing)\n")
    assert second.startswith("Before this: Ann Weller kept the lighthouse.\n")


def test_names_are_reconciled(tale: Shelf) -> None:
    flow = replace(FLOW, sentences=2)
    run(flow, tale, Question(QUESTION), model())
    services = Services(model(), tale, RunLog())
    assert any(fact.text == "Weller gave a lamp him" for _, fact in written(services, flow))
    graph = reconciled(services, written(services, flow), None)
    assert "weller" not in graph.nodes and len(graph.nodes["ann weller"]) >= 3
    assert graph.shown["ann weller"] == "Ann Weller" and "bob marsh" in graph.nodes
    assert reconciled(services, [], 0.9).nodes == {}


def test_near_names_are_merged_after_parts(tale: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is near the first of those that are left: none is lost, none changes places with its part."""
    monkeypatch.setattr(entities, "near_names", lambda names, *_: dict.fromkeys(names[1:], names[0]))
    said = ["Weller"] * 3 + ["Ann Weller"] + ["Ann Weller Smith"] * 2
    facts = [(0, Fact(f"{who} slept.", Episode(who, "", "slept", "", "", "", ""), 0, 9)) for who in said]
    graph = reconciled(Services(model(), tale, RunLog()), facts, 0.5)
    assert graph.nodes == {"ann weller smith": [0, 1, 2, 3, 4, 5]}


def test_a_name_is_part_of_one_longer_name_or_of_none() -> None:
    names = ("Ann", "Weller", "Ann Weller", "Ann Weller Smith", "Bob Smith", "key", "brass key", "Smith")
    shown = {name.lower(): name for name in names}
    assert parts_of_one(shown) == {
        "ann": "ann weller smith",
        "weller": "ann weller",
        "ann weller": "ann weller smith",
    }


def test_summaries_are_written_once_while_their_episodes_stay(tale: Shelf) -> None:
    flow = replace(FLOW, sentences=2)
    run(flow, tale, Question(QUESTION), model())
    services = Services(model(), tale, RunLog())
    graph = reconciled(services, written(services, flow), None)
    names = ["ann weller", "bob marsh"]
    assert summarize(services, graph, names, 40, 96) == ["SUM of Ann Weller.", "SUM of Bob Marsh."]
    before = len(services.model.calls)
    assert summarize(services, graph, names[:1], 40, 96) == ["SUM of Ann Weller."]
    assert len(services.model.calls) == before
    summarize(services, graph, names[:1], 1, 96)
    assert len(services.model.calls) == before + 1, "of fewer episodes"


def test_summaries_and_episodes_are_read_beside_passages(shelf: Shelf) -> None:
    answer, asked, _ = run(FLOW, shelf, Question(QUESTION), model(likelihoods=lambda request, text: -1.0))
    last = asked.calls[-1].request.messages[-1].content
    assert "SUM of" in last and "- " in last and "Ann Weller" in answer.answer
    assert answer.coverage.retrieved > 0
    alone, _, _ = run(replace(FLOW, passage_tokens=0), shelf, Question(QUESTION), model())
    assert "Ann Weller" in alone.answer and alone.coverage.gisted > 0 and alone.coverage.retrieved == 0


def test_a_second_question_extracts_nothing(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    before = FLOW.estimate(Question(QUESTION), services)
    first, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    after = FLOW.estimate(Question(QUESTION), services)
    assert forms(asked) == len(parts(services, FLOW.sentences, FLOW.overlap)) > 3
    assert before.calls - after.calls == forms(asked) and before.completion_tokens > after.completion_tokens
    again, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    assert forms(asked) == 0 and final(again) == final(first)
    _, asked, _ = run(FLOW, shelf, Question(QUESTION), model(name="another"))
    assert forms(asked) > 3


def test_an_extraction_that_was_cut_short_goes_on(shelf: Shelf, tmp_path: Path) -> None:
    flow = replace(FLOW, sentences=2)
    whole, asked, _ = run(flow, shelve(tmp_path / "other", Path(shelf.documents[0].path)), Question(QUESTION), model())
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        first = model(faults={5: ModelError("gone")})
        services = Services(first, shelf, runs)
        with pytest.raises(ModelError):
            run_with(flow, Question(QUESTION), services, saver)
        second = model()
        answer = resume(flow, Question(QUESTION), Services(second, shelf, runs, services.run), saver)
    assert final(answer) == final(whole)
    assert forms(second) == forms(asked) - FLOW.batch


def test_a_reply_that_was_cut_keeps_what_is_whole(tale: Shelf) -> None:
    def cut(request: Request) -> str:
        said = writes(request)
        return said if request.schema is None else said[:-2] + ", " + json.dumps(entry(who="word " * 300)) + "]}"

    flow = replace(FLOW, sentences=2, most=5)
    run(flow, tale, Question(QUESTION), model(replies=cut))
    texts = [fact.text for _, fact in written(Services(model(), tale, RunLog()), flow)]
    assert "Bob Marsh rowed; to the harbour" in texts


@pytest.mark.parametrize("calls", [3, 8, 20, 60])
def test_a_budget_ends_it_with_an_answer(shelf: Shelf, calls: int) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    answer = run_with(replace(FLOW, sentences=2), Question(QUESTION), services)
    assert answer.usage.calls <= calls
    if calls > 4:  # less than an answer takes
        assert "Ann Weller" in answer.answer and answer.evidence


def test_state_stays_small(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    services.run = services.runs.start(QUESTION, FLOW.name, "scripted")
    stream = FLOW.build().stream(Question(QUESTION).to_state(), context=services, stream_mode="values")
    assert max(len(json.dumps(state)) for state in stream) < 1024
