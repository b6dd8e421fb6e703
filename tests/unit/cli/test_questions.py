from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.cli.questions import gather
from readthrough.errors import InputError, MissingPathError, ReadthroughError, UsageError
from readthrough.questions import Asked, read_questions


def test_first_word_is_the_question() -> None:
    questions, paths = gather(["who?", "a.txt", "b"], ["when?"], [], None)
    assert questions == [Asked("who?"), Asked("when?")]
    assert paths == ["a.txt", "b"]


def test_a_path_is_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("Ann keeps the light.")
    assert gather(["a.txt"], ["who?", "when?"], [], None) == ([Asked("who?"), Asked("when?")], ["a.txt"])
    with pytest.raises(UsageError, match="no question about a.txt"):
        gather(["a.txt"], [], [], None)
    assert gather(["who? " * 100, "a.txt"], [], [], None)[1] == ["a.txt"]


def test_choices_belong_to_one_question() -> None:
    assert gather(["who?"], [], ["a", "b"], None)[0] == [Asked("who?", ("a", "b"))]
    with pytest.raises(UsageError, match="one question"):
        gather(["who?"], ["when?"], ["a", "b"], None)


@pytest.mark.parametrize(
    ("words", "more", "message"), [([], [], "no question"), ([" \n"], [], "empty"), (["a"], [""], "empty")]
)
def test_without_a_question(words: list[str], more: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gather(words, more, [], None)


def test_with_a_file_all_words_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("who?\n\n  when?  \n")
    questions, paths = gather(["a.txt"], ["why?"], [], path)
    assert [question.text for question in questions] == ["who?", "when?", "why?"]
    assert paths == ["a.txt"]


@pytest.mark.parametrize(
    "text",
    [
        '["who?", {"question": "which?", "choices": ["a", "b"]}]',
        'who?\n{"question": "which?", "choices": ["a", "b"]}\n',
        '\ufeff{"question": "who?"}\n{"question": "which?", "choices": ["a", "b"]}',
    ],
)
def test_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "questions"
    path.write_text(text, encoding="utf-8")
    assert read_questions(path) == [Asked("who?"), Asked("which?", ("a", "b"))]


@pytest.mark.parametrize(
    ("data", "kind", "where"),
    [
        (b"", InputError, "questions"),
        (b"\n \n", InputError, "questions"),
        (b"[]", InputError, "questions"),
        (b'["who?", 3]', InputError, "questions: question 2"),
        (b'["who?", ', InputError, "questions"),
        (b'who?\n{"question": 1}', InputError, "questions:2"),
        (b'{"question": "who?", "choces": []}', InputError, "questions:1"),
        (b'{"question": "who?", "choices": "ab"}', InputError, "questions:1"),
        (b"\xff\xfe", InputError, "questions"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, data: bytes, kind: type[ReadthroughError], where: str) -> None:
    path = tmp_path / "questions"
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        read_questions(path)
    assert caught.value.path == str(tmp_path / where)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        read_questions(tmp_path / "none")
