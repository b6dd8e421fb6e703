"""The questions of one `ask`: from the command line, or from a file of lines or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from readthrough.errors import UsageError
from readthrough.questions import Asked, read_questions

EXAMPLE = 'readthrough ask "Who is the keeper?" book.txt'


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
