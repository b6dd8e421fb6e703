"""Conversations in their file, and what was asked before, found again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from readthrough.errors import LibraryError, UsageError
from readthrough.memory.conversations import Conversations, Fact, Read, Turn
from readthrough.memory.recall import FOLDER, Recall
from readthrough.memory.runs import RunLog
from readthrough.types import Answer, Evidence
from tests.library_samples import HashingEmbedder

READ = Read(("book.txt",), "/home/ann", {"book.txt": "abc"})


def answered(turn: Turn, text: str) -> Turn:
    return Turn(
        turn.session, turn.number, turn.asked, turn.started, question=turn.asked, answer=Answer("", text).to_dict()
    )


def test_turns_and_facts_outlive_the_process(tmp_path: Path) -> None:
    log = Conversations(tmp_path / "home" / "conversations.sqlite")
    session = log.open("whale", READ)
    assert (session.name, session.turns, session.read) == ("whale", 0, READ)
    first, second = log.begin("whale", "Who?", READ), log.begin("whale", "Why?", READ)
    log.finish(answered(first, "Ann. Nobody else."), [Fact(0, 4, "abc", 10, 20), Fact(5, 17, "abc", 30, 40)])
    log.close()
    log = Conversations(tmp_path / "home" / "conversations.sqlite")
    turns = log.turns("whale")
    assert [(turn.number, turn.asked, turn.said) for turn in turns] == [
        (1, "Who?", "Ann. Nobody else."),
        (2, "Why?", ""),
    ]
    assert turns[1] == second and log.open("whale", Read()).turns == 2
    assert log.facts("whale", 1) == [Fact(0, 4, "abc", 10, 20), Fact(5, 17, "abc", 30, 40)]
    assert log.find("last").name == "whale"
    log.delete("whale")
    assert (log.sessions(), log.turns("whale"), log.facts("whale", 1)) == ([], [], [])
    with pytest.raises(UsageError, match="was deleted"):
        log.begin("whale", "Where?", READ)
    log.finish(answered(second, "Late."), [Fact(0, 5, "abc", 0, 1)])  # its answer came after it was deleted
    assert log.turns("whale") == []


def test_unknown_conversations(tmp_path: Path) -> None:
    log = Conversations(tmp_path / "conversations.sqlite")
    with pytest.raises(UsageError, match="no conversation is named 'last'"):
        log.find("last")
    log.open("whale", READ)
    with pytest.raises(UsageError, match="did you mean 'whale'"):
        log.find("whael")
    assert log.open(None, READ).name != log.open(None, READ).name


def test_what_is_no_file_of_conversations_says_so(tmp_path: Path) -> None:
    (tmp_path / "conversations.sqlite").write_bytes(b"not a database, but long enough to be looked at " * 50)
    with pytest.raises(LibraryError, match="the file of conversations cannot be used"):
        Conversations(tmp_path / "conversations.sqlite")


def test_numbers_are_given_once(tmp_path: Path) -> None:
    logs = [Conversations(tmp_path / "conversations.sqlite") for _ in range(4)]
    logs[0].open("whale", READ)

    def ask(log: Conversations) -> None:
        for _ in range(10):
            log.begin("whale", "Who?", READ)

    threads = [threading.Thread(target=ask, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [turn.number for turn in logs[0].turns("whale")] == list(range(1, 41))


def test_a_turn_is_a_document_whose_answer_can_be_found_in_it() -> None:
    turn = answered(Turn("whale", 3, "Who?", 0.0), "Ann. Nobody else.")
    document = turn.document
    start = document.text.index("Nobody")
    assert (document.path, document.kind) == ("chat:whale#3", "turn")
    assert turn.said[slice(*turn.span_in_answer(start, start + 6))] == "Nobody"
    assert turn.span_in_answer(0, 6) == (0, 0)
    assert document.id != answered(Turn("whale", 4, "Who?", 0.0), "Ann. Nobody else.").document.id
    assert Evidence.cut(document, start, start + 6).verified


@pytest.mark.parametrize("index", ["bm25", "hybrid"])
def test_runs_are_found_by_question_and_answer(tmp_path: Path, index: str) -> None:
    runs = RunLog()
    texts = [("Who keeps the lamp?", "Ann."), ("What did the storm break?", "The bell."), ("And the tide?", "High.")]
    for question, answer in texts:
        runs.finish(runs.start(question, "w", "m"), Answer(question, answer).to_dict())
    embedder = HashingEmbedder()
    recall = Recall(tmp_path, embedder, index)
    assert [run.question for run, _ in recall.search(runs.runs(), "lamp", 1)] == ["Who keeps the lamp?"]
    assert recall.search(runs.runs(), "bell", 3)[0][0].question == "What did the storm break?"
    before = embedder.embedded
    recall.search(runs.runs(), "bell", 3)
    assert embedder.embedded - before == (1 if index == "hybrid" else 0), "what is known is not embedded again"
    recall.close()


def test_what_is_deleted_is_forgotten(tmp_path: Path) -> None:
    runs = RunLog()
    kept, gone = (runs.start(question, "w", "m") for question in ("Who keeps the lamp?", "Whose secret is it?"))
    recall = Recall(tmp_path, HashingEmbedder(), "bm25")
    recall.search(runs.runs(), "lamp", 5)
    turns = [answered(Turn("whale", number, "Who?", 0.0), f"Said {number}.") for number in (1, 2)]
    recall.turns(turns)
    runs.delete([gone])
    recall.keep_runs(runs.runs())
    recall.keep_turns(turns[:1])
    held = {holding.id for holding in recall._library.list()}
    assert len(held) == 2 and turns[0].document.id in held
    assert [run.id for run, _ in recall.search(runs.runs(), "lamp", 5)] == [kept]
    assert (tmp_path / FOLDER).exists()
