"""The adaptive limit of requests at a time against fixed limits, on servers of five kinds.

    python -m benchmarks.endpoint_load [--requests 2000] [--real] [--out NAME]

In simulated time, so that what else the machine does makes no difference: 64 clients ask, a reply takes 0.8 to 1.2
seconds where there is nobody else, and all but the server is what is in use. `--real` measures one kind over loopback
too: 8 at a time, 0.2 seconds each, what is more gets 429 and `Retry-After: 0.5`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from benchmarks.results import write_results
from readthrough.errors import EndpointError
from readthrough.models.base import Request
from readthrough.models.endpoint.traffic import Traffic, traffic_of
from readthrough.models.openai import OpenAIModel
from tests.fake_server import Bears, FakeServer
from tests.simulated import TIMED, Busy, Clock, Fixed, connect, load

MOST = 64
LIMITS = (1, 2, 3, 4, 8, 16, 24, 32, 64)
REAL_LIMITS = (4, 8)
REAL_REQUESTS = 300
SERVERS: dict[str, Callable[[], Busy]] = {
    "16 at a time, 429 with Retry-After 1": lambda: Busy(16, refuses=True, retry_after=1.0),
    "16 at a time, 429 with Retry-After 5": lambda: Busy(16, refuses=True, retry_after=5.0),
    "3 at a time, 429 with Retry-After 2": lambda: Busy(3, refuses=True, retry_after=2.0),
    "8 at a time, the rest queue": lambda: Busy(8),
    "64 together, each 5% slower by each other": lambda: Busy(MOST, slows=0.05),
}


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="The adaptive limit of an endpoint against fixed ones.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--real", action="store_true", help="measure over loopback too")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    report: dict[str, Any] = {name: compare(make, options.requests) for name, make in SERVERS.items()}
    if options.real:
        report["loopback, 8 at a time of 0.2 s, 429 with Retry-After 0.5"] = over_loopback()
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, {"requests": options.requests, "servers": report})


def compare(make: Callable[[], Busy], requests: int) -> dict[str, Any]:
    """Replies a second by fixed limits (None: calls failed, refused six times) and by the adaptive one."""
    fixed = {limit: simulated(make, requests, limit)["rate"] for limit in LIMITS}
    adaptive = simulated(make, requests)
    best = max(rate for rate in fixed.values() if rate is not None)
    return {"fixed": fixed, "adaptive": adaptive, "of_best": round(adaptive["rate"] / best, 3)}


def simulated(make: Callable[[], Busy], requests: int, fixed: int | None = None) -> dict[str, Any]:
    """Replies a second, requests that were refused, the most at a time and the limit at the end."""
    clock = Clock()

    async def run() -> dict[str, Any]:
        traffic, server = Traffic(MOST), make()
        rate: float | None
        if fixed is not None:
            traffic.limiter = Fixed(fixed)  # type: ignore[assignment]
        try:
            rate = round(await load(connect(traffic), server, requests, MOST), 2)
        except* EndpointError:
            rate = None  # some were refused until they failed
        return {"rate": rate, "refused": server.refused, "most": server.most, "limit": traffic.limiter.limit}

    random.seed(1)
    with ExitStack() as stack:
        for module in TIMED:
            stack.enter_context(patch.object(module, "time", clock))
        return clock.run(run())


def over_loopback() -> dict[str, Any]:
    """Replies a second by the clock, of fixed limits and the adaptive one."""
    rates: dict[str, Any] = {}
    for limit in (*REAL_LIMITS, None):
        bears = Bears(8, seconds=0.2, retry_after=0.5)
        with FakeServer([bears]) as server:
            model = OpenAIModel(f"m{limit}", base_url=server.url, window_tokens=4096, concurrency=limit or 32)
            if limit is not None:
                traffic_of(model.base_url, model.model, limit).limiter = Fixed(limit)  # type: ignore[assignment]
            model.complete([Request.user("Hello?")])
            started = time.perf_counter()
            model.complete([Request.user(f"number {number}") for number in range(REAL_REQUESTS)])
            rate = round(REAL_REQUESTS / (time.perf_counter() - started), 1)
            model.close()
        rates[str(limit or "adaptive")] = {"rate": rate, "refused": bears.refused}
    return rates


if __name__ == "__main__":
    main()
