"""Endpoints under load, over a real connection: one limit for all who ask, hedges, and nothing left behind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from readthrough.errors import CircuitOpenError, ConfigError, DeadlineError, EndpointError, ModelError
from readthrough.models.allowance import allowance
from readthrough.models.base import Request
from readthrough.models.endpoint import breaker
from readthrough.models.endpoint.traffic import Traffic, traffic_of
from readthrough.models.openai import OpenAIModel
from tests import fake_server as fake
from tests.endpoints import ASK, ASK_JSON, GOOD_JSON, open_on, quick
from tests.fake_server import Bears, FakeServer, Slow, fails, says

__all__ = ["quick"]

SLOW_SECONDS = 0.3


def traffic(model: OpenAIModel) -> Traffic:
    return traffic_of(model.base_url, model.model, 1)


def another(model: OpenAIModel, **options: Any) -> OpenAIModel:
    """Another model object of the same name and address, with a connection and a loop of its own."""
    return OpenAIModel(model.model, base_url=model.base_url, window_tokens=4096, **options)


def test_two_models_in_two_threads_find_one_limit_and_everyone_is_answered() -> None:
    server_bears = Bears(6, seconds=0.05)
    with FakeServer([server_bears]) as server:
        models = [open_on(server, concurrency=32, deadline_seconds=30.0)]
        models.append(another(models[0], concurrency=32))
        requests = [Request.user(f"number {number}") for number in range(150)]
        with ThreadPoolExecutor() as pool:
            replies = list(pool.map(lambda model: model.complete(requests), models))
        shared = traffic(models[0])
    for texts in ([completion.text for completion in reply] for reply in replies):
        assert texts == [request.messages[-1].content for request in requests]
    assert server_bears.answered == 300 and server_bears.most == 6
    assert server_bears.refused <= 15
    assert 4 <= shared.limiter.limit <= 7
    assert shared.limiter.taken == shared.turns.taken == 0


def test_a_server_that_slows_down_is_given_less() -> None:
    with FakeServer([Bears(64, seconds=lambda running: 0.02 * running)]) as server:
        model = open_on(server, concurrency=32, deadline_seconds=30.0)
        model.complete([Request.user(f"number {number}") for number in range(150)])
        assert traffic(model).limiter.limit < 32


def test_who_fails_or_is_interrupted_leaves_nothing_behind() -> None:
    with FakeServer([Slow({0, 1}, fails(400, "bad"))]) as server:
        model = open_on(server, concurrency=3)
        with pytest.raises(EndpointError, match="400"):
            model.complete([Request.user(str(number)) for number in range(8)])
        shared = traffic(model)
        assert shared.turns.taken == shared.limiter.taken == 0


def test_a_model_that_is_closed_under_way_leaves_nothing_behind() -> None:
    with FakeServer([fake.hangs]) as server:
        model = open_on(server, concurrency=3, deadline_seconds=20.0)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(model.complete, [ASK] * 5)
            limit = time.monotonic() + 10
            while len(server.requests) < 3 and time.monotonic() < limit:
                time.sleep(0.01)
            shared = traffic(model)
            assert shared.limiter.taken == 3
            model.close()
            with pytest.raises(ModelError, match="closed while"):
                asked.result(5)
        assert shared.turns.taken == shared.limiter.taken == 0


def test_the_deadline_holds_while_others_have_the_slots() -> None:
    with FakeServer([fake.hangs]) as server:
        model = open_on(server, concurrency=2, deadline_seconds=1.2)
        hasty = another(model, concurrency=2)
        hasty._connection.deadline_seconds = 0.5
        shared = traffic(model)
        shared.turns.resize(8)
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(model.complete, [ASK] * 2)
            while shared.limiter.taken < 2:
                time.sleep(0.01)
            started = time.monotonic()
            with pytest.raises(DeadlineError, match=r"within 0\.5 s"):
                hasty.complete([ASK])
            assert 0.4 < time.monotonic() - started < 1.5
            with pytest.raises(DeadlineError):
                slow.result()


# Circuit breaker


def test_a_server_that_is_down_is_left_alone_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_PAUSE_SECONDS", 0.3)
    with FakeServer([*[fails(500, "no")] * 12, says("Ann")]) as server:
        model = open_on(server)
        for _ in range(2):
            with pytest.raises(EndpointError, match="answered 500"):
                model.complete([ASK])
        with pytest.raises(CircuitOpenError, match="12 requests in a row failed"):
            another(model).complete([ASK])
        assert len(server.requests) == 12
        time.sleep(0.35)
        assert model.complete([ASK])[0].text == another(model).complete([ASK])[0].text == "Ann"


# Hedges


def test_a_hedge_wins_against_one_slow_reply() -> None:
    with FakeServer([Slow({0}, says("Ann"))]) as server:
        model = open_on(server, hedge_after_seconds=0.1)
        started = time.monotonic()
        completion = model.complete([ASK])[0]
        assert time.monotonic() - started < 2.0
        assert (completion.text, len(server.requests)) == ("Ann", 2)
        assert completion.usage.calls == 2 and completion.usage.completion_tokens == 1
        assert server.requests[0] == server.requests[1]
        assert traffic(model).limiter.taken == 0


def after(seconds: float, then: fake.Step) -> fake.Step:
    def step(handler: fake.Handler, body: fake.Body) -> None:
        handler.server.fake.stopped.wait(seconds)
        then(handler, body)

    return step


def slowly(text: str) -> fake.Step:
    return after(SLOW_SECONDS, says(text))


def test_no_hedge_unless_asked_for() -> None:
    with FakeServer([slowly("Ann")]) as server:
        completion = open_on(server).complete([ASK])[0]
    assert (completion.usage.calls, len(server.requests)) == (1, 1)


def test_no_hedge_for_a_stream_without_a_slot_or_where_the_budget_forbids() -> None:
    with FakeServer([slowly("Ann")]) as server:
        model = open_on(server, hedge_after_seconds=0.05)
        model.stream(ASK, lambda text: None)
        with allowance(lambda: False):
            model.complete([ASK])
        assert len(server.requests) == 2
        open_on(server, hedge_after_seconds=0.05, concurrency=1).complete([ASK])
        assert len(server.requests) == 3
        with allowance(lambda: True):
            assert model.complete([ASK])[0].usage.calls == 2


def test_one_hedge_at_most_and_the_first_answer_that_is_good() -> None:
    with FakeServer([Slow({0}, fails(500, "no")), fails(500, "no"), slowly("Ann")]) as server:
        model = open_on(server, hedge_after_seconds=0.05, deadline_seconds=1.0)
        with pytest.raises(DeadlineError):  # the hedge failed, and the first is still awaited
            model.complete([ASK])
        assert len(server.requests) == 2
    with FakeServer([Slow(set(), slowly("no")), says("Ann")]) as server:
        assert open_on(server, hedge_after_seconds=0.05).complete([ASK])[0].text == "Ann"
    with FakeServer([fails(500, "no"), slowly("Ann")]) as server:
        completion = open_on(server, hedge_after_seconds=0.1).complete([ASK])[0]
    assert (completion.text, completion.usage.calls, len(server.requests)) == ("Ann", 2, 3)
    with FakeServer([after(SLOW_SECONDS, fails(500, "no")), fails(500, "no"), slowly("Ann")]) as server:
        completion = open_on(server, hedge_after_seconds=0.1).complete([ASK])[0]
    assert (completion.text, completion.usage.calls, len(server.requests)) == ("Ann", 2, 3)  # the repeat has no hedge


def test_checked_json_is_hedged_too() -> None:
    with FakeServer([Slow({0}, says(GOOD_JSON))]) as server:
        completion = open_on(server, hedge_after_seconds=0.1).complete([ASK_JSON])[0]
    assert (completion.text, completion.usage.calls) == (GOOD_JSON, 2)


def test_a_hedge_comes_after_some_time() -> None:
    with pytest.raises(ConfigError, match="hedge_after_seconds = 0"):
        OpenAIModel("m", base_url="http://127.0.0.1:9/v1", hedge_after_seconds=0)
