"""What a graph's run has read and skipped: a chain of entries in the run log, so that the state holds one hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from readthrough.agents.runs.services import Services

How = Literal["read", "retrieved", "skipped"]


def cover(state: Mapping[str, Any], services: Services, how: How, chunks: Sequence[int]) -> str:
    """Note what became of some chunks; returns what goes into the state as `covered`."""
    return services.link(state.get("covered"), how=how, chunks=list(chunks))


def covered(state: Mapping[str, Any], services: Services) -> dict[How, list[int]]:
    """The chunks of each kind so far."""
    found: dict[How, list[int]] = {"read": [], "retrieved": [], "skipped": []}
    for entry in services.links(state.get("covered")):
        found[entry["how"]] += entry["chunks"]
    return found
