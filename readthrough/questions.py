"""Questions from a file: lines, or JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readthrough.errors import InputError, MissingPathError


@dataclass(frozen=True)
class Asked:
    """One question, and its choices where it is multiple choice."""

    text: str
    choices: tuple[str, ...] | None = None


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
        found = [asked(value, f"{path}: question {number}") for number, value in enumerate(values, 1)]
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        found = [_line(line, f"{path}:{number}") for number, line in lines]
    if not found:
        raise InputError("there is no question in the file", path=str(path))
    return found


def _line(line: str, where: str) -> Asked:
    return asked(_json(line, where), where) if line.startswith("{") else Asked(line)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", path=where) from error


def asked(value: object, where: str) -> Asked:
    """One question: a string or `{"question": ..., "choices": [...]}`.

    Raises:
        InputError: it is neither; `where` is its `path`.
    """
    if isinstance(value, str):
        return Asked(value)
    if isinstance(value, dict) and isinstance(value.get("question"), str) and value.keys() <= {"question", "choices"}:
        choices = value.get("choices")
        if choices is None:
            return Asked(value["question"])
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            return Asked(value["question"], tuple(choices))
    raise InputError("is not a question", path=where, hint='write "..." or {"question": "...", "choices": ["..."]}')
