"""Tree-walk: trees grown once, walked step by step, searched as one heap; budgets, resuming, many documents."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.tree_walk import TreeWalk
from readthrough.errors import ModelError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, decides, final, run, says_what_it_reads, shelve, write_book
from tests.library_samples import open_library, write_stories

small = partial(TreeWalk, children=4, read_tokens=1000, summary_tokens=32, batch=3, passage_tokens=200)
ASKED = Question(QUESTION)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": says_what_it_reads, "choices": decides, **options})


def services(shelf: Shelf, scripted: ScriptedModel, **options: object) -> Services:
    return Services(scripted, shelf, RunLog(), **options)


def summaries(scripted: ScriptedModel) -> int:
    """How many summaries were written."""
    shown = [call.request.messages[-1].content for call in scripted.calls if call.kind == "complete" and call.result]
    return sum("Summarize the text above" in prompt for prompt in shown)


def test_trees_are_grown_once_and_the_walk_ends_at_the_passage(shelf: Shelf) -> None:
    flow = small(index=None)
    before = flow.estimate(ASKED, services(shelf, model()))
    first, asked, events = run(flow, shelf, ASKED, model())
    after = flow.estimate(ASKED, services(shelf, model()))
    assert summaries(asked) > 5 and before.calls - after.calls >= summaries(asked)
    assert 0.3 < len(asked.calls) / before.calls < 1.5
    assert FACT in first.evidence[0].quote and first.confidence and first.confidence > 0.9
    steps = sum(event.stage == "walk" for event in events)
    again, asked, _ = run(flow, shelf, ASKED, model())
    assert summaries(asked) == 0 and final(again) == final(first)
    _, _, events = run(replace(flow, enough_above=None), shelf, ASKED, model())
    assert 1 < steps < sum(event.stage == "walk" for event in events) == 11


def test_what_was_seen_is_told(shelf: Shelf) -> None:
    answer, asked, _ = run(
        small(index=None, beam=1, steps=4, enough_above=None, passage_tokens=50), shelf, ASKED, model()
    )
    coverage = answer.coverage
    assert 0 < coverage.retrieved <= 50 and coverage.skipped > 0 and coverage.gisted > 0
    assert sum(asdict(coverage).values()) == 2 * coverage.tokens and coverage.unread == 0, "the top is of everything"
    assert sum(call.kind == "likelihood" for call in asked.calls) < len(shelf.chunk_ids())


@pytest.mark.parametrize("calls", [2, 6])
def test_a_budget_that_ends_the_growing_leaves_an_answer_and_what_was_made(shelf: Shelf, calls: int) -> None:
    flow, asked = small(index="bm25"), model()
    answer = flow.run(ASKED, services(shelf, asked, budget=Budget(Limits(calls=calls + 4))))
    assert answer.stopped == f"max_calls={calls + 4}" and len(asked.calls) <= calls + 4
    assert "Ann Weller" in answer.answer and FACT in answer.evidence[0].quote and answer.coverage.unread > 0
    _, again, _ = run(flow, shelf, ASKED, model())
    trees = flow._trees(services(shelf, again))
    made = {node.summary.key for tree in trees.values() for node in tree.nodes}
    assert summaries(asked) + summaries(again) == len(made), "what was written is not written again"


def test_a_budget_that_ends_the_walk_answers_from_what_it_came_to(shelf: Shelf) -> None:
    flow = small(index=None, enough_above=None)
    _, asked, _ = run(flow, shelf, ASKED, model())
    walking = [place for place, call in enumerate(asked.calls) if call.kind == "likelihood"]
    limit = Limits(calls=walking[0] - summaries(asked) + 60)
    answer = flow.run(ASKED, services(shelf, model(), budget=Budget(limit)))
    assert answer.stopped and answer.coverage.retrieved > 0 and answer.coverage.skipped > 0


@pytest.mark.parametrize("by", ["likelihood", "choice"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_run_that_was_killed_goes_on(shelf: Shelf, tmp_path: Path, by: str, share: float) -> None:
    """In the growing and in the walk; at most one batch, or one step of the walk, is repeated."""
    flow = small(index=None, enough_above=None, by=by, steps=4)
    home = open_library(tmp_path / "another home")
    whole, asked, _ = run(flow, home.shelve([shelf.documents[0].path]), ASKED, model())
    runs, needed = RunLog(tmp_path / "runs.sqlite"), len(asked.calls)
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        first, second = model(faults={int(share * needed): ModelError("gone")}), model()
        begun = Services(first, shelf, runs)
        with pytest.raises(ModelError):
            run_with(flow, ASKED, begun, saver)
        answer = resume(flow, ASKED, Services(second, shelf, runs, begun.run), saver)
    assert final(answer) == final(whole)
    assert len(first.calls) + len(second.calls) - needed <= 3 + 2 * 4 + 2
    assert summaries(first) + summaries(second) <= summaries(asked) + 2


def test_an_endpoint_without_logits_chooses(shelf: Shelf) -> None:
    asked = model()
    asked.capabilities = frozenset({"schema"})
    asked.likelihood = partial(ModelBackend.likelihood, asked)
    answer, _, _ = run(small(), shelf, ASKED, asked)
    assert "Ann Weller" in answer.answer and any(
        "Which of the texts" in c.request.messages[-1].content for c in asked.calls
    )


def test_slates_fit_the_window(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_text(f"The keeper of lamp {number} went out" + "!" * 200, encoding="utf-8")
    shelf, asked = shelve(tmp_path / "home", *paths), model(window_tokens=2600)
    asked.capabilities = frozenset({"schema"})
    answer, _, _ = run(TreeWalk(index=None, enough_above=None, abstain_below=0), shelf, ASKED, asked)
    prompts = [call.request.messages[-1].content for call in asked.calls]
    slates = [prompt for prompt in prompts if "Which of the texts" in prompt]
    assert len(shelf.chunk_ids()) == 20 and len(slates) == 6 and answer.coverage.unread == 0
    assert all(any(f"lamp {number} " in slate for slate in slates) for number in range(20))


def test_a_collapsed_tree_is_searched_without_the_model(shelf: Shelf) -> None:
    flow = small(search="collapsed", index=None, overview_tokens=40)
    run(flow, shelf, ASKED, model())
    answer, asked, _ = run(flow, shelf, ASKED, model())
    assert {call.kind for call in asked.calls[:-1]} <= {"choose", "likelihood"} and len(asked.calls) <= 4
    last = asked.calls[-1].request.messages[-1].content
    assert "Summaries of longer parts" in last and FACT in last and FACT in answer.evidence[0].quote
    assert answer.coverage.gisted > 0 and answer.coverage.skipped == 0
    plain, asked, _ = run(replace(flow, overview_tokens=0), shelf, ASKED, model())
    assert plain.coverage.gisted == 0 and "Summaries of longer" not in asked.calls[-1].request.messages[-1].content


def test_of_many_documents_those_are_grown_that_the_index_finds(tmp_path: Path) -> None:
    paths = [*write_stories(tmp_path / "books", range(4), 9), write_book(tmp_path / "book", 9)]
    shelf = open_library(tmp_path / "home").shelve(paths)
    flow = small(documents=1, index="bm25")
    answer, asked, _ = run(flow, shelf, ASKED, model())
    assert "Ann Weller" in answer.answer and 0 < summaries(asked) < 8
    assert list(flow._trees(services(shelf, asked))) == [shelf.document_ids()[4]]
    _, asked, _ = run(replace(flow, documents=9), shelf, ASKED, model())
    assert summaries(asked) >= 8


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"documents": 0}, {"passage_tokens": 0}, {"beam": 0}, {"children": 1}, {"read_tokens": 10}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TreeWalk(**wrong)
