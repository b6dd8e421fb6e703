"""The small real model answers about a long real text, in process, through the Python interface."""

from __future__ import annotations

import asyncio
from pathlib import Path
from pydoc_data.topics import topics

import pytest

import readthrough as rt

FACT = "The brass key of the lighthouse was hidden under the third stair by Ann Weller."
QUESTION = "Who hid the brass key of the lighthouse?"


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chapter of Python's own reference of about 3,500 tokens, with one foreign sentence in the middle."""
    text = "\n\n".join(str(topics[name]) for name in sorted(topics))[:14_000]
    middle = text.index("\n\n", len(text) // 2)
    path = tmp_path_factory.mktemp("books") / "manual.txt"
    path.write_text(f"{text[:middle]}\n\n{FACT}{text[middle:]}", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def book(manual: Path, small_model, tmp_path_factory: pytest.TempPathFactory):
    with rt.read(manual, model=small_model, home=tmp_path_factory.mktemp("home")) as opened:
        yield opened


def check_evidence(answer, text: str) -> None:
    assert answer.evidence
    for item in answer.evidence:
        assert text[item.start : item.end] == item.quote
        assert item.line == text.count("\n", 0, item.start) + 1


def test_retrieve_finds_the_sentence(book, manual: Path) -> None:
    answer = book.ask(QUESTION)
    assert "Ann Weller" in answer.answer
    check_evidence(answer, manual.read_text(encoding="utf-8"))
    assert FACT in [item.quote for item in answer.evidence]
    assert 0 < answer.coverage.retrieved < answer.coverage.tokens
    assert sum(book.model.count_tokens([manual.read_text(encoding="utf-8")])) == pytest.approx(
        answer.coverage.tokens, rel=0.05
    )


def test_a_question_that_the_text_does_not_answer_is_refused(book) -> None:
    answer = book.ask("Which comet did Tycho Brahe measure over the island of Hven in 1577?")
    assert answer.abstained and not answer.evidence


def test_multiple_choice_takes_an_option(book) -> None:
    answer = book.ask(QUESTION, choices=["Bob Marsh", "Ann Weller", "Carl Stone"])
    assert answer.answer == "Ann Weller"
    assert 1 / 3 < answer.confidence <= 1


def test_asking_inside_a_running_loop(book) -> None:
    async def both():
        return book.ask(QUESTION), await book.aask(QUESTION)

    one, other = asyncio.run(both())
    assert one.answer == other.answer


def test_chain_of_agents_reads_every_token_of_the_text(book, manual: Path) -> None:
    answer = book.ask(QUESTION, workflow="chain-of-agents", window_tokens=1536, message_tokens=64)
    assert answer.coverage.read == answer.coverage.tokens > 3_000
    assert answer.usage.calls > 3
    assert answer.usage.prompt_tokens > answer.coverage.tokens
    check_evidence(answer, manual.read_text(encoding="utf-8"))
