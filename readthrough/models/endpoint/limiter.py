"""How many requests an endpoint bears at a time, found out from what it refuses and how long it takes.

The limit holds for a round: as many answers as it allows requests, of requests that were sent in the round. Then it
grows, doubling until there is a first sign of too much, later by its square root; and it shrinks by a tenth at a
refusal (additive increase, multiplicative decrease: Chiu and Jain, 1989). Where a number was refused, growth stops just
below it and tries again after ever more rounds, as on CUBIC's plateau (RFC 9438): a refusal costs everybody a pause.

The sign in latency is that of Netflix's concurrency-limits (`GradientLimit`, `Gradient2Limit`): the limit is multiplied
by tolerance x the least latency / the latency now, within 0.5 and 1, and not moved where less than half of it is used.
Two things are ours. Latency is counted per token of work, as replies differ in length. And it is no sign by itself: a
server that batches takes longer with more requests at a time and yet does more, so that the limit shrinks only where
twice the requests bring less than a tenth more throughput (requests at a time / seconds a token: Little's law).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from readthrough.models.endpoint.slots import Slots

_START = 4
_DECREASE = 0.9
_TOLERANCE = 2.0
_LEAST_GRADIENT = 0.5
_LEAST_GAIN = 1.1
_LEAST_ROUND = 8
_PROBE_ROUNDS = 8
_MOST_PROBE_ROUNDS = 128
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class _Round:
    """What was seen of the answers to requests that were sent since `started`."""

    started: float
    size: int
    answers: int = 0
    seconds: float = 0.0
    work_tokens: float = 0.0
    running: int = 0


class Limiter(Slots):
    """The slots of an endpoint's requests. Everyone who sends one takes a slot, and says what became of it.

    `limit` is from 1 to `most`.
    """

    def __init__(self, most: int) -> None:
        super().__init__(_START)
        self._most = most
        self._doubling = True
        self._borne: int | None = None  # just below what was refused last
        self._waited_rounds = 0  # there
        self._probe_rounds = _PROBE_ROUNDS
        self._shrunk_at = 0.0
        self._floor = 1.0
        self._least_pace = math.inf
        self._throughput: dict[int, float] = {}
        self._round = self._next_round()

    @property
    def limit(self) -> int:
        """How many requests there may be now."""
        return min(self._most, super().limit)

    def allow(self, most: int) -> None:
        """Let the limit grow to `most` at least."""
        with self._lock:
            self._most = max(self._most, most)

    def answered(self, sent_at: float, work_tokens: float) -> None:
        """A request sent at `sent_at` (`time.monotonic()`) was answered; it was worth so many tokens written."""
        with self._lock:
            seen = self._round
            if sent_at < seen.started:
                return
            seen.answers += 1
            seen.seconds += time.monotonic() - sent_at
            seen.work_tokens += work_tokens
            seen.running += self._taken
            if seen.answers >= seen.size:
                self._judge(seen)
                self._round = self._next_round()
                self._grant()

    def refused(self, sent_at: float, pause_seconds: float | None) -> None:
        """A request sent at `sent_at` met too many others; nobody is to ask for `pause_seconds`.

        What still runs is what the endpoint bears, so that of many that are refused together the last says best; they
        halve the limit at most.
        """
        with self._lock:
            if sent_at >= self._shrunk_at:
                probed = self._borne is not None and self.limit > self._borne
                self._probe_rounds = min(_MOST_PROBE_ROUNDS, 2 * self._probe_rounds) if probed else _PROBE_ROUNDS
                self._floor = max(1.0, self.limit / 2)
                self._limit = max(1.0, _DECREASE * self.limit)
                self._shrunk_at = time.monotonic()
            still = max(self._floor, self._taken - 1)
            self._limit = min(self._limit, still)
            self._borne, self._waited_rounds, self._doubling = int(still), 0, False
            self._round = self._next_round()
            if pause_seconds:
                self.pause(min(pause_seconds, _LONGEST_PAUSE_SECONDS))

    def _next_round(self) -> _Round:
        return _Round(time.monotonic(), max(_LEAST_ROUND, self.limit))

    def _judge(self, seen: _Round) -> None:
        """Grow, or shrink where answers take far longer than they could and it is for nothing."""
        pace, running = max(seen.seconds, 1e-9) / seen.work_tokens, seen.running / seen.answers
        self._least_pace = min(pace, self._least_pace)
        self._throughput[round(running)] = throughput = running / pace
        if running * 2 < self.limit:
            return
        fewer = max((count for count in self._throughput if count <= running / 2), default=None)
        gains = fewer is None or throughput >= _LEAST_GAIN * self._throughput[fewer]
        gradient = _TOLERANCE * self._least_pace / pace
        if gradient < 1 and not gains:
            self._limit = max(1.0, self._limit * max(_LEAST_GRADIENT, gradient))
            self._doubling = False
        else:
            self._limit = min(self._most, self._grown())

    def _grown(self) -> float:
        limit = self._limit
        if self._doubling:
            return 2 * limit
        if self._borne is not None and limit > self._borne:
            self._borne = None  # what was refused is borne now
        if self._borne is None:
            return limit + math.sqrt(limit)
        if limit < self._borne:
            return min(self._borne, limit + math.sqrt(limit))
        self._waited_rounds += 1
        return limit + (self._waited_rounds >= self._probe_rounds)
