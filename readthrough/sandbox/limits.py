"""Limits of the operating system, for children of ours to take upon themselves."""

from __future__ import annotations

import resource

_SPARE_SECONDS = 2


def lower(kind: int, value: int) -> None:
    """Set the soft limit of this process, within what its hard limit allows."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def limit_cpu(seconds: float) -> None:
    """Bound the processor time of this process from here on, in case its parent is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + _SPARE_SECONDS)
