"""One model for several who ask at once: their calls go out together, so that replies are written side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from readthrough.models.base import Attention, Choice, Completion, Likelihood, ModelBackend, Request
from readthrough.models.deadline import earliest

WAIT_SECONDS = 1.0
"""The longest that a batch waits for callers who have yet to call: they may be at a search, or at another model."""

PASSED_OVER_MAX = 5
"""So often replies wait for others who are still at decisions: what is read takes as long whenever it is read, but
replies are written in the time of one when they are written together."""

_Kind = Literal["complete", "choose", "likelihood"]
_Result = TypeVar("_Result")


def calling(model: ModelBackend) -> AbstractContextManager[None]:
    """`Gathering.calling` where the model is one; nothing for others."""
    return model.calling() if isinstance(model, Gathering) else nullcontext()


@dataclass(eq=False)
class _Call:
    """A call that waits to go out: its requests, each with what is given beside it, and what came of it."""

    kind: _Kind
    requests: Sequence[Request]
    given: Sequence[Any]
    context: Context = field(default_factory=copy_context)
    passed_over: int = 0
    results: list[Any] | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.results is not None or self.error is not None


class Gathering(ModelBackend):
    """A model whose calls by several threads go out as one batch; what comes back is each caller's own.

    A batch goes out when all who said that they are about to call (`calling`) have, or after `wait_seconds`; calls that
    come while the model is busy are the next batch. Nobody has to be waited for: without `calling`, calls go out at
    once. A batch runs within the earliest of its callers' deadlines. Where it fails, each call goes out again by
    itself, within its own: so an error reaches the caller whose it is.

    Args:
        model: the model; calls to it never overlap.
        wait_seconds: the longest that a batch waits for others.
    """

    def __init__(self, model: ModelBackend, wait_seconds: float = WAIT_SECONDS) -> None:
        self.model = model
        self.name = model.name
        self.window_tokens = model.window_tokens
        self.tokenizer_id = model.tokenizer_id
        self.capabilities = model.capabilities
        self.repeatable = model.repeatable
        self._wait_seconds = wait_seconds
        self._busy = False
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._callers = 0
        self._apart = 0

    @property
    def identity(self) -> str:
        """See `ModelBackend.identity`: that of the model."""
        return self.model.identity

    @property
    def plan_name(self) -> str:
        """See `ModelBackend.plan_name`."""
        return self.model.plan_name

    @property
    def compresses(self) -> bool:
        """See `ModelBackend.compresses`."""
        return self.model.compresses

    @contextmanager
    def calling(self) -> Iterator[None]:
        """While it lasts, batches wait for this caller's next call, though not longer than `wait_seconds`."""
        self._count_callers(1)
        try:
            yield
        finally:
            self._count_callers(-1)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """See `ModelBackend.complete`; together with what others ask now."""
        return self._call(_Call("complete", requests, [None] * len(requests)))

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """See `ModelBackend.choose`; together with what others ask now."""
        if len(requests) != len(options):
            return self._alone(lambda: self.model.choose(requests, options))  # it says what is wrong
        return self._call(_Call("choose", requests, options))

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """See `ModelBackend.likelihood`; together with what others ask now."""
        if len(requests) != len(continuations):
            return self._alone(lambda: self.model.likelihood(requests, continuations))
        return self._call(_Call("likelihood", requests, continuations))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `ModelBackend.count_tokens`."""
        return self.model.count_tokens(texts)

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """See `ModelBackend.stream`; by itself."""
        return self._alone(lambda: self.model.stream(request, on_text))

    def attention_mass(self, request: Request, texts: Sequence[str], asked: str) -> Attention:
        """See `ModelBackend.attention_mass`; by itself."""
        return self._alone(lambda: self.model.attention_mass(request, texts, asked))

    def close(self) -> None:
        """See `ModelBackend.close`."""
        self.model.close()

    def _count_callers(self, more: int) -> None:
        with self._changed:
            self._callers += more
            self._changed.notify_all()

    @contextmanager
    def _turn(self, unless: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Wait for the model, or until `unless` holds; whether it is this thread's turn."""
        with self._changed:
            self._changed.wait_for(lambda: unless() or not self._busy)
            mine = not unless()
            self._busy = self._busy or mine
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _alone(self, call: Callable[[], _Result]) -> _Result:
        self._count_apart(1)  # a batch that waits for this caller would keep it from its turn
        try:
            with self._turn():
                return call()
        finally:
            self._count_apart(-1)

    def _count_apart(self, more: int) -> None:
        with self._changed:
            self._apart += more
            self._changed.notify_all()

    def _call(self, call: _Call) -> list[Any]:
        if not call.requests:
            return []
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()
        with self._turn(unless=lambda: call.done) as mine:  # who comes first takes along all that wait
            while mine and not call.done:
                self._answer(self._gather())
        if call.error is not None:
            raise call.error
        return call.results or []

    def _gather(self) -> list[_Call]:
        """All that wait, once nobody else is about to call."""
        with self._changed:
            self._changed.wait_for(self._have_all_called, self._wait_seconds)
            replies = [call for call in self._waiting if call.kind == "complete"]
            if len(replies) == len(self._waiting) or any(call.passed_over == PASSED_OVER_MAX for call in replies):
                replies = []
            for call in replies:
                call.passed_over += 1
            gathered, self._waiting = [call for call in self._waiting if call not in replies], replies
            return gathered

    def _have_all_called(self) -> bool:
        return len(self._waiting) + self._apart >= self._callers

    def _answer(self, calls: Sequence[_Call]) -> None:
        """Answer calls, and let those who made them go on: they may be waited for."""
        try:
            for kind in dict.fromkeys(call.kind for call in calls):
                self._answer_alike([call for call in calls if call.kind == kind])
        except BaseException as error:  # an interrupt of this thread: nobody may wait for ever
            for call in calls:
                call.error = call.error or (None if call.done else error)
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def _answer_alike(self, calls: Sequence[_Call]) -> None:
        """Answer calls of one kind as one batch, or one by one where that fails."""
        try:
            with earliest([call.context for call in calls]):
                results = self._ask(
                    calls[0].kind,
                    [each for call in calls for each in call.requests],
                    [each for call in calls for each in call.given],
                )
        except Exception as error:  # noqa: BLE001  whose it is, is found out
            if len(calls) == 1:
                calls[0].error = error
                return
            for call in calls:
                call.context.run(self._answer_alike, [call])
            return
        place = 0
        for call in calls:
            call.results = results[place : place + len(call.requests)]
            place += len(call.requests)

    def _ask(self, kind: _Kind, requests: Sequence[Request], given: Sequence[Any]) -> list[Any]:
        if kind == "complete":
            return list(self.model.complete(requests))
        return list(getattr(self.model, kind)(requests, given))
