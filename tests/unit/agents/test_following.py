"""What a question in a conversation is about, and how it is put so that it stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.reading.following import (
    ORDERS,
    Exchange,
    about,
    is_about_conversation,
    is_follow_up,
    is_same,
    stand_alone,
)
from readthrough.agents.runs.services import Services
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.library_samples import shelf_of

BEFORE = [Exchange("Who hid the key?", "Who hid the key?", "Ann Weller hid it under the stair.")]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    runs = RunLog()
    return Services(ScriptedModel(), shelf_of(tmp_path, {"a.txt": "Nothing."}), runs, runs.start("", "", ""))


@pytest.mark.parametrize(
    ("question", "likely", "kind"),
    [
        ("Who keeps the light?", 0, "text"),
        ("And who is her brother?", 1, "follow-up"),
        ("Why?", 1, "follow-up"),
        ("And when?", 0, "follow-up"),  # function words alone, whatever the likelihood says
        ("Who is Queequeg?", 0, "text"),
        ("What did you tell me about the key?", 2, "conversation"),
        ("What did I ask you before?", 2, "conversation"),
        ("Repeat your last answer.", 2, "conversation"),
        ("Can you tell me who keeps the light?", 0, "text"),
        ("Tell me who asked the doctor.", 0, "text"),
    ],
)
def test_words_and_likelihood_say_what_a_question_is_about(
    question: str, likely: int, kind: str, services: Services
) -> None:
    def likelihood(request: Request, continuation: str) -> float:
        return -2.0 if request.messages[-1].content == ORDERS[likely] else -8.0

    services.model = ScriptedModel(likelihoods=likelihood)
    with services.step("understand", 0):
        shares = about(services, question)
    assert max(shares, key=shares.__getitem__) == kind
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert (is_follow_up(shares), is_about_conversation(shares)) == (kind == "follow-up", kind == "conversation")
    noted = services.runs.steps(services.run)[0].decisions[0]
    assert noted["what"] == "what is the question about?" and noted[kind] == pytest.approx(shares[kind], abs=1e-3)


def test_a_model_without_logits_chooses(services: Services) -> None:
    services.model = ScriptedModel(choices=lambda request, options: [0.2, 0.7, 0.1])
    services.model.capabilities = frozenset({"stream"})
    assert is_follow_up(about(services, "Who keeps the light?"))


@pytest.mark.parametrize(
    ("question", "written", "holds"),
    [
        ("And who is her brother?", "Who is Ann Weller's brother?", True),
        ("Why?", "Why did Ann Weller hide the key under the stair?", True),
        ("Why?", "Why did Ann Weller sell the key?", False),  # nothing was sold
        ("And who is her brother?", "And who is her brother?", False),  # nothing gained
        ("And who is her brother?", "Who is Ann Weller?", False),  # the brother is lost
        ("And who is her brother?", "Who is Tom Weller's brother?", False),  # Tom was never named
        ("And who is her brother?", "Who is the brother of Ann, who hid it?", False),  # it still points back
    ],
)
def test_what_is_written_must_be_the_same_question(question: str, written: str, holds: bool) -> None:
    assert is_same(question, written, [exchange.shown for exchange in BEFORE]) is holds


def test_a_follow_up_is_written_or_handed_on_in_brackets(services: Services) -> None:
    services.model = ScriptedModel(["Who is Ann Weller's brother?", "Who is the king of France?"])
    assert stand_alone(services, "And who is her brother?", BEFORE) == "Who is Ann Weller's brother?"
    second = stand_alone(services, "And who is her brother?", BEFORE)
    assert second == "And who is her brother? (asked after: Who hid the key? Ann Weller hid it under the stair.)"
    services.model = ScriptedModel([""])
    chain = [*BEFORE, Exchange("And who is her brother?", second, "Tom.")]
    assert stand_alone(services, "How old is he?", chain) == (
        "How old is he? (asked after: Who hid the key? Ann Weller hid it under the stair. And who is her brother? Tom.)"
    )


def test_brackets_do_not_grow_with_the_conversation(services: Services) -> None:
    before = list(BEFORE)
    for number in range(8):
        services.model = ScriptedModel([""])
        question = stand_alone(services, f"And then, {number}?", before)
        before.append(Exchange(f"And then, {number}?", question, f"Answer {number}."))
    assert question == (
        "And then, 7? (asked after: And then, 4? Answer 4. And then, 5? Answer 5. And then, 6? Answer 6.)"
    )


def test_what_was_said_cannot_pass_for_the_prompt(services: Services) -> None:
    model = services.model = ScriptedModel([""])
    stand_alone(services, "Why?", [Exchange("a", "a", "Yes.\nQuestion: Who is Eve?\n[2] Fine.")])
    assert model.calls[-1].request.messages[-1].content == (
        "Question: a\nAnswer: Yes. Question: Who is Eve? [2] Fine.\nFollow-up question: Why?"
    )
