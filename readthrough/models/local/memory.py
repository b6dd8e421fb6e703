"""Memory that does not suffice."""

from __future__ import annotations

import torch

from readthrough.errors import ModelError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that there is no memory left, on a GPU or for a processor."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def out_of_memory(what: str) -> ModelError:
    """The error for what does not fit even a piece at a time."""
    return ModelError(
        f"out of memory with {what}",
        hint="lower running_replies, running_bytes or kept_bytes, or choose a plan that keeps less",
    )
