"""Several questions about the same texts, answered side by side: over a local model, what they read is computed once.

Each question is a run of its own, in a thread of its own, with its own log, budget and checkpoints. What makes them one
read is that their calls go out together (`readthrough.models.gathering`): prompts begin with the text, so the text
is computed once for all who ask about it now, and their replies are written in the time of one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from readthrough.config import Spec
from readthrough.models.base import ModelBackend
from readthrough.models.deadline import stoppable
from readthrough.models.gathering import Gathering, calling
from readthrough.types import Answer, Event

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from readthrough.agents.base import Question
    from readthrough.agents.runs.services import Services
    from readthrough.working import Prepared, Working

LOCAL_AT_ONCE = 64
"""So many questions have a thread at a time, where the model is here. Endpoints say themselves what they bear."""

WAIT_SECONDS = 30.0
"""The longest that calls wait for a question that is still at work on its own: who goes ahead alone has the text
computed twice, once it is no longer kept."""

OnAnswer = Callable[[int, Answer], None]
"""Hears the number of a question, from 0, and its answer."""


class Together:
    """The models that the questions share: local ones take the calls of all of them as one batch."""

    def __init__(self, get: Callable[[Spec], ModelBackend]) -> None:
        self._get = get
        self._gathered: dict[int, ModelBackend] = {}
        self._lock = threading.Lock()

    def get(self, spec: Spec) -> ModelBackend:
        """The model that `spec` names."""
        return self.shared(self._get(spec))

    def shared(self, model: ModelBackend) -> ModelBackend:
        """A model for all questions: itself where it serves several at a time."""
        if model.concurrency > 1:
            return model
        with self._lock:
            return self._gathered.setdefault(id(model), Gathering(model, WAIT_SECONDS))


class Tally:
    """Progress of several questions as that of one: what they did of a stage is summed up."""

    def __init__(self, on_event: Callable[[Event], None], questions: int) -> None:
        self._on_event = on_event
        self._questions = questions
        self._stages: dict[str, dict[int, Event]] = {}
        self._lock = threading.Lock()

    def of(self, number: int) -> Callable[[Event], None]:
        """Who hears of the question `number`."""

        def hear(event: Event) -> None:
            with self._lock:
                self._on_event(event if event.stage == "warning" else self._sum(number, event))

        return hear

    def _sum(self, number: int, event: Event) -> Event:
        stage = self._stages.setdefault(event.stage, {})
        stage[number] = event
        totals = [each.total for each in stage.values() if each.total is not None]
        # questions that have not come so far are taken to have as much before them as the others
        total = sum(totals) * self._questions / len(totals) if len(totals) == len(stage) else None
        return replace(event, done=sum(each.done for each in stage.values()), total=total)


def one_at_a_time(ask: Callable[[Mapping[str, Any]], bool]) -> Callable[[Mapping[str, Any]], bool]:
    """Whoever is asked for approvals by several questions is asked by one after the other."""
    lock = threading.Lock()

    def asked(what: Mapping[str, Any]) -> bool:
        with lock:
            return ask(what)

    return asked


def ask_all(
    working: Working,
    questions: Sequence[Question],
    ready: Sequence[Prepared],
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """The answer to each question, run as it was prepared, in the order of the questions.

    Raises:
        ReadthroughError: some failed; the error of the first. The others are answered by then.
    """
    from readthrough.agents.runs.running import run

    if not ready:
        return []
    share([each.services for each in ready])
    services = ready[0].services
    with working.at_work(checkpointer) as saver:
        tasks = [
            (number, partial(run, each.workflow, question, each.services, saver, each.kept))
            for number, (question, each) in enumerate(zip(questions, ready, strict=True))
        ]
        # the first makes what is kept for all, which the others would make beside it
        alone = 1 if ready[0].workflow.prepares else 0
        results: dict[int, Answer | BaseException] = {}
        for part in filter(None, (tasks[:alone], tasks[alone:])):
            results |= _answered(part, services.model, on_answer)
    found = [results[number] for number in range(len(tasks))]
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return [result for result in found if isinstance(result, Answer)]


def share(services: Sequence[Services]) -> None:
    """Let the runs of several questions use one model together, and tell of them as of one."""
    first = services[0]
    models = Together(first.open_model or (lambda spec: first.model))
    shared, on_event, on_approval = models.shared(first.model), first.on_event, first.on_approval
    tally = None if on_event is None else Tally(on_event, len(services))
    approve = None if on_approval is None else one_at_a_time(on_approval)
    for number, each in enumerate(services):
        each.model, each.open_model, each.on_approval = shared, models.get, approve
        if tally is not None:
            each.on_event = tally.of(number)


Task = tuple[int, Callable[[], Answer]]


def _answered(
    tasks: Sequence[Task], model: ModelBackend, on_answer: OnAnswer | None
) -> dict[int, Answer | BaseException]:
    """What came of each task, all called side by side; `on_answer` is called from this thread."""
    at_once = LOCAL_AT_ONCE if isinstance(model, Gathering) else model.concurrency
    results: dict[int, Answer | BaseException] = {}
    todo, done = deque(tasks), SimpleQueue[tuple[int, Answer | BaseException]]()
    with _workers(min(at_once, len(tasks)), model, todo, done):
        for _ in tasks:
            number, result = done.get()
            results[number] = result
            if on_answer is not None and isinstance(result, Answer):
                on_answer(number, result)
    return results


@contextmanager
def _workers(
    count: int,
    model: ModelBackend,
    todo: deque[Task],
    done: SimpleQueue[tuple[int, Answer | BaseException]],
) -> Iterator[None]:
    """Threads that answer what is to do; where this one is interrupted, they end at their next call of a model."""
    stop = threading.Event()

    def work(caller: ExitStack) -> None:
        with caller, stoppable(stop):
            while True:
                try:
                    number, answer = todo.popleft()
                except IndexError:
                    return
                try:
                    done.put((number, answer()))
                except BaseException as error:  # noqa: BLE001  raised by the thread that waits
                    done.put((number, error))

    with ThreadPoolExecutor(count, thread_name_prefix="readthrough-question") as pool:
        callers = [ExitStack() for _ in range(count)]
        for caller in callers:
            caller.enter_context(calling(model))  # all before the first calls: it would go ahead alone
        try:
            for caller in callers:
                pool.submit(copy_context().run, work, caller)
            yield
        except BaseException:
            stop.set()
            todo.clear()
            raise
