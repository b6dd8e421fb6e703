"""Weigh the passages by the question's likelihood, and keep the best.

Source: Sachan et al., "Improving Passage Retrieval with Zero-Shot Question Generation", arXiv 2204.07496.

Differs from the paper: the question's own likelihood is taken off, so that weights of different questions compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import AskingNode, weighing_cost
from readthrough.agents.nodes.covering import cover
from readthrough.agents.reading.finding import weigh
from readthrough.agents.reading.looking import IS_STATED
from readthrough.agents.reading.passages import as_data, unwrapped
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.types import Cost


@dataclass(frozen=True)
class WeighNode(AskingNode):
    """Keeps the passages that raise the question most.

    Attributes:
        keep: how many.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("passages",),)

    keep: int = 6

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError("at least one passage must be kept")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Weigh, rank, keep; the rest is skipped."""
        passages = state["passages"]
        if not passages:
            return {}
        weights = self._weights(state["question"], passages, services)
        ranked = sorted(passages, key=lambda chunk: -weights[chunk])
        services.decide("weights", **{str(chunk): weights[chunk] for chunk in ranked})
        dropped = ranked[self.keep :]
        update: dict[str, Any] = {"passages": ranked[: self.keep]}
        return {**update, "covered": cover(state, services, "skipped", dropped)} if dropped else update

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """A call a passage."""
        return weighing_cost(question, services, shown_tokens)

    def _weights(self, question: str, passages: Sequence[int], services: Services) -> Mapping[int, float]:
        if "logits" in services.model.capabilities:
            return weigh(services, question, passages)
        # Without logits a vote a passage: those of one vote stay in the order they were found in.
        texts = [as_data(text) for text in unwrapped(services.shelf.get(list(passages)), services.shelf)]
        requests = [Request.user(IS_STATED.format(material=text, question=question)) for text in texts]
        votes = services.choose(requests, [["Yes", "No"]] * len(requests))
        return {chunk: vote.probabilities[0] for chunk, vote in zip(passages, votes, strict=True)}
