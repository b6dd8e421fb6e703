"""Whether a confined process can still do harm: it tries to, in ways that do none."""

from __future__ import annotations

import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_FOLDER_NAME = "readthrough-sandbox-test"


def open_doors(memory_bytes: int, parent: int) -> list[str]:
    """What this process can still do, in words; nothing where it is confined well. Confine it first."""
    here = Path(__file__)
    tries: dict[str, Callable[[], object]] = {
        "read a file": lambda: os.close(os.open(here, os.O_RDONLY)),
        "look at a file": lambda: os.stat(here),
        "list a folder": lambda: os.listdir("/"),
        "make a folder": _make_folder,
        "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close(),
        "start a process": _start_process,
        "signal its parent": lambda: os.kill(parent, 0),
        "take more memory": lambda: mmap.mmap(-1, memory_bytes + (1 << 28)).close(),
        # One that can has then become another program, which ends at once: the parent sees that.
        "run another program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    }
    return [what for what, attempt in tries.items() if _works(attempt)]


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, MemoryError):
        return False
    return True


def _make_folder() -> None:
    os.mkdir(_FOLDER_NAME)
    os.rmdir(_FOLDER_NAME)


def _start_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
