"""A circuit breaker: an endpoint that is down is not asked by every call anew."""

from __future__ import annotations

import threading
import time

from readthrough.errors import CircuitOpenError

# More than the attempts of one call: a single call that fails for good opens nothing.
FAILURES = 8

_PAUSE_SECONDS = 10.0


class Breaker:
    """Open after `FAILURES` failures in a row; then one new call in `_PAUSE_SECONDS` goes through, until one succeeds.

    Failures together, of requests that were all under way when the first of them failed, count as one. Calls that are
    under way when the circuit opens keep their own retries, each of which may close it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._failed_at = 0.0
        self._probe_at = 0.0
        self._reason = ""

    def admit(self) -> None:
        """A new call is about to be sent.

        Raises:
            CircuitOpenError: the circuit is open, and it is not yet time to try again.
        """
        with self._lock:
            if self._failures < FAILURES:
                return
            left = self._probe_at - time.monotonic()
            if left > 0:
                raise CircuitOpenError(
                    f"{self._failures} requests in a row failed, so this one was not sent; one is tried again in "
                    f"{left:.1f} s. The last: {self._reason}",
                    hint="is the server running?",
                    again_seconds=left,
                )
            self._probe_at = time.monotonic() + _PAUSE_SECONDS

    def failed(self, sent_at: float, reason: str) -> None:
        """A request sent at `sent_at` (`time.monotonic()`) did not reach the server, or the server broke."""
        with self._lock:
            if sent_at >= self._failed_at:
                self._failures += 1
                self._failed_at = time.monotonic()
                self._probe_at = self._failed_at + _PAUSE_SECONDS
                self._reason = reason

    def answered(self) -> None:
        """The server is there, whatever it said."""
        with self._lock:
            self._failures = 0
