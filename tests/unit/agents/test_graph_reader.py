"""GraphReader: extraction once a document, the walk over the graph, and what ends it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.graph.exploring import Walk
from readthrough.agents.workflows.graph_reader import GraphReader
from readthrough.errors import ModelError, PromptTooLongError
from readthrough.memory.library import Library
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.entities import EntityGraph
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, final, run, shelve, write_book
from tests.library_samples import HashingEmbedder, chunker, open_library

written = partial(GraphReader, facts="written", index="bm25", enough_above=None)
FLOW = written(chunk_tokens=200, batch=2)
_PASSAGE = re.compile(r"^\[(\d+)\] (.+)$", re.MULTILINE)


def writes(request: Request) -> str:
    """The beginning of every passage as a fact, about two words of it. Else what is known of Ann Weller."""
    prompt = request.messages[-1].content
    if request.schema is None:
        return "Ann Weller hid it." if "Ann Weller" in prompt else "Nothing about it."
    numbers = request.schema["required"]
    passages = dict(_PASSAGE.findall(prompt))
    return json.dumps({number: [_fact(passages[number])] for number in numbers})


def _fact(passage: str) -> dict[str, object]:
    if FACT in passage:
        return {"fact": FACT, "key_elements": ["brass key", "Ann Weller", "lighthouse"]}
    words = passage.split()
    return {"fact": " ".join(words[:10]), "key_elements": ["self", " ".join(words[1:3])]}


def follows(*rules: tuple[str, str]) -> Callable[[Request, object], list[float]]:
    """Chooses by the first rule whose words stand in the prompt, and whose action is offered; else the first option."""

    def choose(request: Request, options: list[str]) -> list[float]:
        prompt = request.messages[-1].content
        lines = {line[0]: line[3:] for line in prompt.splitlines() if line[1:3] == ". "}
        found = [letter for words, action in rules if words in prompt for letter in lines if action in lines[letter]]
        wanted = found[0] if found else options[0]
        return [float(option == wanted) for option in options]

    return choose


def model(*rules: tuple[str, str], **options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": writes, "choices": follows(*rules), **options})


def forms(scripted: ScriptedModel) -> int:
    return sum(call.request.schema is not None and call.result is not None for call in scripted.calls)


def walked(
    flow: GraphReader, shelf: Shelf, scripted: ScriptedModel, question: str = QUESTION
) -> tuple[Walk, EntityGraph, list]:
    """The walk, the graph and the windows of a finished run."""
    services = Services(scripted, shelf, RunLog())
    services.run = services.runs.start(question, flow.name, scripted.name)
    state = flow.build().invoke(Question(question).to_state(), context=services)
    walk, graph, windows = (services.get_json(state[key]) for key in ("walk", "graph", "windows"))
    return Walk.from_json(walk), EntityGraph.from_json(graph), windows


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def test_sentences_are_facts_and_nothing_is_written_of_them(shelf: Shelf) -> None:
    flow = GraphReader(chunk_tokens=200, index="bm25")
    asked = model(("Facts about", "read passage [1]"), ("", "stop searching"))
    walk, graph, _ = walked(flow, shelf, asked)
    text = shelf.document(shelf.documents[0].id).text
    assert forms(asked) == 0
    assert [text[fact.start : fact.end] for fact in graph.facts] == [fact.text for fact in graph.facts]
    assert "ann weller" in graph.nodes and FACT in [graph.facts[number].text for number in graph.nodes["ann weller"]]
    assert any("Ann Weller" in path.notes for path in walk.paths)
    assert flow.estimate(Question(QUESTION), Services(model(), shelf, RunLog())).completion_tokens < 10_000


def states(request: Request, options: list[str]) -> str:
    """Yes where Ann Weller is in the text; of the actions the first."""
    yes = "Ann Weller" in request.messages[-1].content
    return ("Yes" if yes else "No") if "Yes" in options else options[0]


def test_the_walk_ends_where_what_was_read_states_the_answer(shelf: Shelf) -> None:
    flow = GraphReader(chunk_tokens=200, index="bm25")
    walk, _, _ = walked(flow, shelf, model(choices=states))
    assert walk.steps == 1 and walk.active == []
    noted = [path for path in walk.paths if path.notes]
    assert noted and all(path.stated >= 0.9 and "Ann Weller" in path.notes for path in noted)
    on, _, _ = walked(replace(flow, enough_above=None), shelf, model(choices=states))
    assert on.steps > 1


def test_notebooks_of_what_does_not_state_it_are_left_out(shelf: Shelf) -> None:
    def about(request: Request) -> str:
        return writes(request) if request.schema else request.messages[-1].content.partition(", by passage")[0]

    def knows(stating: list[str]) -> Callable[[Request, list[str]], str]:
        return lambda request, options: options[0 if "Yes" not in options or about(request) in stating else 1]

    flow = written(chunk_tokens=200, steps_a_path=1, abstain_below=0.0)
    walk, _, _ = walked(flow, shelf, model(replies=about))
    first, *others = [path.notes for path in walk.paths]
    assert others
    for drop_below in (0.15, 0.0):
        asked = model(replies=about, choices=knows([first]), likelihoods=lambda request, question: -1.0)
        run(replace(flow, drop_below=drop_below), shelf, Question(QUESTION), asked)
        last = asked.calls[-1].request.messages[-1].content
        assert first in last and any(note in last for note in others) == (drop_below == 0.0)


def test_a_second_question_extracts_nothing(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    before = FLOW.estimate(Question(QUESTION), services)
    first, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    after = FLOW.estimate(Question(QUESTION), services)
    assert forms(asked) > 5 and before.calls - after.calls == forms(asked)
    assert before.prompt_tokens > after.prompt_tokens and before.completion_tokens > after.completion_tokens
    again, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    assert forms(asked) == 0 and final(again) == final(first)
    _, asked, _ = run(FLOW, shelf, Question(QUESTION), model(name="another"))
    assert forms(asked) > 5


def test_a_document_that_is_new_is_extracted_alone(tmp_path: Path) -> None:
    book, other = write_book(tmp_path / "books"), tmp_path / "other.txt"
    other.write_text("Bob Marsh counted the lamps.")
    library = open_library(tmp_path / "home")
    run(FLOW, library.shelve([book]), Question(QUESTION), model())
    _, asked, _ = run(FLOW, library.shelve([book, other]), Question(QUESTION), model())
    assert forms(asked) == 1
    library.delete([str(book)])
    _, asked, _ = run(FLOW, library.shelve([book, other]), Question(QUESTION), model())
    assert forms(asked) > 5


@pytest.mark.parametrize("goes_on", ["resume", "ask again"])
def test_an_extraction_that_was_cut_short_repeats_one_step_at_most(shelf: Shelf, tmp_path: Path, goes_on: str) -> None:
    library = open_library(tmp_path / "another home")
    whole, asked, _ = run(FLOW, library.shelve([shelf.documents[0].path]), Question(QUESTION), model())
    runs, windows = RunLog(tmp_path / "runs.sqlite"), forms(asked)
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        first = model(faults={5: ModelError("gone")})
        services = Services(first, shelf, runs)
        with pytest.raises(ModelError):
            run_with(FLOW, Question(QUESTION), services, saver)
        assert forms(first) == 5
        second = model()
        if goes_on == "resume":
            answer = resume(FLOW, Question(QUESTION), Services(second, shelf, runs, services.run), saver)
        else:
            answer = run_with(FLOW, Question(QUESTION), Services(second, shelf, runs), saver)
    assert final(answer) == final(whole)
    assert forms(second) == windows - 4


def test_a_reply_that_was_cut_is_gone_on_with(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    flow = GraphReader(
        facts="written", chunk_tokens=400, facts_tokens=70, index="bm25"
    )  # two passages' facts, and a little more
    asked = model()
    _, graph, windows = walked(flow, shelf, asked)
    cut = [call for call in asked.calls if call.request.schema and call.result.finish == "length"]
    assert cut and forms(asked) > len(windows)
    passages = [chunk for window in windows for chunk in window[3]]
    assert len(graph.facts) == len(passages) == len({fact.text for fact in graph.facts})
    assert [fact.start for fact in graph.facts] == sorted(fact.start for fact in graph.facts)


def test_a_single_passage_whose_reply_is_cut_ends(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    answer, asked, _ = run(written(facts_tokens=12), shelf, Question(QUESTION), model())
    assert forms(asked) == len(shelf.chunk_ids())
    assert "Ann Weller" in answer.answer and answer.coverage.read > 0  # by the index, for there is no fact


def test_facts_that_are_not_in_the_text_are_dropped(shelf: Shelf) -> None:
    def lies(request: Request) -> str:
        numbers = request.schema["required"] if request.schema else ()
        return json.dumps({n: [{"fact": "Zebras fly.", "key_elements": ["zebra"]}] for n in numbers})

    _, graph, _ = walked(FLOW, shelf, model(replies=lies))
    assert graph.facts == ()


@pytest.mark.parametrize("shift", [0, 1])
def test_every_fact_points_to_its_sentence(shelf: Shelf, shift: int) -> None:
    def loses_count(request: Request) -> str:
        said = writes(request)
        if request.schema is None:
            return said
        facts = list(json.loads(said).values())
        return json.dumps({str(n): items for n, items in enumerate(facts[shift:] + facts[:shift], 1)})

    _, graph, _ = walked(FLOW, shelf, model(replies=loses_count))
    text = shelf.document(shelf.documents[0].id).text
    assert len(graph.facts) == len(shelf.chunk_ids())
    telling = [fact for fact in graph.facts if fact.text.startswith("In part")]  # others are words that many hold
    assert len(telling) > 20
    assert all(fact.text in text[fact.start : fact.end] for fact in telling)


def test_coverage_tells_what_was_read_and_what_is_known_by_facts_alone(shelf: Shelf) -> None:
    flow = written(chunk_tokens=200, chunks_a_node=1, steps_a_path=2)
    answer, _, _ = run(flow, shelf, Question("In which part is the story?"), model())
    assert 0 < answer.coverage.read <= 5 * 200
    assert answer.coverage.gisted > 0 and answer.coverage.unread > 0


HOPS = """The brass key was left with the keeper.

