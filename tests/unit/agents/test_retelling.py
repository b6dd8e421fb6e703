"""A plot is told from the whole section, part by part, each sentence with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.queries import wants_explanation, wants_retelling
from readthrough.agents.reading.retelling import PART_TOKENS, PART_WORDS_MIN
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.documents.sentences import sentence_spans
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import run
from tests.library_samples import open_library, story

PLOT = Question('In the story "The Storm", what is the plot? Answer in about 300 words.')


def first_words(request: Request) -> str:
    """Retells a text by its first sentence and its last."""
    lines = request.messages[-1].content.partition("\n\nSummarize the text")[0].split("\n\n")
    lines = [line for line in lines if not line.startswith("#")]
    return f"{lines[0]} {lines[-1]}"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    path = tmp_path / "tales.md"
    path.write_text(f"# The Storm\n\n{story(1, 60)}\n\n# The Calm\n\n{story(2, 60)}\n", encoding="utf-8")
    return open_library(tmp_path / "home").shelve([path])


def test_the_section_is_told_to_its_end(shelf: Shelf) -> None:
    answer, model, events = run(Retrieve(), shelf, PLOT, ScriptedModel(replies=first_words))
    calls = [call.request.messages[-1].content for call in model.calls]
    assert len(calls) > 2 and all("at most" in call for call in calls)
    assert "In part 0 of story 1" in answer.answer and "In part 59 of story 1" in answer.answer
    assert "story 2" not in "".join(calls)
    assert answer.coverage.retrieved == sum(
        shelf.count_tokens(model)[chunk.id]
        for chunk in shelf.get(shelf.chunk_ids())
        if shelf.document(chunk.document).section_at(chunk.start) == "The Storm"
    )
    assert [event.stage for event in events if event.stage == "find"] == []
    sentences = [answer.answer[start:end] for start, end in sentence_spans(answer.answer)]
    supported = {number: item for item in answer.evidence for number in item.supports}
    assert sorted(supported) == list(range(len(sentences)))
    own = [supported[number].quote.split()[:8] == text.split()[:8] for number, text in enumerate(sentences)]
    assert sum(own) >= len(own) - 1, "made-up sentences share nearly all of their words"


def test_parts_that_end_without_a_full_stop_stay_sentences_of_their_own(shelf: Shelf) -> None:
    def beginnings(request: Request) -> str:
        lines = first_words(request).split("In part ")
        return f"In part {' '.join(lines[1].split()[:8])}. In part {' '.join(lines[-1].split()[:8])}"

    answer, model, _ = run(Retrieve(), shelf, PLOT, ScriptedModel(replies=beginnings))
    said = [answer.answer[start:end] for start, end in sentence_spans(answer.answer)]
    assert len(said) == 2 * len(model.calls), "two sentences a part"
    supported = {number: item.quote for item in answer.evidence for number in item.supports}
    assert [supported[number].split()[:6] for number in range(len(said))] == [text.split()[:6] for text in said]


def test_what_it_takes_is_said_before(shelf: Shelf) -> None:
    services = Services(model=ScriptedModel(replies=first_words), shelf=shelf, runs=RunLog())
    cost = Retrieve().estimate(PLOT, services)
    answer, *_ = run(Retrieve(), shelf, PLOT, ScriptedModel(replies=first_words))
    assert cost.calls == answer.usage.calls
    assert cost.prompt_tokens == pytest.approx(answer.usage.prompt_tokens, rel=0.1)
    assert PART_WORDS_MIN * cost.calls < 400 and PART_TOKENS * cost.calls > cost.prompt_tokens / 2


def test_what_is_heard_is_the_answer(shelf: Shelf) -> None:
    heard: list[str] = []
    services = Services(model=ScriptedModel(replies=first_words), shelf=shelf, runs=RunLog(), on_text=heard.append)
    assert Retrieve().run(PLOT, services).answer == "".join(heard)


def test_a_longer_text_is_answered_from_passages(shelf: Shelf) -> None:
    model = ScriptedModel(
        replies=lambda request: "A storm.", choices=lambda request, options: [1.0, *[0.0] * (len(options) - 1)]
    )
    answer, *_ = run(Retrieve(whole_tokens=500), shelf, PLOT, model)
    assert answer.answer == "A storm." and answer.coverage.retrieved <= 700
    assert run(Retrieve(whole_tokens=0), shelf, PLOT, model)[0].answer == "A storm."


def test_a_model_that_says_nothing_is_a_refusal(shelf: Shelf) -> None:
    answer, *_ = run(Retrieve(), shelf, PLOT, ScriptedModel(replies=lambda request: " "))
    assert answer.abstained and not answer.evidence


@pytest.mark.parametrize(
    "question",
    [
        "What is the plot of the story?",
        "Summarize the story.",
        "What happens in this book?",
        "what is the novel about?",
    ],
)
def test_questions_for_a_whole_text(question: str) -> None:
    assert wants_retelling(question)


@pytest.mark.parametrize(
    "question",
    ["What was hidden in the garden plot of Mr Weller's house?", "What is the contract's term?", "Who was he?"],
)
def test_other_questions(question: str) -> None:
    assert not wants_retelling(question)


@pytest.mark.parametrize(
    ("question", "explains"),
    [
        ("What was the debate over the situation of long-term care?", True),
        ("What did the opposition party comment about layoffs?", True),
        ("What did the project manager think of the new remote?", True),
        ("What did the novices hold aloft?", False),
        ("During a debate at the club, which city did he name?", False),
        ("Who said it?", False),
    ],
)
def test_questions_that_want_sentences(question: str, explains: bool) -> None:
    assert wants_explanation(question) is explains
