"""Every workflow in the catalogue: evidence is in the source, coverage sums, every call is counted, runs are logged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough import catalogue
from readthrough.agents.base import Question
from readthrough.agents.runs.services import Services
from readthrough.agents.tracing.tracing import Tracing
from readthrough.errors import ModelError, PromptTooLongError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve, write_book
from tests.library_samples import open_library

WORKFLOWS = catalogue.names("workflows")
SHORT_NOTES = {
    "chain-of-agents": {"message_tokens": 100},
    "memory-agent": {"memory_tokens": 100, "gate_below": None},
}


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


def test_an_answer_is_traced_to_the_text_that_it_comes_from(workflow, tmp_path: Path) -> None:
    shelf, runs = shelve(tmp_path / "home", write_book(tmp_path / "books")), RunLog()
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    answer = workflow.run(Question(QUESTION), Services(model=model, shelf=shelf, runs=runs))
    services = Services(model=model, shelf=shelf, runs=runs)
    if workflow.name == "extract":  # a form has the evidence of its fields
        with pytest.raises(UsageError, match="does not say what its answer was written from"):
            Tracing().trace(services, runs.find(answer.run))
    else:
        trace = Tracing().trace(services, runs.find(answer.run))
        assert any("Ann Weller" in span.quote for span in trace.evidence)


def test_a_text_of_one_line_is_enough(workflow, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("The brass key was hidden by Ann Weller.")
    answer, _, _ = run(workflow, shelve(tmp_path / "home", tmp_path / "one.txt"), Question(QUESTION))
    assert "Ann Weller" in answer.answer
    assert answer.evidence[0].quote == "The brass key was hidden by Ann Weller."


def test_marks_in_a_text_do_not_overfill_a_prompt(workflow, tmp_path: Path) -> None:
    """Each line of this list of sources is quoted where it stands in a prompt, which takes tokens too."""
    path = tmp_path / "sources.txt"
    path.write_text("\n".join(f"[{number}] Weller: The light." for number in range(1000)) + "\n")
    model = ScriptedModel(replies=says_what_it_reads, choices=decides, window_tokens=4096)
    workflow = replace(workflow, **SHORT_NOTES.get(workflow.name, {}))
    services = Services(model=model, shelf=shelve(tmp_path / "home", path), runs=RunLog())
    if workflow.name == "full-context":
        with pytest.raises(PromptTooLongError):
            workflow.run(Question(QUESTION), services)
    else:
        assert workflow.run(Question(QUESTION), services).coverage.tokens > 4096


@pytest.mark.parametrize("choices", [("only one",), ("a", " "), tuple("abcdefghijklmnopqrstuvwxyzA")])
def test_choices_that_are_no_choice_are_refused(choices: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        Question(QUESTION, choices)


def test_nothing_after_a_position_is_read(workflow, tmp_path: Path) -> None:
    """Texts that end at a position hold no spoiler: not in a prompt, a note, the evidence or the ledger."""
    path = write_book(tmp_path / "books", 12)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n\n".join(["\nCHAPTER II", *["The brass key was hidden by Zebulon Quirk."] * 40]))
    before = path.read_text(encoding="utf-8").partition("\nCHAPTER II")[0]
    position = f"line {before.count(chr(10)) + 1}"
    library = open_library(tmp_path / "home")
    whole = library.shelve([path])
    shelf = library.as_of(whole, position)
    runs, model = RunLog(), ScriptedModel(replies=says_what_it_reads, choices=decides)
    services = Services(model=model, shelf=shelf, runs=runs)
    answer = workflow.run(Question(QUESTION), services)
    assert "Ann Weller" in answer.answer
    prompts = "\n".join(message.content for call in model.calls for message in call.request.messages)
    noted = "\n".join(runs.get(text) for step in runs.steps(answer.run) for text in step.texts)
    assert "Zebulon" not in prompts + noted + json.dumps(answer.to_dict())
    as_of = answer.as_of
    assert as_of is not None and as_of.position == position
    assert all(item.end <= as_of.end for item in answer.evidence)
    assert all(end <= as_of.end for step in runs.steps(answer.run) for _, _, end in step.spans)
    assert answer.coverage.unread >= as_of.unread_tokens > 0
    assert answer.coverage.tokens == sum(shelf.count_tokens(model).values()) + as_of.unread_tokens
    assert Answer.from_dict(answer.to_dict()) == answer
