"""Runs a command and watches the memory of its process and of all that it starts (Linux)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Watched:
    """How a command ended.

    Attributes:
        code: its exit code.
        cpu_seconds: of processor time that it and its children took.
        peak_bytes: the most memory (RSS) that it and its children had together; what was seen ten times a second.
        seconds: of wall time.
        out, err: what it printed.
    """

    code: int
    cpu_seconds: float
    peak_bytes: int
    seconds: float
    out: str
    err: str


def watch(arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Watched:
    """Run `python -m readthrough` with these arguments to its end, its output kept in files of `folder`."""
    command = [sys.executable, "-m", "readthrough", *arguments]
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    before, started, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    with out.open("w") as said, err.open("w") as told:
        process = subprocess.Popen(command, stdout=said, stderr=told, env={**os.environ, **(environment or {})})
        while process.poll() is None:
            peak = max(peak, sum(map(_memory_bytes, _family(process.pid))))
            time.sleep(_EVERY_SECONDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.monotonic() - started
    return Watched(process.returncode, cpu, peak, seconds, out.read_text(), err.read_text())


def _family(process: int) -> list[int]:
    """A process and all below it; those that have ended in the meantime are left out."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        found += [each for child in children for each in _family(int(child))]
    return found


def _memory_bytes(process: int) -> int:
    """The memory of a process; what it shares, as a child does with its parent until it is itself, is parted."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
