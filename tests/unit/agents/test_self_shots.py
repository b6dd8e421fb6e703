"""Self-shots: examples are made of the text's passages once, checked, and stand before the question."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.self_shots import SelfShots
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, run, shelve, write_book

FLOW = SelfShots(index="bm25", abstain_below=0.3)


def writes(request: Request) -> str:
    """A question and an answer with the first and last words of a passage; else what is known of Ann Weller."""
    prompt = request.messages[-1].content
    if request.schema is None:
        return "Ann Weller hid it." if "Ann Weller" in prompt else "Nothing about it."
    passage = prompt.partition("\n\nWrite one")[0].split()
    return json.dumps({"question": f"What about {' '.join(passage[:6])}?", "answer": " ".join(passage[-2:])})


def yes(request: Request, options: list[str]) -> list[float]:
    """Yes; of numbered passages the one with the fact."""
    if list(options) == ["Yes", "No"]:
        return [0.95, 0.05]
    prompt = request.messages[-1].content
    wanted = next((n for n in range(len(options)) if f"[{n + 1}] {FACT[:20]}" in prompt), 0)
    return [float(place == wanted) for place in range(len(options))]


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": writes, "choices": yes, **options})


def made(scripted: ScriptedModel) -> int:
    return sum(call.request.schema is not None for call in scripted.calls)


def last_prompt(scripted: ScriptedModel) -> str:
    return scripted.calls[-1].request.messages[-1].content


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def test_examples_stand_once_before_the_question_and_point_to_their_passages(shelf: Shelf) -> None:
    answer, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    prompt = last_prompt(asked)
    passages, _, examples = prompt.partition("Here are questions about these passages")
    shown = {block[1 : block.index("]")]: block for block in passages.split("\n\n") if block.startswith("[")}
    blocks = [block for block in examples.split("\n\n") if block.startswith("Question: What about")]
    assert len(blocks) == FLOW.shots
    for block in blocks:
        question, passage, said = block.splitlines()
        text = shown[passage.removeprefix("Passage: [").rstrip("]")]
        assert question.removeprefix("Question: What about ").rstrip("?") in text
        assert said.removeprefix("Answer: ") in text
    wanted = next(number for number, block in shown.items() if FACT in block)
    assert f"Question: {QUESTION}\nPassage: [{wanted}]\n" in prompt
    assert answer.answer == "Ann Weller hid it." and FACT in [item.quote for item in answer.evidence]


def test_a_passage_is_asked_about_once(shelf: Shelf) -> None:
    _, asked, _ = run(FLOW, shelf, Question(QUESTION), model())
    assert made(asked) == 2 * FLOW.shots
    _, again, _ = run(FLOW, shelf, Question(QUESTION), model())
    assert made(again) == 0 and last_prompt(again) == last_prompt(asked)
    _, other, _ = run(replace(FLOW, check_above=0.4), shelf, Question(QUESTION), model())
    assert made(other) > 0, "what passes may be something else"


@pytest.mark.parametrize("fault", ["invented", "not stated", "cut"])
def test_examples_that_do_not_pass_are_left_out(shelf: Shelf, fault: str) -> None:
    def lies(request: Request) -> str:
        if request.schema is None:
            return writes(request)
        pair = json.loads(writes(request))
        if fault == "invented":
            return json.dumps({**pair, "answer": "Zebras"})
        return json.dumps({**pair, "question": "word " * 200}) if fault == "cut" else json.dumps(pair)

    def no(request: Request, options: list[str]) -> list[float]:
        unsure = fault == "not stated" and "What about" in request.messages[-1].content.rpartition("Question: ")[2]
        return [0.01, 0.99] if list(options) == ["Yes", "No"] and unsure else yes(request, options)

    asked = model(replies=lies, choices=no, likelihoods=lambda request, text: -1.0)
    answer, asked, _ = run(FLOW, shelf, Question(QUESTION), asked)
    assert made(asked) == 2 * FLOW.shots
    assert "Here are questions" not in last_prompt(asked) and "Ann Weller" in answer.answer


def test_a_short_text_is_read_whole(shelf: Shelf) -> None:
    whole, _, _ = run(replace(FLOW, passage_tokens=100_000), shelf, Question(QUESTION), model(window_tokens=300_000))
    assert whole.coverage.read == whole.coverage.tokens
    part, _, _ = run(FLOW, shelf, Question(QUESTION), model())
    assert 0 < part.coverage.retrieved <= FLOW.passage_tokens and part.coverage.unread > 0


def test_what_is_not_stated_is_refused(shelf: Shelf) -> None:
    def no(request: Request, options: list[str]) -> list[float]:
        return [0.01, 0.99] if list(options) == ["Yes", "No"] else yes(request, options)

    answer, _, _ = run(FLOW, shelf, Question(QUESTION), model(choices=no, likelihoods=lambda request, text: -1.0))
    assert answer.abstained and answer.evidence == ()


def test_a_model_without_logits_answers(shelf: Shelf) -> None:
    asked = model()
    asked.capabilities = frozenset({"schema"})
    answer, asked, _ = run(FLOW, shelf, Question(QUESTION), asked)
    assert "Ann Weller" in answer.answer and {call.kind for call in asked.calls} == {"complete", "choose"}


def test_what_no_call_read_is_unread(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(tokens=100)))
    answer = run_with(FLOW, Question(QUESTION), services)
    assert not answer.usage.calls and answer.coverage.unread == answer.coverage.tokens


@pytest.mark.parametrize("calls", [3, 8, 14, 26])
def test_a_budget_ends_it_with_an_answer(shelf: Shelf, calls: int) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    answer = run_with(FLOW, Question(QUESTION), services)
    assert answer.stopped == f"max_calls={calls}" and answer.usage.calls <= calls
    if calls > 5:  # less than an answer takes
        assert "Ann Weller" in answer.answer and answer.evidence
