"""How many requests an endpoint bears at a time, found out from what it refuses and how long it takes.

Growth and decrease are TCP's: doubling a round until there is a first sign of too much, then by one a round, and less
by a factor at each refusal (AIMD; Chiu and Jain, 1989). Where a number was refused, growth stops just below it and
tries again after ever more rounds, as CUBIC's plateau (RFC 9438) does: a refusal costs everybody a pause.

The sign in latency is that of Netflix's concurrency-limits (`GradientLimit`, `Gradient2Limit`): the limit is multiplied
by tolerance x the least latency / the latency now, within 0.5 and 1, and not moved where less than half of it is used.
Two things are ours. Latency is counted per token of work, as replies differ in length. And it is no sign by itself: a
server that batches takes longer with more requests at a time and yet does more, so that the limit shrinks only where
twice the requests bring less than a fifth more throughput (requests at a time / seconds a token: Little's law).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from readthrough.models.endpoint.slots import Slots

_START = 4
_DECREASE = 0.9
_TOLERANCE = 2.0
_LEAST_GRADIENT = 0.5
_LEAST_GAIN = 1.2
_LEAST_ROUND = 8
_PROBE_ROUNDS = 16
_MOST_PROBE_ROUNDS = 256
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class _Round:
    """What was seen of so many answers."""

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
        self._round = _Round(_LEAST_ROUND)
        self._doubling = True
        self._borne: int | None = None  # just below what was refused last
        self._probe_rounds = _PROBE_ROUNDS
        self._shrunk_at = 0.0
        self._floor = 1.0
        self._least_pace: float | None = None
        self._throughput: dict[int, float] = {}

    @property
    def limit(self) -> int:
        """How many requests there may be now."""
        return min(self._most, super().limit)

    def allow(self, most: int) -> None:
        """Let the limit grow to `most` at least."""
        with self._lock:
            self._most = max(self._most, most)

    def answered(self, seconds: float, work_tokens: float) -> None:
        """A request was answered after `seconds`; `work_tokens` is what it was worth, in tokens written."""
        with self._lock:
            limit, seen = self._limit, self._round
            seen.answers += 1
            seen.seconds += seconds
            seen.work_tokens += work_tokens
            seen.running += self._taken
            if self._taken * 2 >= limit:
                self._limit = min(self._most, limit + self._step())
            if seen.answers >= seen.size:
                self._judge(seen)
                self._round = _Round(max(_LEAST_ROUND, self.limit))
            self._grant()

    def refused(self, sent_at: float, pause_seconds: float | None) -> None:
        """A request sent at `sent_at` (`time.monotonic()`) met too many others; nobody is to ask for `pause_seconds`.

        What still runs is what the endpoint bears, so that of many that are refused together the last says best; they
        halve the limit at most.
        """
        with self._lock:
            if sent_at >= self._shrunk_at:
                probed = self._borne is not None and self.limit > self._borne
                self._probe_rounds = min(_MOST_PROBE_ROUNDS, 2 * self._probe_rounds) if probed else _PROBE_ROUNDS
                self._floor = self._limit / 2
                self._limit *= _DECREASE
                self._shrunk_at = time.monotonic()
            running = max(1.0, self._floor, self._taken - 1)
            self._borne, self._doubling = int(running), False
            self._limit = min(max(1.0, self._limit), running)
            if pause_seconds:
                self.pause(min(pause_seconds, _LONGEST_PAUSE_SECONDS))

    def _step(self) -> float:
        """How much an answer adds to the limit."""
        if self._doubling:
            return 1.0
        if self._borne is None or self._limit < self._borne:
            return 1 / self._limit
        if self._limit >= self._borne + 1 + 1 / self._most:  # what was refused is borne now
            self._borne = None
        return 1 / (self._limit * self._probe_rounds)

    def _judge(self, seen: _Round) -> None:
        """Shrink where answers take far longer than they could and it is for nothing."""
        if not seen.work_tokens or not seen.seconds:
            return
        pace, running = seen.seconds / seen.work_tokens, seen.running / seen.answers
        self._least_pace = min(pace, self._least_pace or pace)
        self._throughput[round(running)] = throughput = running / pace
        fewer = max((count for count in self._throughput if count <= running / 2), default=None)
        gains = fewer is None or throughput >= _LEAST_GAIN * self._throughput[fewer]
        gradient = _TOLERANCE * self._least_pace / pace
        if gradient < 1 and not gains and running * 2 >= self._limit:
            self._limit = max(1.0, self._limit * max(_LEAST_GRADIENT, gradient))
            self._doubling = False
