"""What is under way to one model at one address, whoever of this process asks it."""

from __future__ import annotations

import functools
import logging
import threading

from readthrough.models.endpoint.breaker import Breaker
from readthrough.models.endpoint.faults import Fault
from readthrough.models.endpoint.limiter import Limiter
from readthrough.models.endpoint.slots import Slots

log = logging.getLogger(__name__)

_LOCK = threading.Lock()


class Traffic:
    """The turns of calls, the slots of their requests, and the circuit breaker.

    A call has its turn from its first attempt to its last; turns are as many as requests may ever be, so that of a
    long queue only the head waits for slots, and its time runs.

    Attributes:
        turns: of calls with all their attempts.
        limiter: of requests that are with the server.
        breaker: knows whether the server is down.
    """

    def __init__(self, concurrency: int = 1) -> None:
        self.turns = Slots(concurrency)
        self.limiter = Limiter(concurrency)
        self.breaker = Breaker()

    def allow(self, concurrency: int) -> None:
        """Let there be `concurrency` requests at a time, where fewer were allowed so far."""
        self.turns.resize(max(self.turns.limit, concurrency))
        self.limiter.allow(concurrency)

    def answered(self, sent_at: float, work_tokens: float) -> None:
        """A request sent at `sent_at` (`time.monotonic()`) was answered; it was worth so many tokens written."""
        self.breaker.answered()
        self.limiter.answered(sent_at, work_tokens)

    def failed(self, sent_at: float, fault: Fault, retry_after_seconds: float | None) -> None:
        """A request sent at `sent_at` failed; the server wants to be asked again after so long, if it says so."""
        if fault.overloaded:
            self.limiter.refused(sent_at, retry_after_seconds)
            log.info("%d requests at a time from now on", self.limiter.limit)
        if fault.down:
            self.breaker.failed(sent_at, fault.error.message)
        elif not fault.overloaded:
            self.breaker.answered()


def traffic_of(base_url: str, model: str, concurrency: int) -> Traffic:
    """The traffic of one model at one address: the same object for the whole process, for the highest `concurrency`."""
    with _LOCK:
        traffic = _traffic_of(base_url, model)
        traffic.allow(concurrency)
        return traffic


@functools.cache
def _traffic_of(base_url: str, model: str) -> Traffic:
    return Traffic()
