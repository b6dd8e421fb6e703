"""A process of ours that may crash, hang or lie, and the pipes to it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import readthrough

LENGTH_BYTES = 8
"""A message of the child is its length in so many bytes, big end first, and its bytes."""

_BLOCK_BYTES = 1 << 20
# Nothing secret goes to such a process.
_KEPT_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TESSDATA_PREFIX",
)  # fmt: skip


class Child:
    """A running `python -m MODULE`; its standard output carries messages."""

    def __init__(
        self, module: str, options: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it. `options` are those of the interpreter, `environment` what comes on top of what is kept of ours."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process; `stop` closes it
        # -P: the current folder must not be searched for modules, or a file in it could pose as one of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", *options, "-m", module],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**_environment(), **(environment or {})},
            start_new_session=True,  # an interrupt in the terminal is for the parent, which then ends the child
        )
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)

    def send(self, data: bytes, deadline: float) -> None:
        """Write to its standard input until `deadline`, a time of `time.monotonic`.

        Raises:
            TimeoutError: it did not take all of it in time.
            BrokenPipeError: it has ended.
        """
        if self._process.stdin is None:
            raise BrokenPipeError
        left = memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdin, selectors.EVENT_WRITE)
            while left:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    raise TimeoutError
                left = left[os.write(self._process.stdin.fileno(), left[:_BLOCK_BYTES]) :]

    def receive(self, most_bytes: int, deadline: float) -> bytearray:
        """Its next message.

        Raises:
            TimeoutError: there was no complete message in time.
            EOFError: it has ended, or announced a message of more than `most_bytes`.
        """
        if self._process.stdout is None:
            raise EOFError
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            size = int.from_bytes(self._read(LENGTH_BYTES, selector, deadline), "big")
            if size > most_bytes:
                raise EOFError
            return self._read(size, selector, deadline)

    def _read(self, size: int, selector: selectors.BaseSelector, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            block = os.read(ready[0][0].fd, min(size - len(data), _BLOCK_BYTES))
            if not block:
                raise EOFError
            data += block
        return data

    def cause_of_death(self) -> str:
        """Why it ended, in words: its signal, or the last line that it wrote."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it stopped answering"
        if code < 0:
            return signal.Signals(-code).name
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")

    def stop(self) -> None:
        """Kill the process and close what belongs to it."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)  # with what it started: it leads a session of its own
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()


def message(body: bytes) -> bytes:
    """A message as it goes over a pipe."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _environment() -> dict[str, str]:
    """The environment of a child: it finds the same modules as this process, and nothing secret."""
    kept = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}
    package_root = str(Path(readthrough.__file__).resolve().parent.parent)
    folders = [os.path.abspath(entry) for entry in sys.path if entry]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*folders, package_root]))
    return kept
