"""Prompts that a user may replace: constants of the type `Prompt`, found by their name in lower case.

A replacement holds for one run (`replaced`), in the thread and the graph that run it, and for no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from string import Formatter
from types import MappingProxyType
from typing import TYPE_CHECKING

from readthrough.catalogue import unknown
from readthrough.errors import ConfigError

if TYPE_CHECKING:
    from readthrough.agents.base import Workflow

TEMPLATE_TOKENS = 64
"""What the chat template takes around a prompt, leaning upwards."""

_QUESTION_STEP_TOKENS = 64

_REPLACED: ContextVar[Mapping[str, str]] = ContextVar("readthrough_prompts", default=MappingProxyType({}))
_SHARED = "readthrough.agents.reading.answering"


class Prompt(str):
    """A prompt with places to fill in, `{question}`; `format` fills in the text that replaces it, where one does."""

    __slots__ = ()

    def format(self, *args: object, **values: object) -> str:
        """The prompt with its places filled in."""
        return str.format(_REPLACED.get().get(self, self), *args, **values)


def held_tokens(question_tokens: int) -> int:
    """What is held free for a question of so many tokens: more, so that texts are cut alike for nearly all questions,
    and what was computed of a window for one is there for the others."""
    return -(-question_tokens // _QUESTION_STEP_TOKENS) * _QUESTION_STEP_TOKENS


@contextmanager
def replaced(texts: Mapping[str, str]) -> Iterator[None]:
    """While it lasts, prompts are replaced: `texts` maps the text of each to its replacement."""
    token = _REPLACED.set({**_REPLACED.get(), **texts})
    try:
        yield
    finally:
        _REPLACED.reset(token)


def check(text: str, original: str) -> None:
    """Whether `text` can stand in for `original`: the same places are filled in, and nothing else is.

    Raises:
        ValueError: a place is missing, unknown, or more than a name; the message says which.
    """
    wanted, found = _places(original), _places(text)
    for place in sorted(found - wanted):
        raise ValueError(f"the prompt has no place {{{place}}} to fill in; it has {_shown(wanted)}")
    for place in sorted(wanted - found):
        raise ValueError(f"the prompt leaves out {{{place}}}: what stands there would not be read")


def prompts_of(workflow: Workflow) -> dict[str, Prompt]:
    """The prompts of a workflow by name: those of its own modules, and the last step's that all workflows share."""
    modules = [sys.modules[module] for module in (*workflow.sources(), _SHARED)]
    return {
        name.lower().replace("_", "-"): value
        for module in reversed(modules)
        for name, value in vars(module).items()
        if isinstance(value, Prompt)
    }


def replacements(workflow: Workflow) -> dict[str, str]:
    """What `replaced` takes for the workflow's option `prompts`.

    Raises:
        UnknownNameError: the workflow has no prompt of that name.
        ConfigError: a text cannot stand in for the prompt.
    """
    known = prompts_of(workflow)
    texts: dict[str, str] = {}
    for name, text in workflow.prompts.items():
        if name not in known:
            raise unknown(f"prompt of {workflow.name}", name, list(known))
        try:
            check(text, known[name])
        except ValueError as error:
            raise ConfigError(f"prompts.{name}: {error}") from error
        texts[known[name]] = text
    return texts


def _places(text: str) -> frozenset[str]:
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{error}; a brace that is meant as such is written twice") from None
    for _, name, form, conversion in fields:
        # `{question.text}` or `{0!r}` would reach into values: a place is a name.
        if not str(name).isidentifier() or form or conversion:
            raise ValueError(f"{{{name}}} is not a place to fill in; braces that are meant as such are written twice")
    return frozenset(str(name) for _, name, _, _ in fields)


def _shown(places: frozenset[str]) -> str:
    return ", ".join(f"{{{place}}}" for place in sorted(places)) or "none"
