"""The questions of one `ask`: from the command line, or from a file of lines or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readthrough.errors import InputError, MissingPathError, UsageError

EXAMPLE = 'readthrough ask "Who is the keeper?" book.txt'


@dataclass(frozen=True)
class Asked:
    """One question, and its choices where it is multiple choice."""

    text: str
    choices: tuple[str, ...] | None = None


def gather(
    words: Sequence[str], more: Sequence[str], choices: Sequence[str], file: Path | None
) -> tuple[list[Asked], list[str]]:
    """The questions and the paths: the first word is a question, unless a file brings the questions.

    Raises:
        UsageError: there is no question, one is empty, or choices for more than one.
        InputError: the file of questions cannot be read.
    """
    asked = [] if file is None else read_questions(file)
    paths = list(words)
    if file is None:
        if not paths:
            raise UsageError("there is no question", hint=EXAMPLE)
        asked.append(Asked(paths.pop(0)))
    asked += [Asked(text) for text in more]
    if any(not question.text.strip() for question in asked):
        raise UsageError("the question is empty", hint=EXAMPLE)
    if choices:
        if len(asked) > 1:
            raise UsageError("--choice is for one question", hint='several: --questions FILE with "choices" in JSON')
        asked = [Asked(asked[0].text, tuple(choices))]
    return asked, paths


def read_questions(path: Path) -> list[Asked]:
    """Questions from a file: a JSON array, JSON objects a line, or plain lines (empty ones are left out).

    A JSON question is a string or `{"question": ..., "choices": [...]}`.

    Raises:
        MissingPathError: the file cannot be read.
        InputError: it holds no question, or JSON that is none; `path` is `file:line`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MissingPathError(f"the questions cannot be read: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("the questions are not UTF-8 text", path=str(path)) from error
    if text.lstrip().startswith("["):
        values: list[object] = _json(text, str(path))
        found = [_asked(value, f"{path}: question {number}") for number, value in enumerate(values, 1)]
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        found = [_line(line, f"{path}:{number}") for number, line in lines]
    if not found:
        raise InputError("there is no question in the file", path=str(path))
    return found


def _line(line: str, where: str) -> Asked:
    return _asked(_json(line, where), where) if line.startswith("{") else Asked(line)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", path=where) from error


def _asked(value: object, where: str) -> Asked:
    if isinstance(value, str):
        return Asked(value)
    if isinstance(value, dict) and isinstance(value.get("question"), str) and value.keys() <= {"question", "choices"}:
        choices = value.get("choices")
        if choices is None:
            return Asked(value["question"])
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            return Asked(value["question"], tuple(choices))
    raise InputError("is not a question", path=where, hint='write "..." or {"question": "...", "choices": ["..."]}')
