"""The limit of requests at a time, the circuit breaker and deadlines, in simulated time; slots in real threads."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from readthrough.errors import CircuitOpenError, DeadlineError, EndpointError
from readthrough.models.endpoint.breaker import FAILURES
from readthrough.models.endpoint.slots import Slots
from readthrough.models.endpoint.traffic import Traffic, traffic_of
from tests.simulated import Busy, Clock, Fixed, clock, connect, load, status_error

__all__ = ["clock"]

MOST = 64
REQUESTS = 1200
SERVERS: dict[str, Callable[[], Busy]] = {
    "refuses what is more than 16": lambda: Busy(16, refuses=True, retry_after=1.0),
    "refuses what is more than 3": lambda: Busy(3, refuses=True, retry_after=1.0),
    "queues what is more than 8": lambda: Busy(8),
    "does more the more it is given": lambda: Busy(MOST, slows=0.05),
}


def measured(clock: Clock, make: Callable[[], Busy], limiter: Slots | None = None) -> tuple[float, Busy, Traffic]:
    async def main() -> tuple[float, Busy, Traffic]:
        traffic, server = Traffic(MOST), make()
        if limiter is not None:
            traffic.limiter = limiter  # type: ignore[assignment]
        return await load(connect(traffic), server, REQUESTS), server, traffic

    return clock.run(main())


@pytest.mark.parametrize("kind", SERVERS)
def test_throughput_is_near_that_of_the_best_fixed_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, rates = SERVERS[kind], {}
    for limit in (3, 8, 16, MOST):
        if "refuses" not in kind or limit <= make().capacity:  # more than that, and calls are refused until they fail
            rates[limit], _, _ = measured(Clock.patched(monkeypatch), make, Fixed(limit))
    rate, server, traffic = measured(Clock.patched(monkeypatch), make)
    assert rate >= 0.9 * max(rates.values()), rates
    assert server.answered == REQUESTS
    assert server.refused <= 0.02 * REQUESTS
    assert traffic.limiter.taken == traffic.turns.taken == 0
    if server.capacity < MOST:
        assert server.capacity * 0.8 <= traffic.limiter.limit <= server.capacity * 3


def test_a_limit_is_found_again_after_the_server_changed(clock: Clock) -> None:
    async def main() -> list[int]:
        traffic, server, limits = Traffic(MOST), Busy(16, refuses=True, retry_after=1.0), []
        for capacity in (16, 4, 12):
            server.capacity = capacity
            await load(connect(traffic), server, REQUESTS)
            limits.append(traffic.limiter.limit)
        return limits

    first, second, third = clock.run(main())
    assert 13 <= first <= 17 and 3 <= second <= 5 and 9 <= third <= 13


def test_a_limit_is_not_raised_by_those_who_do_not_use_it(clock: Clock) -> None:
    async def main() -> int:
        traffic = Traffic(MOST)
        await load(connect(traffic), Busy(MOST), 300, clients=2)
        return traffic.limiter.limit

    assert clock.run(main()) == 8  # two are half of four


def test_nobody_asks_before_retry_after(clock: Clock) -> None:
    sent: list[float] = []

    async def main() -> None:
        server = Busy(MOST)

        async def refuses_the_third(client: Any) -> float:
            sent.append(clock.monotonic())
            if len(sent) == 3:
                raise status_error(429, 7.0)
            return await server(client)

        await load(connect(Traffic(MOST)), refuses_the_third, 40)

    clock.run(main())
    assert len(sent) == 41
    assert [moment for moment in sent if 0 < moment < 7.0] == []
    assert sum(moment == 0 for moment in sent) == 4 and sent[4] == pytest.approx(7.0)


def test_who_waits_through_a_pause_may_leave(clock: Clock) -> None:
    async def main() -> float:
        slots = Slots(1)
        slots.pause(5.0)

        async def work() -> float:
            async with slots.slot():
                return clock.monotonic()

        first, second = asyncio.create_task(work()), asyncio.create_task(work())
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(1)
        slots.pause(7.0)  # to 9.0, and the second has set its alarm already
        return await second

    assert clock.run(main()) == pytest.approx(9.0)


def test_who_leaves_as_a_slot_is_given_gives_it_back(clock: Clock) -> None:
    async def main() -> None:
        slots = Slots(1)

        async def work() -> None:
            async with slots.slot():
                raise AssertionError

        assert slots.take_spare()
        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        slots.give_back()
        assert slots.taken == 1  # the task's, which does not know yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slots.taken == 0

    clock.run(main())


def test_slots_go_by_turns_and_a_repeated_request_is_first(clock: Clock) -> None:
    served: list[str] = []

    async def main() -> None:
        slots = Slots(1)

        async def work(name: str, first: bool = False) -> None:
            async with slots.slot(first):
                served.append(name)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(work(name))
            await asyncio.sleep(0.5)
            group.create_task(work("again", first=True))

    clock.run(main())
    assert served == ["a", "again", "b", "c"]


def test_slots_hold_over_threads_and_cancellations() -> None:
    slots, running, most, lock = Slots(3), [0], [0], threading.Lock()

    async def work(random_: random.Random) -> None:
        async with slots.slot():
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            try:
                await asyncio.sleep(random_.uniform(0, 0.002))
            finally:
                with lock:
                    running[0] -= 1

    async def many(seed: int) -> None:
        random_ = random.Random(seed)
        tasks = [asyncio.create_task(work(random_)) for _ in range(60)]
        while any(not task.done() for task in tasks):
            await asyncio.sleep(0.001)
            random_.choice(tasks).cancel()
            slots.resize(random_.choice([1, 2, 3]))
        await asyncio.gather(*tasks, return_exceptions=True)

    threads = [threading.Thread(target=lambda seed=seed: asyncio.run(many(seed)), daemon=True) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert 1 < most[0] <= 3 and slots.taken == 0
    slots.resize(1)
    assert slots.take_spare() and not slots.take_spare()


def test_one_limit_for_all_models_of_an_address_and_the_highest_concurrency() -> None:
    first, second = traffic_of("http://a/v1", "shared", 3), traffic_of("http://a/v1", "shared", 2)
    assert first is second and first.limiter.limit == first.turns.limit == 3
    assert traffic_of("http://a/v1", "other", 16) is not first
    assert traffic_of("http://a/v1", "shared", 16).turns.limit == 16 and first.limiter.limit == 4


# Circuit breaker


async def call(traffic: Traffic, server: Callable[[Any], Any], deadline_seconds: float = 1e6) -> float:
    link = connect(traffic, deadline_seconds)
    async with link.deadline() as ends:
        result: float = await link.call(server, ends)
        return result


def test_a_circuit_opens_is_probed_and_closes(clock: Clock) -> None:
    sent: list[float] = []
    broken = [True]

    async def server(client: Any) -> float:
        sent.append(clock.monotonic())
        if broken[0]:
            raise status_error(500)
        await asyncio.sleep(1)
        return 1.0

    async def main() -> None:
        traffic = Traffic(MOST)
        with pytest.raises(EndpointError, match="500") as caught:
            await call(traffic, server)
        assert len(sent) == 6 and not isinstance(caught.value, CircuitOpenError)  # one call alone opens nothing
        with pytest.raises(EndpointError, match="500"):
            await call(traffic, server)
        assert len(sent) == 12  # it was under way when the circuit opened, and went on
        with pytest.raises(CircuitOpenError, match=r"12 requests in a row failed.* again in 10\.0 s.*500") as opened:
            await call(traffic, server)
        assert len(sent) == 12 and opened.value.again_seconds == pytest.approx(10.0)
        broken[0] = False
        await asyncio.sleep(10.0)
        results = await asyncio.gather(*[call(traffic, server) for _ in range(5)], return_exceptions=True)
        assert [type(result) for result in results] == [float, *[CircuitOpenError] * 4]
        assert await call(traffic, server) == 1.0

    assert FAILURES == 8
    clock.run(main())


def test_a_probe_that_is_cancelled_is_followed_by_another(clock: Clock) -> None:
    async def hangs(client: Any) -> float:
        await asyncio.sleep(1e6)
        return 1.0

    async def main() -> None:
        traffic = Traffic(MOST)
        for _ in range(FAILURES):
            await asyncio.sleep(1)
            traffic.breaker.failed(clock.monotonic(), "no")
        await asyncio.sleep(10)
        with pytest.raises(DeadlineError):
            await call(traffic, hangs, deadline_seconds=4.0)
        with pytest.raises(CircuitOpenError):
            await call(traffic, hangs)
        await asyncio.sleep(6.0)
        with pytest.raises(DeadlineError):
            await call(traffic, hangs, deadline_seconds=4.0)

    clock.run(main())


def test_failures_together_are_one_and_refusals_none(clock: Clock) -> None:
    async def main() -> None:
        traffic, tries = Traffic(MOST), dict[int, int]()

        def once(number: int, status: int, retry_after: float | None = None) -> Callable[[Any], Any]:
            async def server(client: Any) -> float:
                tries[number] = tries.get(number, 0) + 1
                await asyncio.sleep(0.1)
                if tries[number] == 1:
                    raise status_error(status, retry_after)
                return 1.0

            return server

        for status, retry_after in ((502, None), (429, 1.0), (503, 1.0)):
            tries.clear()
            calls = [call(traffic, once(number, status, retry_after)) for number in range(3 * FAILURES)]
            assert await asyncio.gather(*calls) == [1.0] * 3 * FAILURES

    clock.run(main())


def test_a_server_that_says_when_to_come_back_is_not_down(clock: Clock) -> None:
    async def busy(client: Any) -> float:
        raise status_error(503, 0.1)

    async def main() -> None:
        traffic = Traffic(MOST)
        for _ in range(FAILURES):
            with pytest.raises(EndpointError, match="^http://simulated/v1 answered 503"):
                await call(traffic, busy)

    clock.run(main())


# Deadlines


def test_the_deadline_holds_for_the_wait_for_a_slot_but_not_for_a_turn(clock: Clock) -> None:
    async def server(client: Any) -> float:
        await asyncio.sleep(3.0)
        return clock.monotonic()

    async def main() -> None:
        traffic = Traffic(2)
        async with traffic.limiter.slot(), traffic.limiter.slot():
            with pytest.raises(DeadlineError, match="within 5 s"):
                await call(traffic, server, 5.0)
            assert clock.monotonic() == pytest.approx(5.0)
        ended = await asyncio.gather(*[call(traffic, server, 5.0) for _ in range(6)])
        assert ended == pytest.approx([8, 8, 11, 11, 14, 14])

    clock.run(main())


def test_a_pause_beyond_the_deadline_fails_at_once(clock: Clock) -> None:
    async def main() -> None:
        traffic = Traffic(2)
        for _ in range(2):  # the one that is refused, and the next
            with pytest.raises(DeadlineError, match=r"in (60|100)\.0 s"):
                await call(traffic, refuses, 5.0)
        assert clock.monotonic() == 0.0
        await asyncio.sleep(60.0)  # the longest pause, whatever the server says
        assert traffic.limiter.pause_seconds == 0.0

    async def refuses(client: Any) -> float:
        raise status_error(429, 100.0)

    clock.run(main())


def test_turns_are_given_back_when_a_call_fails_or_is_cancelled(clock: Clock) -> None:
    async def server(client: Any) -> float:
        await asyncio.sleep(100)
        return 1.0

    async def main() -> None:
        traffic = Traffic(3)
        tasks = [asyncio.create_task(call(traffic, server)) for _ in range(8)]
        await asyncio.sleep(1)
        assert traffic.turns.taken == traffic.limiter.taken == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert traffic.turns.taken == traffic.limiter.taken == 0

    started = time.monotonic()
    clock.run(main())
    assert time.monotonic() - started < 10
