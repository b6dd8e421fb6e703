"""Every workflow in the catalogue: evidence is in the source, coverage sums, every call is counted, runs are logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough import catalogue
from readthrough.agents.base import Question
from readthrough.agents.runs.services import Services
from readthrough.errors import ModelError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve, write_book

WORKFLOWS = catalogue.names("workflows")


@pytest.fixture(params=WORKFLOWS)
def workflow(request):
    return catalogue.find("workflows", request.param)()


def test_answers_with_quotes_from_the_source(workflow, tmp_path: Path) -> None:
    path = write_book(tmp_path / "books")
    answer, _, _ = run(workflow, shelve(tmp_path / "home", path), Question(QUESTION))
    assert "Ann Weller" in answer.answer and not answer.abstained
    assert answer.evidence
    text = path.read_text(encoding="utf-8")
    for item in answer.evidence:
        assert text[item.start : item.end] == item.quote and item.verified
        assert item.line == text.count("\n", 0, item.start) + 1
    assert any("Ann Weller" in item.quote for item in answer.evidence)


def test_coverage_sums_to_the_tokens_of_the_documents(workflow, tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    answer, model, _ = run(workflow, shelf, Question(QUESTION))
    assert answer.coverage.tokens == sum(shelf.count_tokens(model).values()) > 0


def test_counts_every_call_and_token(workflow, tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    answer, model, _ = run(workflow, shelf, Question(QUESTION))
    assert answer.usage.calls == len(model.calls) > 0
    assert answer.usage.prompt_tokens == sum(call.result.usage.prompt_tokens for call in model.calls)
    assert answer.usage.seconds > 0


def test_multiple_choice_answers_with_an_option(workflow, tmp_path: Path) -> None:
    options = ("Bob Marsh", "Ann Weller", "nobody")
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))

    def picks_ann(request, given):
        lines = request.messages[-1].content.splitlines()
        letters = [line[0] for line in lines if line.endswith(". Ann Weller")]
        return letters[0] if letters and letters[0] in given else decides(request, given)

    model = ScriptedModel(replies=says_what_it_reads, choices=picks_ann)
    answer, _, _ = run(workflow, shelf, Question(QUESTION, options), model)
    assert answer.answer == "Ann Weller" and answer.choices == options
    assert answer.confidence is not None and answer.confidence > 0.8


def test_the_same_run_twice_gives_the_same_answer(workflow, tmp_path: Path) -> None:
    path = write_book(tmp_path / "books")
    homes = (tmp_path / "home", tmp_path / "another home")  # what a workflow keeps in one would make the next quicker
    first, again = (run(workflow, shelve(home, path), Question(QUESTION))[0].to_dict() for home in homes)
    for answer in (first, again):
        answer.pop("run"), answer["usage"].pop("seconds")
    assert first == again


def test_a_run_is_logged_with_its_answer(workflow, tmp_path: Path) -> None:
    shelf, runs = shelve(tmp_path / "home", write_book(tmp_path / "books")), RunLog(tmp_path / "runs.sqlite")
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    answer = workflow.run(Question(QUESTION), Services(model=model, shelf=shelf, runs=runs))
    assert RunLog(tmp_path / "runs.sqlite").answer(answer.run) == answer.to_dict()


def test_a_fault_of_the_model_reaches_the_caller_and_stores_no_answer(workflow, tmp_path: Path) -> None:
    shelf, runs = shelve(tmp_path / "home", write_book(tmp_path / "books")), RunLog()
    model = ScriptedModel(replies=says_what_it_reads, choices=decides, faults={0: ModelError("out of order")})
    services = Services(model=model, shelf=shelf, runs=runs)
    with pytest.raises(ModelError, match="out of order"):
        workflow.run(Question(QUESTION), services)
    assert runs.answer(services.run) is None


def test_a_text_of_one_line_is_enough(workflow, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("The brass key was hidden by Ann Weller.")
    answer, _, _ = run(workflow, shelve(tmp_path / "home", tmp_path / "one.txt"), Question(QUESTION))
    assert "Ann Weller" in answer.answer
    assert answer.evidence[0].quote == "The brass key was hidden by Ann Weller."


@pytest.mark.parametrize("choices", [("only one",), ("a", " "), tuple("abcdefghijklmnopqrstuvwxyzA")])
def test_choices_that_are_no_choice_are_refused(choices: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        Question(QUESTION, choices)
