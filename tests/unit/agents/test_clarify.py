"""clarify: questions on the way, paragraphs that are pointed to, one context at the beginning of every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.passages import shown_tokens
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.clarify import Clarify
from readthrough.errors import PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import run, shelve
from tests.library_samples import story

FIRST = "The brass key of the lighthouse was hidden by the daughter of the harbour master."
SECOND = "The harbour master's daughter was called Ann Weller by everybody."
HELPS, IDLE = "What was the harbour master's daughter called?", "What colour is the mirror?"
ASKED = Question("What is the name of the one who hid the brass key of the lighthouse?")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Two facts far apart."""
    parts = story(7, 40).split("\n\n")
    parts.insert(3, FIRST)
    parts.insert(33, SECOND)
    (tmp_path / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return shelve(tmp_path / "home", tmp_path / "book.txt")


def prompt_of(request: Request) -> str:
    return request.messages[-1].content


def asking(*questions: str):
    """Asks these questions, answers them, and names Ann where both facts are in front of it."""

    def reply(request: Request) -> str:
        prompt = prompt_of(request)
        if "simpler questions" in prompt:
            return "\n".join(f"{number}. {text}" for number, text in enumerate(questions, 1))
        if "Write their numbers" in prompt:
            return "[2], [99] and 4"
        return "Ann Weller." if SECOND in prompt else "Nobody knows."

    return reply


def points(request: Request, options: Sequence[str]) -> list[float]:
    """Sure of the answer where both facts stand; points to the second for the question about the daughter."""
    prompt = prompt_of(request)
    if list(options) == ["Yes", "No"]:
        return [0.95, 0.05] if FIRST in prompt and SECOND in prompt else [0.3, 0.7]
    wanted = SECOND if HELPS in prompt.rpartition("Question:")[2] else FIRST
    among = prompt[: prompt.index(wanted)].count("\n\n[") if wanted in prompt else 1
    return [float(place == among - 1) for place in range(len(options))]


def flat(request: Request, text: str) -> float:
    return -60.0 + 40 * (FIRST in prompt_of(request) and SECOND in prompt_of(request))


def test_the_clarification_that_helps_is_kept_and_ends_the_rounds(shelf: Shelf) -> None:
    model = ScriptedModel(replies=asking(IDLE, HELPS), choices=points, likelihoods=flat)
    answer, model, events = run(Clarify(paragraph_tokens=120, index="bm25", points=1), shelf, ASKED, model)
    assert "Ann Weller" in answer.answer and not answer.abstained
    assert {item.quote for item in answer.evidence} <= {FIRST, SECOND} and answer.evidence
    assert sum(event.stage == "clarify" for event in events) == 1, "the second round was not needed"
    assert answer.coverage.read == answer.coverage.tokens


def test_every_prompt_over_the_context_begins_with_it(shelf: Shelf) -> None:
    model = ScriptedModel(replies=asking(HELPS), choices=points, likelihoods=flat)
    run(Clarify(paragraph_tokens=120, width=1), shelf, ASKED, model)
    whole = [prompt_of(call.request) for call in model.calls if prompt_of(call.request).count("\n\n[") > 8]
    context = whole[0].rpartition("\n\nQuestion:")[0]
    assert len(whole) == 3 and all(prompt.startswith(context) for prompt in whole)


def test_no_round_where_the_first_look_is_sure(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(f"It rained. {FIRST} {SECOND} Nobody saw it.")
    model = ScriptedModel(replies=asking(HELPS), choices=points, likelihoods=lambda *_: -1.0)
    _, model, events = run(Clarify(enough_above=0.3), shelve(tmp_path / "home", tmp_path / "one.txt"), ASKED, model)
    assert not [event for event in events if event.stage == "clarify"]


def test_what_only_repeats_the_question_is_not_asked(shelf: Shelf) -> None:
    again = "What is the name of the one that hid the brass key of the lighthouse?"
    model = ScriptedModel(replies=asking(again, "Ann hid it."), choices=points, likelihoods=flat)
    _, model, events = run(Clarify(paragraph_tokens=120), shelf, ASKED, model)
    assert [event.note for event in events if event.stage == "clarify"] == [""]


def test_the_papers_form_points_by_written_numbers_and_answers_from_the_context(shelf: Shelf) -> None:
    flow = Clarify(
        paragraph_tokens=120, width=1, depth=1, enough_above=None, point="written", read="context", abstain_below=0
    )
    model = ScriptedModel(replies=asking(HELPS), choices=points, likelihoods=flat)
    answer, model, events = run(flow, shelf, ASKED, model)
    asked = [call for call in model.calls if call.kind == "complete"]
    assert len(asked) == 5 and "The passages that matter: [2], [4]" in prompt_of(asked[3].request)
    assert all(prompt_of(call.request).count("\n\n[") > 8 for call in asked)
    assert f"- {HELPS} Ann Weller." in prompt_of(asked[-1].request)
    assert answer.answer == "Ann Weller." and sum(event.stage == "clarify" for event in events) == 1


def test_a_text_that_does_not_fit_is_represented_by_what_is_found(shelf: Shelf) -> None:
    model = ScriptedModel(replies=asking(HELPS), choices=points, likelihoods=flat)
    answer, _, _ = run(Clarify(context_tokens=600, paragraph_tokens=120), shelf, ASKED, model)
    assert 0 < answer.coverage.retrieved <= 600 and answer.coverage.unread > 0 and answer.coverage.read == 0
    with pytest.raises(PromptTooLongError, match="context_tokens"):
        run(Clarify(context_tokens=3), shelf, ASKED)


def test_a_budget_ends_the_rounds_with_an_answer(shelf: Shelf) -> None:
    model = ScriptedModel(replies=asking(HELPS, IDLE), choices=points, likelihoods=flat)
    services = Services(model, shelf, RunLog(), budget=Budget(Limits(calls=9)))
    answer = Clarify(paragraph_tokens=120, abstain_below=0).run(ASKED, services)
    assert answer.stopped == "max_calls=9" and answer.usage.calls <= 9
    assert answer.coverage.read == answer.coverage.tokens and not answer.abstained


@pytest.mark.parametrize("tokens", [100, 1800, 2900])
@pytest.mark.parametrize("read", ["pointed", "context"])
def test_what_no_prompt_held_is_not_read(shelf: Shelf, tokens: int, read: Literal["pointed", "context"]) -> None:
    model = ScriptedModel(replies=asking(HELPS, IDLE), choices=points, likelihoods=flat)
    services = Services(model, shelf, RunLog(), budget=Budget(Limits(tokens=tokens)))
    answer = Clarify(paragraph_tokens=120, read=read).run(ASKED, services)
    assert answer.stopped == f"max_tokens={tokens}"
    assert answer.coverage.read <= answer.usage.prompt_tokens


def test_source_code_is_counted_as_it_is_shown(tmp_path: Path) -> None:
    signature = ", ".join(f"lamp_number_{number}" for number in range(60))
    lines = "\n".join(f"        self.lamp_number_{number} = {number}" for number in range(60))
    defined = "\n\n".join(f"    def light_{number}(self, {signature}):\n{lines}" for number in range(4))
    (tmp_path / "lamps.py").write_text(f"class Lamps:\n{defined}\n")
    shelf = shelve(tmp_path / "home", tmp_path / "lamps.py")
    model = ScriptedModel(replies=asking(HELPS), choices=points, likelihoods=flat)
    services = Services(model, shelf, RunLog())
    bare, headed = sum(shelf.count_tokens(model).values()), sum(shown_tokens(services, shelf.chunk_ids()).values())
    assert bare + 800 < headed
    answer = Clarify(context_tokens=bare + 50).run(Question("What does light_3 do?"), services)
    assert 0 < answer.coverage.retrieved < answer.coverage.tokens
    assert max(model.count_tokens([prompt_of(call.request) for call in model.calls])) < bare + 200


def test_works_without_logits(shelf: Shelf) -> None:
    model = ScriptedModel(replies=asking(HELPS), choices=points)
    model.capabilities = frozenset({"schema"})
    answer, model, _ = run(Clarify(paragraph_tokens=120, index="bm25", points=1), shelf, ASKED, model)
    assert "Ann Weller" in answer.answer and {call.kind for call in model.calls} == {"choose", "complete"}


@pytest.mark.parametrize("option", ["context_tokens", "paragraph_tokens", "width", "depth", "points"])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        Clarify(**{option: 0})
