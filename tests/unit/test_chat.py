"""Conversations in Python with real files, a real library, real graphs and a scripted model."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import readthrough as rt
from readthrough.agents.reading.following import ORDERS
from readthrough.errors import ConfigError, UsageError
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Event, Usage
from tests.home_samples import live_in, write_days

WHO = "Who keeps the light on the cliff?"
BROTHER = "And who is her brother?"
RECALL = "What did you tell me about the light?"
_PROCESSES = multiprocessing.get_context("forkserver")


def replies(request: Request) -> str:
    asked = request.messages[-1].content.rpartition("uestion: ")[2].partition("\n")[0]
    if "Follow-up question" in request.messages[-1].content:
        return "Who is Ann Weller's brother?" if asked == BROTHER else "Nothing."
    return "Tom Weller is her brother." if "brother" in asked else "Ann Weller keeps the light."


def choices(request: Request, options: Sequence[str]) -> list[float]:
    rest = len(options) - 1
    return [1 - 0.01 * rest, *[0.01] * rest]


def likelihoods(request: Request, question: str) -> float:
    """Questions are raised by any passage; which of the orders they were written to, is read off them."""
    prompt = request.messages[-1].content
    if prompt not in ORDERS:
        return -1.0 if prompt.strip() else -90.0
    kind = 2 if "you tell" in question else 1 if question.startswith("And") else 0
    return -10.0 if prompt == ORDERS[kind] else -40.0


def scripted(**given: Any) -> ScriptedModel:
    return ScriptedModel(**{"replies": replies, "choices": choices, "likelihoods": likelihoods, **given})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    said = ["Ann Weller keeps the light on the cliff.", "Her brother is Tom Weller, the smith."]
    return write_days(tmp_path / "texts" / "book.txt", 100, 50, said)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path, monkeypatch)


def test_a_follow_up_is_put_so_that_it_stands_alone(path: Path) -> None:
    events: list[Event] = []
    with rt.read(path, model=scripted(), on_event=events.append) as book, book.chat() as chat:
        first = chat.ask(WHO)
        second = chat.ask(BROTHER)
        assert (first.question, second.question) == (WHO, "Who is Ann Weller's brother?")
        assert second.answer == "Tom Weller is her brother."
        assert "brother is Tom Weller" in second.evidence[0].quote
        turn = chat.turns[1]
        assert (turn.asked, turn.question) == (BROTHER, second.question)
        assert turn.shares["follow-up"] > 0.5 and sum(turn.shares.values()) == pytest.approx(1, abs=1e-3)
        assert [event.note for event in events if event.stage == "asked as"] == [second.question]
        steps = book.runs.steps(second.run)
        assert steps[0].node == "understand" and steps[0].decisions[0]["follow-up"] > 0.5
        assert second.usage.calls == sum(step.usage.calls for step in steps) > first.usage.calls
        assert book.runs.find(second.run).answer == turn.answer == second.to_dict()


def test_a_question_that_stands_alone_is_found_in_the_log(path: Path) -> None:
    with rt.read(path, model=scripted()) as book:
        asked = book.ask(WHO)
        said: list[str] = []
        with book.chat() as chat:
            again = chat.ask(f" {WHO[:1].lower()}{WHO[1:-1]}  ", on_text=said.append)
            assert (again.run, again.answer, again.usage) == (asked.run, asked.answer, Usage())
            assert again.evidence == asked.evidence and said == [asked.answer]
            assert chat.turns[0].from_log and chat.latest is not None and chat.latest.from_log
            assert chat.ask("Who keeps the LIGHT on the cliff?").run != asked.run, "other letters, another question"
            assert chat.ask(WHO, workflow={"retrieve": {"k": 7}}).run != asked.run
            assert chat.ask(WHO, fresh=True).run != asked.run
            assert len(book.runs.runs()) == 4
        with book.chat() as chat:
            assert WHO in [run.question for run, _ in chat.similar("light keeper")]
            assert chat.turns == []


def test_an_edited_text_is_not_answered_from_the_log(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        first = chat.ask(WHO)
    path.write_text(path.read_text().replace("Ann Weller keeps", "Ann Weller, they say, keeps"))
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        assert chat.changed == (f"{path} was changed",) and chat.session.turns == 1
        assert chat.ask(WHO).run != first.run
        recalled = chat.ask(RECALL)
        assert {item.document for item in recalled.evidence} <= {"chat:whale#1", "chat:whale#2", str(path)}
        assert all("they say" in item.quote for item in recalled.evidence if item.document == str(path))
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        assert chat.changed == ()


def test_a_question_about_the_conversation_cites_the_turns(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        chat.ask(WHO)
        chat.ask(BROTHER)
        answer = chat.ask(RECALL)
        turns = {turn.document.path: turn.document for turn in chat.turns[:2]}
        cited = [item for item in answer.evidence if item.document in turns]
        assert cited[0].document == "chat:whale#1" and "Ann Weller keeps the light." in cited[0].quote
        for item in cited:
            assert item.verified and turns[item.document].text[item.start : item.end] == item.quote
        behind = [item for item in answer.evidence if item.document == str(path)]
        assert behind and all(book.text[item.start : item.end] == item.quote for item in behind)
        tokens = sum(book.model.count_tokens([document.text for document in turns.values()]))
        assert answer.coverage.tokens == pytest.approx(tokens, abs=4), "the tokens of the turns, not of the book"
        assert book.runs.find(answer.run).answer == answer.to_dict()


def test_a_quote_cannot_be_invented(path: Path) -> None:
    """Whatever the model says was said, what is cited was said."""
    lie = scripted(replies=lambda request: "I told you that Eve broke the bell in 1840.")
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        chat.ask(WHO)
    with rt.read(path, model=lie) as book, book.chat("whale") as chat:
        answer = chat.ask(RECALL)
        texts = {turn.document.path: turn.document.text for turn in chat.turns} | {str(path): book.text}
        assert answer.evidence
        assert all(texts[item.document][item.start : item.end] == item.quote for item in answer.evidence)
        assert not any("Eve" in item.quote for item in answer.evidence)


def test_what_the_conversation_does_not_say_is_asked_of_the_texts(path: Path) -> None:
    def unsure(request: Request, options: Sequence[str]) -> list[float]:
        if list(options) == ["Yes", "No"] and "Turn 1" in request.messages[-1].content:
            return [0.01, 0.99]
        return choices(request, options)

    def never(request: Request, question: str) -> float:
        return -90.0 if "Turn 1" in request.messages[-1].content else likelihoods(request, question)

    with rt.read(path, model=scripted(choices=unsure, likelihoods=never)) as book, book.chat() as chat:
        chat.ask(WHO)
        answer = chat.ask(RECALL)
        assert not answer.abstained and {item.document for item in answer.evidence} == {str(path)}
        refused = book.runs.runs()[1]
        assert refused.answer is not None and refused.answer["abstained"]
        assert answer.usage.calls > refused.answer["usage"]["calls"], "what asking the conversation took counts"


def test_an_interrupted_answer_goes_on(path: Path) -> None:
    model = scripted(faults={1: KeyboardInterrupt()})
    with rt.read(path, model=model) as book, book.chat() as chat:
        with pytest.raises(KeyboardInterrupt):
            chat.ask(WHO)
        assert chat.turns[0].answer is None
        run = book.runs.find("last").id
        answer = chat.again()
        assert (answer.run, answer.answer) == (run, "Ann Weller keeps the light.")
        assert [turn.answer is None for turn in chat.turns] == [True, False]
        assert chat.again().run != run, "what has its answer is asked anew"


def test_a_follow_up_is_asked_again_as_it_was(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat() as chat:
        with pytest.raises(UsageError, match="nothing was asked"):
            chat.again()
        chat.ask(WHO)
        first = chat.ask(BROTHER)
        again = chat.again()
        assert (again.question, again.answer) == (first.question, first.answer) and again.run != first.run
        assert [turn.asked for turn in chat.turns] == [WHO, BROTHER, BROTHER]


def test_a_budget_stops_a_turn_and_asking_again_goes_on(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat() as chat:
        cut = chat.ask(WHO, workflow="chain-of-agents", limits=rt.Limits(calls=3))
        assert cut.stopped == "max_calls=3"
        whole = chat.ask(WHO, workflow="chain-of-agents")
        assert (whole.run, whole.stopped) == (cut.run, None)
        assert chat.ask(BROTHER, limits=rt.Limits(calls=2)).stopped == "max_calls=2"


def test_older_turns_help_to_understand(path: Path) -> None:
    """A follow-up is written from the last turns and the older ones that fit it."""
    model = scripted()
    with rt.read(path, model=model) as book, book.chat() as chat:
        chat.ask("Who is the smith?")
        for day in range(6):
            chat.ask(f"How many baskets came back on day {day}?")
        chat.ask("And is the smith her brother?")
        prompt = next(call for call in reversed(model.calls) if "Follow-up" in call.request.messages[-1].content)
        shown = prompt.request.messages[-1].content
        assert shown.index("Who is the smith?") < shown.index("day 3") < shown.index("day 5")
        assert sum(f"day {day}?" in shown for day in range(6)) <= 4, "the last three, and of the older ones two"


def test_wrong_use(path: Path) -> None:
    with rt.read(path, model=scripted()) as book:
        with pytest.raises(UsageError, match="no conversation is named 'last'"):
            book.chat("last")
        with book.chat("whale") as chat:
            with pytest.raises(UsageError, match="empty"):
                chat.ask("  ")
            with pytest.raises(ConfigError, match="nonsense"):
                chat.ask(WHO, nonsense=1)
            assert chat.turns == []
        with book.chat("last") as chat:
            assert chat.session.name == "whale"


def test_answers_about_turns_take_json_and_back(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat() as chat:
        chat.ask(WHO)
        answer = chat.ask(RECALL)
        assert Answer.from_dict(answer.to_dict()) == answer


def _ask(path: Path, questions: Sequence[str], die: bool) -> None:
    def killed(request: Request, options: Sequence[str]) -> list[float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    home = path.parents[1] / "home"  # this process may have begun before the test, in another environment
    with rt.read(path, model=scripted(), home=home, index="bm25") as book, book.chat("whale") as chat:
        for question in questions:
            chat.ask(question)
    if die:
        deadly = scripted(choices=killed)
        with rt.read(path, model=deadly, home=home, index="bm25") as book, book.chat("whale") as chat:
            chat.ask("How many baskets came back on day 7?")


def start(path: Path, questions: Sequence[str], die: bool = False) -> Any:
    process = _PROCESSES.Process(target=_ask, args=(path, questions, die))
    process.start()
    return process


def test_a_killed_conversation_goes_on(path: Path) -> None:
    process = start(path, [WHO, BROTHER], die=True)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        assert [turn.said for turn in chat.turns] == ["Ann Weller keeps the light.", "Tom Weller is her brother.", ""]
        killed = book.runs.find("last")
        assert killed.state == "open"
        answer = chat.again()
        assert answer.run == killed.id and chat.turns[3].answer == answer.to_dict()
        assert chat.ask(BROTHER).question == "Who is Ann Weller's brother?"


def test_two_processes_in_one_conversation(path: Path) -> None:
    questions = [[f"How many baskets came back on day {day}?" for day in days] for days in ((1, 2, 3), (4, 5, 6))]
    processes = [start(path, some) for some in questions]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    with rt.read(path, model=scripted()) as book, book.chat("whale") as chat:
        turns = chat.turns
        assert [turn.number for turn in turns] == list(range(1, 7))
        assert sorted(turn.asked for turn in turns) == sorted(questions[0] + questions[1])
        assert all(turn.answer is not None for turn in turns)
        assert len({str((turn.answer or {})["run"]) for turn in turns}) == 6


def test_turns_that_know_more_than_the_position_are_passed_over(path: Path) -> None:
    """Nothing that was answered from later parts comes back by way of the conversation."""
    model = scripted()
    with rt.read(path, model=model) as book, book.chat("whale") as chat:
        chat.ask(WHO)
        asked = len(model.calls)
        chat.ask(BROTHER, as_of="30%")
        prompts = "".join(call.request.messages[-1].content for call in model.calls[asked:])
        assert "Ann Weller keeps" not in prompts
        chat.ask(WHO, as_of="60%")
        assert chat.ask(BROTHER, as_of="60%").question == "Who is Ann Weller's brother?"
        assert chat.ask(BROTHER, as_of="70%").question == "Who is Ann Weller's brother?"
    with rt.read(path, model=scripted(), as_of="60%") as book, book.chat("whale") as chat:
        assert chat.changed == ()
        recalled = chat.ask(RECALL)
        assert recalled.as_of is not None and recalled.evidence[0].document.startswith("chat:whale#")
        assert recalled.evidence[0].document not in ("chat:whale#1", "chat:whale#5")


def test_the_last_question_is_not_asked_again_with_what_may_not_be_known(path: Path) -> None:
    """Put anew, it held what was answered from the whole book."""
    model = scripted()
    with rt.read(path, model=model) as book, book.chat("whale") as chat:
        chat.ask(WHO)
        assert chat.ask(BROTHER).question == "Who is Ann Weller's brother?"
        asked = len(model.calls)
        assert chat.again(as_of="30%").question == BROTHER == chat.turns[2].question
        assert not any("Ann Weller" in call.request.messages[-1].content for call in model.calls[asked:])


def test_an_answer_from_the_log_is_one_of_the_same_limits(path: Path) -> None:
    with rt.read(path, model=scripted()) as book, book.chat() as chat:
        first = chat.ask(WHO)
        assert first.confidence is not None and first.confidence < 1
        assert chat.ask(WHO, limits=rt.Limits(abstain_below=first.confidence)).run == first.run
        higher = rt.Limits(abstain_below=first.confidence + 1e-4)
        refused = chat.ask(WHO, limits=higher)
        assert refused.abstained and refused.run != first.run
        assert chat.ask(WHO, limits=higher).run == refused.run
        again = chat.ask(WHO)
        assert again.answer == first.answer and again.run != refused.run
