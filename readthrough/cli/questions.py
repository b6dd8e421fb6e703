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
    """The questions and the paths: the first word is a question, unless a file brings the questions, or `more` does and
    that word is a path.

    Raises:
        UsageError: there is no question, or only a path in its place; one is empty, or choices for more than one.
        InputError: the file of questions cannot be read.
    """
    asked = [] if file is None else read_questions(file)
    paths = list(words)
    if file is None:
        if not paths:
            raise UsageError("there is no question", hint=EXAMPLE)
        if not _is_path(paths[0]):
            asked.append(Asked(paths.pop(0)))
        elif not more:
            raise UsageError(f"there is no question about {paths[0]}", hint=EXAMPLE)
    asked += [Asked(text) for text in more]
    if any(not question.text.strip() for question in asked):
        raise UsageError("the question is empty", hint=EXAMPLE)
    if choices:
        if len(asked) > 1:
            raise UsageError("--choice is for one question", hint='several: --questions FILE with "choices" in JSON')
        asked = [Asked(asked[0].text, tuple(choices))]
    return asked, paths


def _is_path(word: str) -> bool:
    try:
        return bool(word.strip()) and Path(word).exists()
    except OSError:  # too long for a name
        return False
