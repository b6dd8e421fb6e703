from __future__ import annotations

from pathlib import Path

from readthrough.agents.base import Question
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import FACT, QUESTION, decides, run, says_what_it_reads, shelve, write_book


def test_reads_no_more_than_its_budget(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    answer, _, _ = run(Retrieve(passage_tokens=300), shelf, Question(QUESTION))
    assert 0 < answer.coverage.retrieved <= 300
    assert answer.coverage.unread > 0


def test_abstains_when_the_passages_do_not_say(tmp_path: Path) -> None:
    path = write_book(tmp_path / "books", fact="Nobody knows where the letters went.")
    question = Question("Which comet did the astronomer Tycho Brahe measure in 1577?")
    answer, _, events = run(Retrieve(), shelve(tmp_path / "home", path), question)
    assert answer.abstained and not answer.evidence
    assert "weigh" in {event.stage for event in events}  # it looked deeper before it gave up
    assert answer.coverage.skipped > 0


def test_a_question_for_the_words_themselves_is_answered_by_a_quote(tmp_path: Path) -> None:
    path = write_book(tmp_path / "books")
    question = Question("Quote the sentence that says who hid the brass key of the lighthouse.")
    answer, model, _ = run(Retrieve(), shelve(tmp_path / "home", path), question)
    assert answer.answer == FACT == answer.evidence[0].quote
    assert all(call.kind != "complete" for call in model.calls)  # nothing was written by the model


def test_a_model_without_logits_is_asked_in_words(tmp_path: Path) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    model.capabilities = frozenset({"stream"})
    answer, model, _ = run(
        Retrieve(), shelve(tmp_path / "home", write_book(tmp_path / "books")), Question(QUESTION), model
    )
    assert "Ann Weller" in answer.answer
    assert {call.kind for call in model.calls} == {"choose", "complete"}


def test_a_named_section_is_where_it_looks(tmp_path: Path) -> None:
    path = tmp_path / "tales.md"
    body = "\n\n".join(f"The captain of ship {number} drank tea at noon." for number in range(40))
    path.write_text(
        f"# The Storm\n\nThe captain was Ann Weller.\n\n# The Calm\n\nThe captain was Bob Marsh.\n\n{body}\n"
    )
    shelf = shelve(tmp_path / "home", path)
    answer, _, _ = run(Retrieve(), shelf, Question('In the story "The Storm", who was the captain?'))
    assert [item.section for item in answer.evidence] == ["The Storm"]
    assert answer.coverage.retrieved < answer.coverage.tokens / 2
