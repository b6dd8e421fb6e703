"""Prompts that are replaced: for one run, with the same places, and without reaching into values."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.prompts import Prompt, check, prompts_of, replaced, replacements
from readthrough.agents.workflows.chain_of_agents import WORKER, ChainOfAgents
from readthrough.errors import ConfigError, UnknownNameError
from readthrough.models.scripted import ScriptedModel
from tests.agent_samples import QUESTION, decides, run, says_what_it_reads, shelve, write_book

HELLO = Prompt("Hello {name}, {greeting}")


def test_a_prompt_is_replaced_while_it_lasts_and_not_after() -> None:
    with replaced({HELLO: "{greeting} {name}"}):
        assert HELLO.format(name="Ann", greeting="good day") == "good day Ann"
        with replaced({}):
            assert HELLO.format(name="Ann", greeting="good day") == "good day Ann"
    assert HELLO.format(name="Ann", greeting="good day") == "Hello Ann, good day"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name}", "leaves out {greeting}"),
        ("{name} {greeting} {nam}", "no place {nam}"),
        ("{name} {greeting.__class__}", "not a place"),
        ("{name} {greeting[0]}", "not a place"),
        ("{name!r} {greeting}", "not a place"),
        ("{name:>10} {greeting}", "not a place"),
        ("{} {name} {greeting}", "not a place"),
        ("{name} {greeting", "brace"),
        ("{name} {greeting} }", "brace"),
    ],
)
def test_texts_that_cannot_stand_in(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(text, HELLO)


def test_braces_may_be_meant_as_such() -> None:
    check("{name} {greeting} {{kept}}", HELLO)


def test_prompts_are_found_by_their_names() -> None:
    known = prompts_of(ChainOfAgents())
    assert known["worker"] == WORKER
    assert {"manager", "short-answer", "explanation", "multiple-choice"} <= set(known)


def test_unknown_prompts_are_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'worker'"):
        replacements(ChainOfAgents(prompts={"workr": "x"}))
    with pytest.raises(ConfigError, match=r"prompts.worker.*leaves out"):
        replacements(ChainOfAgents(prompts={"worker": "x"}))


def test_a_workflow_says_what_it_was_told_to_say(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books"))
    flow = ChainOfAgents(
        window_tokens=900,
        message_tokens=40,
        prompts={"worker": "MINE {chunk} {message} {question}", "short-answer": "SHORT {material} {question}"},
    )
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    answer, model, _ = run(flow, shelf, Question(QUESTION), model)
    said = [call.request.messages[-1].content for call in model.calls if call.kind == "complete"]
    assert len(said) > 2
    assert all(text.startswith("MINE ") for text in said[:-1])
    assert said[-1].startswith("SHORT ")
    assert "Ann Weller" in answer.answer