Nothing else happened that day in the harbour.

The keeper of that winter was a sister of the doctor.

She went by the name of Ann Weller."""


def hops(request: Request) -> str:
    """Facts of HOPS."""
    if request.schema is None:
        return "Notes."
    names = {"brass": ["brass key", "keeper"], "Nothing": ["harbour"], "sister": ["The Keeper", "sister"]}
    names["Weller"] = ["sister", "Ann Weller"]
    made = {}
    for number, passage in _PASSAGE.findall(request.messages[-1].content):
        found = next(each for word, each in names.items() if word in passage)
        made[number] = [{"fact": passage, "key_elements": found}]
    return json.dumps(made)


def hop(tmp_path: Path, *rules: tuple[str, str], steps: int = 10) -> tuple[Walk, list[str], list[str]]:
    """The walk over HOPS from one node, the texts of the windows it read, and the nodes in order."""
    (tmp_path / "hops.txt").write_text(HOPS)
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(12))
    shelf = library.shelve([tmp_path / "hops.txt"])
    flow = written(chunk_tokens=16, initial_nodes=1, steps_a_path=steps)
    walk, _, windows = walked(flow, shelf, model(*rules, replies=hops), "Where was the brass key?")
    text = shelf.document(shelf.documents[0].id).text
    return walk, [text[windows[n][1] : windows[n][2]].strip() for n in walk.read], walk.visited


LINES = HOPS.split("\n\n")


def test_a_path_goes_to_a_neighbour_and_reads_there(tmp_path: Path) -> None:
    start = ("Facts about brass key", "neighbouring topic")
    walk, read, visited = hop(tmp_path, start, ("", "read about keeper"), ("", "read passage"), ("", "stop searching"))
    assert visited == ["brass key", "keeper"] and read[0] in (LINES[0], LINES[2]) and walk.active == []


def test_a_path_reads_what_stands_before_and_behind(tmp_path: Path) -> None:
    _, read, _ = hop(tmp_path, ("Facts", "read passage"), ("", "right after this"), ("", "stop searching"))
    assert read == LINES
    _, read, _ = hop(
        tmp_path, ("Facts", "read passage"), ("sister of", "right before"), (LINES[0], "right after"), ("", "stop")
    )
    assert read == LINES[:2]


def test_a_path_ends_when_it_says_so_and_at_its_bound(tmp_path: Path) -> None:
    walk, read, _ = hop(tmp_path, ("Facts", "read passage"), ("", "stop searching"))
    assert read == LINES[:1] and walk.steps == 2
    walk, _, visited = hop(tmp_path, ("Facts", "neighbouring topic"), ("", "read about"), steps=3)
    assert walk.steps == 3 and len(visited) == 2


def test_nothing_is_read_twice_however_long_it_goes(shelf: Shelf) -> None:
    walk, _, windows = walked(written(chunk_tokens=200, steps_a_path=60), shelf, model())
    assert len(walk.taken) == len(set(walk.taken)) <= len(windows)
    assert walk.active == [] and walk.steps < 60


def test_names_with_near_vectors_become_one_node(tmp_path: Path) -> None:
    (tmp_path / "hops.txt").write_text("A key of brass. The brass key.")

    def both(request: Request) -> str:
        elements = ["brass key", "key brass"]
        return (
            json.dumps({"1": [{"fact": "A key of brass.", "key_elements": elements}]}) if request.schema else "Notes."
        )

    shelf = shelve(tmp_path / "home", tmp_path / "hops.txt")
    assert len(walked(FLOW, shelf, model(replies=both))[1].nodes) == 2
    flow = written(merge_above=0.99)
    assert len(walked(flow, shelf, model(replies=both))[1].nodes) == 1


def test_a_model_without_logits_starts_in_the_order_of_the_index(shelf: Shelf) -> None:
    asked = model()
    asked.capabilities = frozenset({"schema"})
    answer, _, _ = run(FLOW, shelf, Question(QUESTION), asked)
    assert "Ann Weller" in answer.answer
    assert {call.kind for call in asked.calls} == {"complete", "choose"}


@pytest.mark.parametrize("calls", [4, 8, 30, 60])
def test_a_budget_ends_it_with_an_answer(shelf: Shelf, calls: int) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    answer = run_with(FLOW, Question(QUESTION), services)
    assert answer.stopped == f"max_calls={calls}" and answer.usage.calls <= calls
    if calls > 4:  # less than an answer takes
        assert "Ann Weller" in answer.answer and answer.evidence
        assert answer.coverage.read + answer.coverage.retrieved > 0


def test_state_stays_small(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    services.run = services.runs.start(QUESTION, FLOW.name, "scripted")
    stream = FLOW.build().stream(Question(QUESTION).to_state(), context=services, stream_mode="values")
    assert max(len(json.dumps(state)) for state in stream) < 1024


def test_a_chunk_that_is_larger_than_the_window_is_refused(shelf: Shelf) -> None:
    with pytest.raises(PromptTooLongError, match="smaller than a passage"):
        run(written(chunk_tokens=20), shelf, Question(QUESTION), model())
