"""What a node shows to a model: the notes where there are any, else the passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from readthrough.agents.reading.answering import passages_material
from readthrough.agents.reading.passages import as_data, in_reading_order, within_budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import MANAGER
from readthrough.errors import PromptTooLongError
from readthrough.types import Chunk

PASSAGE_TOKENS = 1536
"""A dozen chunks of the usual size."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is shown: its text, and the passages in it, in the order of their numbers (none where it is notes)."""

    text: str
    passages: tuple[Chunk, ...] = ()


def material(state: Mapping[str, Any], services: Services, passage_tokens: int = PASSAGE_TOKENS) -> Material | None:
    """The notes, or as many of the passages as `passage_tokens` hold; None where there is neither.

    Raises:
        PromptTooLongError: there are passages, and not one of them fits.
    """
    if state.get("notes"):
        return Material(MANAGER.format(message=as_data(services.get(state["notes"]))))
    budget = min(passage_tokens, services.model.window_tokens // 2)
    found = state.get("passages")
    if not found:
        return None
    kept = within_budget(found, services.shelf.count_tokens(services.model), budget)
    if not kept:
        raise PromptTooLongError(
            f"no passage fits {budget} tokens", hint="raise passage_tokens, or make smaller chunks"
        )
    passages = in_reading_order(services.chunks(kept), services.shelf.document_ids())
    return Material(passages_material(services, passages), tuple(passages))
