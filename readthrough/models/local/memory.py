"""Memory that does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from readthrough.errors import ModelError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that there is no memory left, on a GPU or for a processor."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def where_memory_suffices() -> Iterator[None]:
    """What is inside ends where there is no memory left for it, without an error."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise


def out_of_memory(what: str) -> ModelError:
    """The error for what does not fit even a piece at a time."""
    return ModelError(
        f"out of memory with {what}",
        hint="lower running_replies, running_bytes or kept_bytes, or choose a plan that keeps less",
    )
