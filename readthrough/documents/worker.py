"""The process that parses one risky file at a time, under limits: started by `sandbox` as `python -m`.

It reads requests (one JSON object a line) from standard input and answers each on standard output with eight
bytes of length and a JSON object: `{"document": ...}` or `{"error": ...}`. JSON and not pickle, so that a
parser that was taken over cannot make the parent run anything.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from readthrough.documents.base import LoadLimits
from readthrough.errors import DocumentError, ReadthroughError
from readthrough.sandbox.child import message
from readthrough.sandbox.limits import limit_cpu, lower


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with the answers
    for line in sys.stdin.buffer:
        body = json.dumps(answer(json.loads(line)), ensure_ascii=False).encode("utf-8", "surrogatepass")
        answers.write(message(body))
        answers.flush()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Load what is asked for: the document, or the error, as JSON-ready values."""
    name = request["name"]
    limits = LoadLimits(**request["limits"])
    try:
        limit_process(limits)
        module, _, class_name = request["loader"].partition(":")
        loader = getattr(import_module(module), class_name)(limits=limits, encoding=request["encoding"])
        result: dict[str, Any] = {"document": asdict(loader.load(Path(request["path"]), name))}
    except ReadthroughError as error:
        result = error.to_dict()
    except MemoryError:
        reason = f"needs more than the limit of {limits.memory_bytes:,} bytes of memory"
        result = DocumentError(reason, path=name).to_dict()
    except Exception as error:  # noqa: BLE001 - a parser may raise anything on a broken file; it must reach the user as one error
        result = DocumentError(f"cannot be parsed: {type(error).__name__}: {error}", path=name).to_dict()
    return {**result, "peak_bytes": peak_memory_bytes()}


def peak_memory_bytes() -> int:
    """The most memory that this process has held.

    On Linux not from `getrusage`: that counts what the parent held when it started this process.
    """
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def limit_process(limits: LoadLimits) -> None:
    """Bound the memory of this process, and its processor time from here on in case the parent is gone."""
    limit_cpu(limits.most_seconds)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform != "darwin":  # macOS refuses a limit below what a process has mapped already
        lower(resource.RLIMIT_AS, limits.memory_bytes)


if __name__ == "__main__":
    main()
