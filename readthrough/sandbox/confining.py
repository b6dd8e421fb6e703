"""What a process does to itself before it runs a program of a stranger: it gives away all that it could do harm with.

Each means is tried by itself; where the system does not offer one (namespaces in a container, Landlock in an old
kernel), the others may do. `checking` finds out whether they did.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable

from readthrough.sandbox.limits import limit_cpu
from readthrough.sandbox.syscalls import refuse_most

# unshare(2): mounts, host name, message queues, users, processes, network.
_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

# Landlock: system calls (the same on all machines), and by version of its interface what can be denied.
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_FILE_RIGHTS = ((5, 16), (3, 15), (2, 14), (1, 13))  # from this version on, so many bits
_LANDLOCK_NETWORK_SINCE, _LANDLOCK_SCOPES_SINCE = 4, 6
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

_SEATBELT = b"(version 1) (deny default)"
_MOST_ADDRESS_BITS = 48


def confine(memory_bytes: int, cpu_seconds: float) -> list[str]:
    """Give up files, network, other processes, and more memory and processor time than this; for good.

    `memory_bytes` is what may be used beside what is used already. Returns which means were there.
    """
    limit_cpu(cpu_seconds)
    found = []
    for name, means in _means(memory_bytes).items():
        try:
            means()
        except (OSError, ValueError, AttributeError):  # not on this system; `checking` says whether it matters
            continue
        found.append(name)
    return found


def _means(memory_bytes: int) -> dict[str, Callable[[], None]]:
    """All means by name, in an order in which none stands in the way of the next."""
    if sys.platform == "darwin":
        return {
            "memory": lambda: _bound_by_trying(memory_bytes),
            "limits": _limit_resources,
            "seatbelt": _enter_seatbelt,
        }
    return {
        "memory": lambda: _bound_memory(memory_bytes),
        "namespaces": _leave_namespaces,
        "landlock": _enter_landlock,
        "limits": _limit_resources,
        "parent": _die_with_parent,
        "seccomp": refuse_most,
    }


def _limit_resources() -> None:
    """No file or socket can be opened any more (those that are open stay so), none grows, no process starts."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(kind, (0, 0))


def _bound_memory(memory_bytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes,) * 2)


def _bound_by_trying(memory_bytes: int) -> None:
    """For macOS, which does not say what is mapped, but refuses a limit below that."""
    low, high = 0, 1 << _MOST_ADDRESS_BITS
    while high - low > memory_bytes // 16:
        middle = (low + high) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle, resource.RLIM_INFINITY))
        except (OSError, ValueError):
            low = middle
        else:
            high = middle
    resource.setrlimit(resource.RLIMIT_AS, (high + memory_bytes,) * 2)


def _leave_namespaces() -> None:
    """Into a network without devices, and a root folder that is empty and deleted: nothing can be made in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tempfile.mkdtemp()
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(folder)
        if libc.unshare(_NAMESPACES) != 0:
            raise OSError(ctypes.get_errno(), "no namespaces")
        os.fchdir(inside)
        os.chroot(".")
    finally:
        os.close(inside)


def _die_with_parent() -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError("no signal when the parent ends")


def _enter_landlock() -> None:
    """Deny all that Landlock can deny: a ruleset without rules."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        raise OSError(ctypes.get_errno(), "no Landlock")
    bits = next(bits for since, bits in _LANDLOCK_FILE_RIGHTS if version >= since)
    rights = [(1 << bits) - 1]
    if version >= _LANDLOCK_NETWORK_SINCE:
        rights.append(0b11)
    if version >= _LANDLOCK_SCOPES_SINCE:
        rights.append(0b11)
    attributes = (ctypes.c_uint64 * len(rights))(*rights)
    rules = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "no Landlock")
    try:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.syscall(_LANDLOCK_RESTRICT, rules, 0) != 0:
            raise OSError(ctypes.get_errno(), "no Landlock")
    finally:
        os.close(rules)


def _enter_seatbelt() -> None:
    """Deny all that macOS can deny: the system's own sandbox, as `sandbox-exec` has it, put on from inside."""
    library = ctypes.CDLL("/usr/lib/libsandbox.1.dylib", use_errno=True)
    message = ctypes.c_char_p()
    if library.sandbox_init(_SEATBELT, ctypes.c_uint64(0), ctypes.byref(message)) != 0:
        raise OSError(ctypes.get_errno(), "no sandbox")
