"""A model that says what it is told to: for tests and demonstrations of a graph's logic, and for nothing else."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from readthrough.errors import ModelError, PromptTooLongError
from readthrough.models.base import Choice, Completion, Likelihood, ModelBackend, Request
from readthrough.models.structured import InvalidReply, check_options, parse
from readthrough.types import Usage
from readthrough.yaml_strict import read

_KEYS: dict[str, tuple[type, ...]] = {"replies": (list, dict), "choices": (dict,), "window_tokens": (int,)}
_TOKEN = re.compile(r"\s*(?:\w{1,8}|[^\w\s])|\s+$")

Kind = Literal["complete", "choose", "likelihood"]
T = TypeVar("T", Completion, Choice, Likelihood)
Replies = Sequence[str] | Mapping[str, str] | Callable[[Request], str]
Choices = Mapping[str, str | Sequence[float]] | Callable[[Request, Sequence[str]], str | Sequence[float]]


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call: which method, with what, and what came back (None where it raised)."""

    kind: Kind
    request: Request
    given: tuple[str, ...] = ()
    result: Completion | Choice | Likelihood | None = None


@dataclass
class ScriptedModel(ModelBackend):
    """Replies from a script; deterministic.

    A token is up to eight letters of a word, or a mark, with the white space before it.

    Attributes:
        replies: a list (one after another; running out is an error), a mapping of regular expression to reply
            (the first that is found in the last turn; none found is an error), or a function of the request.
        choices: the same for `choose`: an option, or a probability for each. Without it all options are equal.
        likelihoods: log p(continuation | prompt) for a request and a continuation; without it words that the
            prompt also holds are likely (p = 1/2) and others are not (p = 1/100).
        faults: errors to raise, by the number of the call (from 0, over all methods).
        calls: every call so far, where `remembers`.
        repeatable: see `ModelBackend`.
    """

    replies: Replies = ()
    choices: Choices | None = None
    likelihoods: Callable[[Request, str], float] | None = None
    window_tokens: int = 8192
    faults: Mapping[int, Exception] = field(default_factory=dict)
    name: str = "scripted"
    calls: list[Call] = field(default_factory=list, repr=False)
    remembers: bool = True
    repeatable: bool = False

    def __post_init__(self) -> None:
        self.tokenizer_id = "scripted:words-v1"
        self.capabilities = frozenset({"logits", "schema", "stream"})
        self._lock = threading.Lock()
        self._said = self._asked = 0

    @classmethod
    def from_yaml(cls, path: Path) -> ScriptedModel:
        """A script from a YAML file with the keys `replies`, `choices`, `window_tokens`.

        Raises:
            ConfigError: an unknown key, or a value of another kind; `path` names file and line.
        """
        file = read(path)
        script = file.value if isinstance(file.value, dict) else {}
        for key, value in script.items():
            if key not in _KEYS:
                raise file.error(f"unknown key {key!r} in a script", key, hint=f"keys: {', '.join(_KEYS)}")
            if not isinstance(value, _KEYS[key]):
                raise file.error(f"{key!r} cannot be {value!r}", key)
        return cls(name=f"scripted:{path}", remembers=False, **script)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """The scripted reply for every request, cut at `stop` and `max_tokens` like any model's."""
        return [self._record("complete", request, (), self._complete) for request in requests]

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """The scripted probabilities, or equal ones."""
        check_options(requests, options)
        return [
            self._record("choose", request, tuple(names), self._choose)
            for request, names in zip(requests, options, strict=True)
        ]

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """The scripted log-probabilities, or those of the word-overlap rule."""
        return [
            self._record("likelihood", request, (text,), self._likelihood)
            for request, text in zip(requests, continuations, strict=True)
        ]

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """The reply token by token."""
        completion = self.complete([request])[0]
        for token in _tokens(completion.text):
            on_text(token)
        return completion

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words in pieces of eight letters, and marks."""
        return [len(_tokens(text)) for text in texts]

    def _record(
        self, kind: Kind, request: Request, given: tuple[str, ...], answer: Callable[[Request, tuple[str, ...]], T]
    ) -> T:
        with self._lock:
            number, self._asked = self._asked, self._asked + 1
            result = None
            try:
                if number in self.faults:
                    raise self.faults[number]
                result = answer(request, given)
                return result
            finally:
                if self.remembers:
                    self.calls.append(Call(kind, request, given, result))

    def _prompt_tokens(self, request: Request, room_tokens: int) -> int:
        tokens = sum(self.count_tokens([*(message.content for message in request.messages), request.prefill]))
        if tokens + room_tokens > self.window_tokens:
            raise PromptTooLongError(
                f"a prompt of {tokens} tokens and {room_tokens} to generate do not fit {self.window_tokens} tokens"
            )
        return tokens

    def _reply(self, request: Request) -> str:
        if callable(self.replies):
            return self.replies(request)
        if isinstance(self.replies, Mapping):
            return str(_find(self.replies, request))
        if self._said == len(self.replies):
            raise ModelError(f"the script has {len(self.replies)} replies, and one more was asked for")
        self._said += 1
        return self.replies[self._said - 1]

    def _complete(self, request: Request, _: tuple[str, ...]) -> Completion:
        prompt_tokens = self._prompt_tokens(request, request.max_tokens)
        text = self._reply(request)
        for mark in request.stop:
            text = text.partition(mark)[0]
        tokens = _tokens(text)
        kept = "".join(tokens[: request.max_tokens])
        cut = len(tokens) > request.max_tokens
        if request.schema is not None and not cut:
            try:
                parse(kept, request.schema)
            except InvalidReply as error:
                raise ModelError(f"the script's reply {kept[:80]!r} does not satisfy the schema: {error}") from error
        usage = Usage(prompt_tokens, 0, min(len(tokens), request.max_tokens), calls=1)
        return Completion(kept, "length" if cut else "stop", usage)

    def _choose(self, request: Request, options: tuple[str, ...]) -> Choice:
        usage = Usage(self._prompt_tokens(request, 1), 0, 1, calls=1)
        if self.choices is None:
            return Choice((1 / len(options),) * len(options), usage)
        said = self.choices(request, options) if callable(self.choices) else _find(self.choices, request)
        if isinstance(said, str):
            if said not in options:
                raise ModelError(f"the script chooses {said!r}, which is none of {list(options)}")
            return Choice(tuple(float(option == said) for option in options), usage)
        if len(said) != len(options) or not math.isclose(sum(said), 1.0):
            raise ModelError(f"the script gives {list(said)} for {len(options)} options; they must sum to 1")
        return Choice(tuple(said), usage)

    def _likelihood(self, request: Request, given: tuple[str, ...]) -> Likelihood:
        words = _tokens(given[0])
        usage = Usage(self._prompt_tokens(request, len(words)), calls=1)
        if self.likelihoods is not None:
            return Likelihood(self.likelihoods(request, given[0]), len(words), usage)
        known = {word.strip().lower() for message in request.messages for word in _tokens(message.content)}
        logprob = sum(math.log(1 / 2 if word.strip().lower() in known else 1 / 100) for word in words)
        return Likelihood(logprob, len(words), usage)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _find(table: Mapping[str, Any], request: Request) -> Any:
    last = request.messages[-1].content
    for pattern, value in table.items():
        if re.search(pattern, last):
            return value
    raise ModelError(f"no pattern of the script is found in {last[:80]!r}", hint=f"patterns: {', '.join(table)}")
