"""probe-and-consolidate: probes go on from an impasse, what they find is noted, fused, and has its places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.probe_and_consolidate import ProbeAndConsolidate
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.trees.growing import Grower
from readthrough.types import Limits
from tests.agent_samples import run, shelve
from tests.library_samples import story

FIRST = "The brass key of the lighthouse was hidden by the daughter of the harbour master."
SECOND = "Ann Weller was the only child of old Weller, master of the harbour."
THIRD = "Old Weller painted boats at Conway every summer."
ASKED = Question("What is the name of the one who hid the brass key of the lighthouse?")
PROBES = ["Who was the only child of old Weller?", "Who painted boats at Conway?", "Who owned the mirror?"]
SMALL = {"passage_tokens": 230, "probe_tokens": 70, "index": "bm25"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Three facts far apart."""
    parts = story(7, 40).split("\n\n")
    for number, fact in enumerate((FIRST, SECOND, THIRD)):
        parts.insert(5 + 13 * number, fact)
    (tmp_path / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return shelve(tmp_path / "home", tmp_path / "book.txt")


def prompt_of(request: Request) -> str:
    return request.messages[-1].content


def says(request: Request) -> str:
    prompt = prompt_of(request)
    if "to search the rest of the text" in prompt:
        return "\n".join(f"- {probe}" for probe in PROBES)
    if "puts these notes together" in prompt:
        return "FUSED: Ann Weller is the child of the harbour master."
    if "What does the text above say about this" in prompt:
        return "Ann Weller is his child." if SECOND in prompt else "He painted boats at Conway."
    if "in at most" in prompt:
        return "A part of the story."
    return "Ann Weller." if "Ann Weller" in prompt else "*"


def sees(request: Request, options: Sequence[str]) -> list[float]:
    """Yes where the second fact stands, or the third and a question about it."""
    prompt = prompt_of(request)
    yes = SECOND in prompt or (THIRD in prompt and "Conway" in prompt.rpartition("Question:")[2])
    return [0.97, 0.03] if yes else [0.02, 0.98]


def scripted() -> ScriptedModel:
    return ScriptedModel(replies=says, choices=sees, likelihoods=lambda *_: -3.0)


def prompts(model: ScriptedModel, words: str) -> list[str]:
    return [prompt_of(call.request) for call in model.calls if words in prompt_of(call.request)]


def test_probes_lead_out_of_the_impasse(shelf: Shelf) -> None:
    answer, model, events = run(ProbeAndConsolidate(**SMALL), shelf, ASKED, scripted())
    assert answer.answer == "Ann Weller." and not answer.abstained
    assert any(item.quote == SECOND for item in answer.evidence)
    assert sum(event.stage == "probe" for event in events) == 1
    assert len(prompts(model, "What does the text above say about this")) == 2, "one probe found nothing"
    assert not prompts(model, "puts these notes together"), "half of two cues is one"
    assert answer.coverage.retrieved > 0 and answer.coverage.gisted > 0


def test_no_probe_where_passages_state_the_answer(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(f"{FIRST} {SECOND}")
    shelf = shelve(tmp_path / "home", tmp_path / "one.txt")
    _, model, events = run(ProbeAndConsolidate(), shelf, ASKED, scripted())
    assert not [event for event in events if event.stage == "probe"]
    assert sum(call.kind == "complete" for call in model.calls) == 1


def test_a_cycle_that_finds_nothing_is_the_last(shelf: Shelf) -> None:
    model = ScriptedModel(replies=says, choices=lambda *_: [0.01, 0.99], likelihoods=lambda *_: -3.0)
    answer, _, events = run(ProbeAndConsolidate(**SMALL), shelf, ASKED, model)
    assert answer.abstained and sum(event.stage == "probe" for event in events) == 1


def test_fused_summaries_stay_and_cycles_are_bounded(shelf: Shelf) -> None:
    count = 0

    def asks_on(request: Request) -> str:
        nonlocal count
        if "to search the rest of the text" not in prompt_of(request):
            return says(request)
        count += 1
        return "\n".join(f"Who painted {what}{count} at Conway?" for what in ("boats", "doors", "walls"))

    def never_enough(request: Request, options: Sequence[str]) -> list[float]:
        return [0.97, 0.03] if "Who painted" in prompt_of(request).rpartition("Question:")[2] else [0.02, 0.98]

    model = ScriptedModel(replies=asks_on, choices=never_enough, likelihoods=lambda *_: -3.0)
    _, model, events = run(ProbeAndConsolidate(cycles=3, fused_ratio=0.5, **SMALL), shelf, ASKED, model)
    assert sum(event.stage == "probe" for event in events) == 3
    fusing = prompts(model, "puts these notes together")
    assert [prompt.count("Who painted") for prompt in fusing] == [2, 3, 5], "half of the single cues"
    assert prompts(model, "to search the rest")[2].count("FUSED") == 2


def test_the_papers_impasse_is_a_star(shelf: Shelf) -> None:
    answer, model, events = run(ProbeAndConsolidate(impasse="written", **SMALL), shelf, ASKED, scripted())
    tried = prompts(model, "write * and nothing else")
    assert len(tried) == 2 and ["What was found out" in each for each in tried] == [False, True]
    assert answer.answer == "Ann Weller." and answer.evidence
    assert sum(event.stage == "probe" for event in events) == 1


def test_all_windows_are_told_and_trees_grown_first(shelf: Shelf) -> None:
    flow = ProbeAndConsolidate(episodes="all", semantic="grown", **SMALL)
    services = Services(scripted(), shelf, RunLog())
    expected = flow.estimate(ASKED, services)
    answer, model, events = run(flow, shelf, ASKED, scripted())
    told = [event for event in events if event.stage == "tell"]
    assert told[-1].done == told[-1].total and len(prompts(model, "in at most 60 words")) == told[-1].total
    assert any(event.stage == "summarize" for event in events) and expected.calls > told[-1].total
    [cue, *_] = prompts(model, "What does the text above say about this")
    assert "A part of the story." in cue and answer.coverage.gisted > 0


def test_a_budget_ends_the_cycles_with_what_is_known(shelf: Shelf) -> None:
    services = Services(scripted(), shelf, RunLog(), budget=Budget(Limits(calls=14)))
    answer = ProbeAndConsolidate(**SMALL).run(ASKED, services)
    assert answer.stopped == "max_calls=14" and answer.usage.calls <= 14


def test_works_without_logits(shelf: Shelf) -> None:
    model = scripted()
    model.capabilities = frozenset({"schema"})
    answer, model, _ = run(ProbeAndConsolidate(**SMALL), shelf, ASKED, model)
    assert answer.answer == "Ann Weller." and {call.kind for call in model.calls} == {"choose", "complete"}


def test_an_answer_that_is_stated_is_no_impasse_however_unsure_it_is(shelf: Shelf) -> None:
    model = scripted()
    model.name = "qwen2.5-coder-0.5b-instruct"  # of what it writes half is right at most
    answer, model, events = run(ProbeAndConsolidate(**{**SMALL, "passage_tokens": 6000}), shelf, ASKED, model)
    assert answer.confidence is not None and answer.confidence < 0.5 and not answer.abstained
    assert not [event for event in events if event.stage == "probe"]


def test_the_papers_form_refuses_by_a_star_and_knows_what_it_read(shelf: Shelf) -> None:
    model = ScriptedModel(replies=lambda request: "*" if "write *" in prompt_of(request) else says(request))
    model.choices, model.likelihoods = (lambda *_: [0.01, 0.99]), (lambda *_: -3.0)
    paper = {**SMALL, "passage_tokens": 0, "abstain_below": 0}
    answer, model, _ = run(ProbeAndConsolidate(impasse="written", drop_below=2, **paper), shelf, ASKED, model)
    assert answer.abstained and len(prompts(model, "write * and nothing else")) == 2
    assert not [call for call in model.calls if prompt_of(call.request).startswith("What was found out")]
    answer, _, _ = run(ProbeAndConsolidate(impasse="written", cycles=0, **paper), shelf, ASKED, scripted())
    assert answer.abstained and answer.coverage.retrieved > 0


def test_trees_are_grown_of_texts_of_any_size(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Grower.__init__.__defaults__ or ()
    monkeypatch.setattr(Grower.__init__, "__defaults__", (*defaults[:-1], 1))  # as if the text were of millions
    _, _, events = run(ProbeAndConsolidate(semantic="grown", **SMALL), shelf, ASKED, scripted())
    assert any(event.stage == "summarize" for event in events)


@pytest.mark.parametrize(
    "options", [{"probes": 0}, {"cue_tokens": 0}, {"cycles": -1}, {"fused_ratio": 0.0}, {"fused_ratio": 1.5}]
)
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ProbeAndConsolidate(**options)
