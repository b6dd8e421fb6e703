"""Calls of several threads over one model go out together, and each gets what is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from readthrough.errors import BudgetError, ModelError, PromptTooLongError
from readthrough.models.base import Completion, Request
from readthrough.models.deadline import deadline, seconds_left
from readthrough.models.gathering import Gathering
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from tests import tiny_models


class Watched(ScriptedModel):
    """Echoes, notes how many requests came together, and looks at the deadline as the engine does."""

    def __init__(self, seconds: float = 0.0, **options: Any) -> None:
        super().__init__(replies=lambda request: f"re {request.messages[-1].content}", **options)
        self.batches: list[int] = []
        self.seconds = seconds

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(len(requests))
        for _ in range(10):
            time.sleep(self.seconds / 10)
            seconds_left()
        return super().complete(requests)


def together(calls: Sequence[Callable[[], Any]], model: Gathering) -> list[Any]:
    """What each call gives or raises, made by a thread of its own while all are known to be calling."""
    ready = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        with model.calling():
            ready.wait()
            try:
                return call()
            except Exception as error:  # noqa: BLE001  it is what the test looks at
                return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def asks(model: Gathering, *texts: str) -> list[Callable[[], str]]:
    return [lambda text=text: model.complete([Request.user(text)])[0].text for text in texts]  # type: ignore[misc]


def test_calls_of_several_go_out_as_one() -> None:
    inner = Watched()
    model = Gathering(inner, wait_seconds=10)
    texts = [f"text {number}" for number in range(6)]
    assert together(asks(model, *texts), model) == [f"re {text}" for text in texts]
    assert inner.batches == [6]
    assert model.complete([]) == [] and inner.batches == [6]


def test_calls_that_follow_one_another_stay_together() -> None:
    inner = Watched(seconds=0.02)
    model = Gathering(inner, wait_seconds=10)
    started = time.monotonic()
    rounds = [lambda name=name: [asks(model, f"{name} {n}")[0]() for n in range(4)] for name in "abcde"]  # type: ignore[misc]
    assert together(rounds, model) == [[f"re {name} {n}" for n in range(4)] for name in "abcde"]
    assert inner.batches == [5] * 4 and time.monotonic() - started < 9  # nobody waited until the time was over


def test_a_caller_alone_waits_for_nobody() -> None:
    inner = Watched()
    model = Gathering(inner, wait_seconds=10)
    started = time.monotonic()
    assert asks(model, "one")[0]() == "re one"
    with model.calling():
        assert asks(model, "two")[0]() == "re two"
    assert time.monotonic() - started < 2 and inner.batches == [1, 1]


def test_kinds_are_not_mixed() -> None:
    inner = Watched(choices=lambda request, options: options[-1])
    model = Gathering(inner, wait_seconds=10)
    scored = [
        lambda: model.choose([Request.user("a"), Request.user("b")], [["x", "y"], ["1", "2", "3"]])[1].best,
        lambda: model.likelihood([Request.user("lamp")], ["lamp"])[0].tokens,
    ]
    assert together([*scored, *asks(model, "one")], model) == [2, 1, "re one"]
    assert isinstance(together([lambda: model.choose([Request.user("a")], [])], model)[0], Exception)


def test_an_error_reaches_the_caller_whose_it_is() -> None:
    inner = Watched(window_tokens=300)
    model = Gathering(inner, wait_seconds=10)
    short, long, other = together(asks(model, "one", "word " * 400, "two"), model)
    assert (short, other) == ("re one", "re two") and isinstance(long, PromptTooLongError)
    assert inner.batches[0] == 3 and inner.batches[1:] == [1, 1, 1]


def test_an_error_of_the_model_reaches_all() -> None:
    inner = Watched(faults={number: ModelError("it fell over") for number in range(10)})
    model = Gathering(inner, wait_seconds=10)
    assert [type(error) for error in together(asks(model, "one", "two"), model)] == [ModelError] * 2


def test_a_deadline_of_one_does_not_end_the_others() -> None:
    model = Gathering(Watched(seconds=0.4), wait_seconds=10)
    free, late = asks(model, "one", "two")

    def hurried() -> str:
        with deadline(time.monotonic() + 0.15, "max_seconds=0.15"):
            return late()

    first, second = together([free, hurried], model)
    assert first == "re one"
    assert isinstance(second, BudgetError) and second.budget == "max_seconds=0.15"


def test_a_caller_that_ends_or_is_busy_elsewhere_holds_nobody_up() -> None:
    model = Gathering(Watched(), wait_seconds=0.1)
    gone = threading.Event()

    def elsewhere() -> None:
        assert gone.wait(10)

    def leave() -> None:
        return None

    with ThreadPoolExecutor(1) as pool, model.calling():
        done = pool.submit(lambda: together([*asks(model, "one", "two"), leave, elsewhere], model))
        time.sleep(0.5)
        gone.set()
        assert done.result(timeout=5)[:2] == ["re one", "re two"]


def test_many_rounds_of_many_callers_end() -> None:
    model = Gathering(Watched(), wait_seconds=0.05)

    def several(name: int) -> list[str]:
        with model.calling():
            return [model.complete([Request.user(f"{name} {number}")])[0].text for number in range(name)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(several, range(16)))
    assert found == [[f"re {name} {number}" for number in range(name)] for name in range(16)]


def test_an_interrupt_of_one_thread_leaves_nobody_waiting() -> None:
    inner = Watched(faults={0: KeyboardInterrupt()})  # type: ignore[dict-item]
    model = Gathering(inner, wait_seconds=10)

    def caught(call: Callable[[], str]) -> Callable[[], str]:
        def run() -> str:
            try:
                return call()
            except KeyboardInterrupt:
                return "interrupted"

        return run

    assert together([caught(call) for call in asks(model, "one", "two")], model) == ["interrupted"] * 2
    assert asks(model, "three")[0]() == "re three"


def test_the_same_replies_as_one_by_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    inner = LocalModel(str(tiny_models.save(tmp_path_factory.mktemp("tiny"))), device="cpu", dtype="fp32")
    requests = [Request.user(f"{tiny_models.TEXT} Who was it, {number}?", max_tokens=12) for number in range(5)]
    alone = [inner.complete([request])[0].text for request in requests]
    chosen = [inner.choose([request], [["Yes", "No"]])[0].probabilities[0] for request in requests]
    likely = [inner.likelihood([request], ["grey"])[0].logprob for request in requests]
    inner.close()
    model = Gathering(inner, wait_seconds=10)
    each = [lambda request=request: model.complete([request])[0].text for request in requests]  # type: ignore[misc]
    assert together(each, model) == alone
    each = [lambda r=request: model.choose([r], [["Yes", "No"]])[0].probabilities[0] for request in requests]  # type: ignore[misc]
    assert together(each, model) == pytest.approx(chosen, abs=1e-5)
    each = [lambda r=request: model.likelihood([r], ["grey"])[0].logprob for request in requests]  # type: ignore[misc]
    assert together(each, model) == pytest.approx(likely, abs=1e-4)
    same = (model.identity, model.plan_name, model.compresses, model.capabilities, model.window_tokens)
    assert same == (inner.identity, inner.plan_name, inner.compresses, inner.capabilities, inner.window_tokens)


def test_replies_wait_for_those_who_are_at_decisions_but_not_for_ever() -> None:
    inner = Watched()
    model = Gathering(inner, wait_seconds=0.5)

    def decides(rounds: int) -> Callable[[], str]:
        def run() -> str:
            for _ in range(rounds):
                model.choose([Request.user("a")], [["x", "y"]])
            return model.complete([Request.user(f"after {rounds}")])[0].text

        return run

    assert together([decides(0), decides(1), decides(3)], model) == ["re after 0", "re after 1", "re after 3"]
    assert inner.batches == [3]
    assert together([decides(0), decides(9)], model) == ["re after 0", "re after 9"]
    assert inner.batches == [3, 1, 1]


def test_who_was_answered_goes_on_while_the_reply_of_another_waits() -> None:
    inner = Watched()
    model = Gathering(inner, wait_seconds=20)
    asked = threading.Event()

    def decides() -> str:
        assert asked.wait(10)
        for _ in range(3):
            model.choose([Request.user("a")], [["x", "y"]])
        return model.complete([Request.user("after")])[0].text

    def replies() -> str:
        threading.Timer(0.2, asked.set).start()  # this one calls first, and takes the other's calls along
        return model.complete([Request.user("before")])[0].text

    started = time.monotonic()
    assert together([replies, decides], model) == ["re before", "re after"]
    assert time.monotonic() - started < 10 and inner.batches == [2]


def test_a_call_that_goes_out_by_itself_is_not_waited_for() -> None:
    model = Gathering(Watched(), wait_seconds=20)
    first = threading.Event()

    def streams() -> str:
        assert first.wait(10)
        return model.stream(Request.user("streamed"), lambda piece: None).text

    def replies() -> str:
        threading.Timer(0.2, first.set).start()
        return model.complete([Request.user("one")])[0].text

    started = time.monotonic()
    assert together([replies, streams], model) == ["re one", "re streamed"]
    assert time.monotonic() - started < 10
